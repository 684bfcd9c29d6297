"""Read and check a data set: write its image index and, apart from it, its annotations."""

from pathlib import Path

from wsol_core.core.errors import InputError, run_stage
from wsol_core.core.params import load
from wsol_core.data.roots import find_root
from wsol_core.datasets.listing import DataParams
from wsol_core.datasets.prepare import prepare


def main(set_name: str) -> None:
    """Write `data/SET/`: `index.parquet`, `truth/` (`annotations.parquet`, `masks/`), `skipped.csv`."""
    params = load(DataParams, f"data.{set_name}")
    root = Path(params.folder) if params.folder else find_root(params.name)
    if not root.is_dir():
        raise InputError(f"data.{set_name}.source: no folder {params.folder!r} in the project")
    prepare(params, root, set_name, Path("data") / set_name)


if __name__ == "__main__":
    run_stage(main)
