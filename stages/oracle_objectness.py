"""Ground truth -> objectness of the detection set's proposals (WSFL, Table 3). Usage: oracle_objectness oracle-..."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import SCORED_BOXES, read_table, write_table
from wsol_core.core.map_store import MapStore
from wsol_core.core.oracle_names import refuse_plain_name
from wsol_core.core.params import load
from wsol_core.data.index import read_annotations, read_index
from wsol_core.oracle.masks import OracleParams, all_masks, write_masks
from wsol_core.proposals.objectness import score_proposals

DATA = Path("data/detection")


def main(name: str) -> None:
    """Run the stage: masks of all images as a map store, and the proposals' objectness by them."""
    params = load(OracleParams, f"oracle_objectness.{refuse_plain_name(name)}")
    index, annotations = read_index(DATA / "index.parquet"), read_annotations(DATA / "truth" / "annotations.parquet")
    masks = DATA / "targets" / f"{name}.h5"
    write_masks(masks, index.table, all_masks(DATA / "truth" / "masks", annotations, params), params.resolution)
    with MapStore(masks) as store:
        scored = score_proposals(read_table(DATA / "proposals.parquet", SCORED_BOXES)[0], index, store)
    write_table(DATA / "objectness" / f"{name}.parquet", scored)


if __name__ == "__main__":
    run_stage(main)
