"""Choose a method's box threshold without ground truth: `python -m stages.calibrate METHOD`."""

from pathlib import Path

from wsol_core.core import params
from wsol_core.core.errors import run_stage
from wsol_core.core.files import read_table, write_csv, write_json
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import TRAIN_WEAKSUP, read_index
from wsol_core.localization.calibrate import CalibrateParams, calibrate, draw
from wsol_core.localization.localize import LocalizeParams, find_targets

DATA = Path("data/localization")


def main(method: str) -> None:
    """Write `thresholds/METHOD.json` and the curve of mean IoU with the pseudo boxes by threshold."""
    block = params.load(CalibrateParams, "calibrate")
    boxes = params.load(LocalizeParams, "localize")
    pseudo_boxes, _ = read_table(DATA / "pseudo_boxes.parquet")
    targets = find_targets(read_index(DATA / "index.parquet"), pseudo_boxes, TRAIN_WEAKSUP)
    targets = draw(targets, block.images, params.seed())
    with MapStore(DATA / "maps" / f"{method}.h5") as store:
        found = calibrate(store, targets, block.thresholds(method), boxes.resolution, boxes.scale)
    content = {"threshold": found.threshold, "mean_iou": round(found.mean_iou, 6), "images": found.images}
    write_json(DATA / "thresholds" / f"{method}.json", content)
    write_csv(Path("results") / params.preset() / "curves" / f"calibrate-{method}.csv", found.curve.round(6))


if __name__ == "__main__":
    run_stage(main)
