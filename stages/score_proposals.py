"""Score every proposal by the mean of a method's map inside it (WSFL 3.5). Usage: score_proposals SET METHOD."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import SCORED_BOXES, read_table, write_table
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import read_index
from wsol_core.proposals.objectness import score_proposals


def main(data_set: str, method: str) -> None:
    """Write `data/SET/objectness/METHOD.parquet`."""
    folder = Path("data", data_set)
    proposals, _ = read_table(folder / "proposals.parquet", SCORED_BOXES)
    with MapStore(folder / "outputs" / method / "maps.h5") as store:
        scored = score_proposals(proposals, read_index(folder / "index.parquet"), store)
    write_table(folder / "objectness" / f"{method}.parquet", scored)


if __name__ == "__main__":
    run_stage(main)
