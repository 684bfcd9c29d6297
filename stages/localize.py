"""Boxes from a method's maps: `python -m stages.localize METHOD`."""

from pathlib import Path

from wsol_core.core import params
from wsol_core.core.errors import run_stage
from wsol_core.core.files import write_table
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import read_index
from wsol_core.localization.localize import LocalizeParams, localize, read_calibration

DATA = Path("data/localization")


def main(method: str) -> None:
    """Write `boxes/METHOD.parquet`: the boxes of all splits at the calibrated threshold."""
    block = params.load(LocalizeParams, "localize")
    cut = read_calibration(DATA / "thresholds" / f"{method}.json")
    index = read_index(DATA / "index.parquet")
    with MapStore(DATA / "outputs" / method / "maps.h5") as store:
        boxes = localize(store, index, cut.value, block.resolution, cut.scale, block.components, block.min_area)
    write_table(DATA / "boxes" / f"{method}.parquet", boxes)


if __name__ == "__main__":
    run_stage(main)
