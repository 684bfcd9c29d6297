"""Selective search in every image of the detection set. Usage: selective_search NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import write_table
from wsol_core.core.params import load
from wsol_core.core.scratch import scratch_folder
from wsol_core.data.index import read_index
from wsol_core.proposals.selective_search import SearchParams, search_proposals

DATA = Path("data/detection")


def main(name: str) -> None:
    """Write all boxes to `data/detection/proposals/NAME.parquet`."""
    params, source = load(SearchParams, f"selective_search.{name}"), DATA / "index.parquet"
    index = read_index(source)
    with scratch_folder("selective_search", {"selective_search": params}, [source]) as scratch:
        write_table(DATA / "proposals" / f"{name}.parquet", search_proposals(index, params, scratch))


if __name__ == "__main__":
    run_stage(main)
