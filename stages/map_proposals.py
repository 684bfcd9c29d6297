"""Regions of a method's maps of the detection set as proposals. Usage: map_proposals NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import write_table
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.proposals.map_proposals import MapProposalParams, propose

DATA = Path("data/detection")


def main(name: str) -> None:
    """Write all boxes to `data/detection/proposals/NAME.parquet`."""
    params = load(MapProposalParams, f"map_proposals.{name}")
    with MapStore(DATA / "outputs" / params.maps / "maps.h5") as store:
        found = propose(read_index(DATA / "index.parquet"), store, params)
    write_table(DATA / "proposals" / f"{name}.parquet", found)


if __name__ == "__main__":
    run_stage(main)
