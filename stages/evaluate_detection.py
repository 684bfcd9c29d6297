"""Hold a detector's boxes against the ground truth: `python -m stages.evaluate_detection NAME SCORED`."""

from pathlib import Path

from wsol_core.core import params
from wsol_core.core.errors import run_stage
from wsol_core.core.files import SCORED_BOXES, read_table, write_csv, write_json
from wsol_core.data.index import read_annotations, read_index
from wsol_core.evaluation.detection import evaluate

DATA = Path("data/detection")


def main(name: str, scored: str) -> None:
    """Write `detection/NAME.json` (figures by split) and `curves/NAME-detection.csv` (by class too) to results.

    `scored` is the method whose objectness picks the best proposal, one of the baselines.
    """
    results = Path("results") / params.preset()
    index, annotations = read_index(DATA / "index.parquet"), read_annotations(DATA / "truth/annotations.parquet")
    detections, _ = read_table(DATA / "detections" / f"{name}.parquet", SCORED_BOXES)
    proposals, _ = read_table(DATA / "objectness" / f"{scored}.parquet", SCORED_BOXES)
    figures, classes = evaluate(detections, proposals, index, annotations, params.seed())
    if not figures:
        print(f"{name}: the data set has no annotations, so there is nothing to evaluate")
    write_json(results / "detection" / f"{name}.json", figures)
    write_csv(results / "curves" / f"{name}-detection.csv", classes.round(6))


if __name__ == "__main__":
    run_stage(main)
