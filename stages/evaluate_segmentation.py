"""Hold a method's label masks against the true ones: `python -m stages.evaluate_segmentation NAME`."""

from pathlib import Path

from wsol_core.core import params
from wsol_core.core.errors import run_stage
from wsol_core.core.files import write_csv, write_json
from wsol_core.data.class_masks import ClassMasks
from wsol_core.data.index import read_annotations, read_index
from wsol_core.data.label_masks import LabelMasks
from wsol_core.evaluation.segmentation import evaluate

DATA = Path("data/detection")


def main(name: str) -> None:
    """Write `segmentation/NAME.json` (mean IoU by split) and `curves/NAME-segmentation.csv` (by class) to results."""
    results = Path("results") / params.preset()
    index = read_index(DATA / "index.parquet")
    truth = ClassMasks(DATA / "truth/masks", index, read_annotations(DATA / "truth/annotations.parquet"))
    figures, classes = evaluate(LabelMasks(DATA / "segments" / name), truth, index, params.seed())
    if not figures:
        print(f"{name}: no split has true masks and predicted ones, so there is nothing to evaluate")
    write_json(results / "segmentation" / f"{name}.json", figures)
    write_csv(results / "curves" / f"{name}-segmentation.csv", classes.round(6))


if __name__ == "__main__":
    run_stage(main)
