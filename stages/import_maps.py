"""Make somebody else's score maps a method: `python -m stages.import_maps METHOD`."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import Kind, create
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.external.import_maps import ImportParams, import_maps
from wsol_core.external.score_maps import open_maps


def main(method: str) -> None:
    """Write `data/SET/outputs/METHOD/maps.h5`."""
    params = load(ImportParams, f"import_maps.{method}")
    folder, side = Path("data", params.set), params.resolution
    index = read_index(folder / "index.parquet")
    with (
        open_maps(Path(params.path)) as maps,
        create(folder / "outputs" / method / "maps.h5", Kind.SCORE, side, side) as writer,
    ):
        import_maps(maps, index, writer, side)


if __name__ == "__main__":
    run_stage(main)
