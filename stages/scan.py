"""List the files of a data set outside the project, so that DVC notices when one of them changes."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import write_table
from wsol_core.core.params import load
from wsol_core.data.roots import find_root
from wsol_core.datasets.listing import DataParams
from wsol_core.datasets.scan import list_files


def main(set_name: str) -> None:
    """Write `data/SET/files.parquet`: `path` and `digest` of every file under the root."""
    params = load(DataParams, f"data.{set_name}")
    write_table(Path("data") / set_name / "files.parquet", list_files(find_root(params.name), params.follow_links))


if __name__ == "__main__":
    run_stage(main)
