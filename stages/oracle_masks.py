"""Ground truth -> masks that an oracle learns from (WSFL 3.3.1). Usage: oracle_masks oracle-..."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.oracle_names import refuse_plain_name
from wsol_core.core.params import load, seed
from wsol_core.data.index import read_annotations, read_index
from wsol_core.oracle.masks import OracleParams, box_masks, chosen_images, drawn_masks, write_masks

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    params = load(OracleParams, f"oracle_masks.{refuse_plain_name(name)}")
    annotations = read_annotations(DATA / "truth" / "annotations.parquet")
    rows = chosen_images(read_index(DATA / "index.parquet"), annotations, params, seed())
    side = params.resolution
    draw = box_masks(annotations, side) if params.truth == "boxes" else drawn_masks(DATA / "truth" / "masks", side)
    write_masks(DATA / "targets" / f"{name}.h5", rows, draw, side)


if __name__ == "__main__":
    run_stage(main)
