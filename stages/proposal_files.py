"""Proposals of others for the detection set. Usage: proposal_files NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import write_table
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.proposals.files import FileParams, read_proposals

DATA = Path("data/detection")


def main(name: str) -> None:
    """Write all boxes to `data/detection/proposals/NAME.parquet`."""
    params = load(FileParams, f"proposal_files.{name}")
    found = read_proposals(read_index(DATA / "index.parquet"), params)
    write_table(DATA / "proposals" / f"{name}.parquet", found)


if __name__ == "__main__":
    run_stage(main)
