"""Hold a classifier and every method's boxes against the ground truth. Usage: evaluate_classification NAME."""

from pathlib import Path

from wsol_core.core import params
from wsol_core.core.errors import run_stage
from wsol_core.core.files import SCORED_BOXES, read_table, write_json
from wsol_core.data.class_scores import read_ranked
from wsol_core.data.index import read_annotations, read_index
from wsol_core.evaluation.classification import evaluate

DATA = Path("data/localization")


def main(name: str) -> None:
    """Write `classification/NAME.json` under `results/PRESET`; its figures are those of `classification.evaluate`."""
    index = read_index(DATA / "index.parquet")
    ranked = read_ranked(DATA / "outputs" / name / "classes.parquet", index)
    annotations = read_annotations(DATA / "truth/annotations.parquet")
    boxes = {
        method: read_table(DATA / "boxes" / f"{method}.parquet", SCORED_BOXES)[0] for method in params.names("methods")
    }
    figures = evaluate(index, annotations, ranked, boxes, params.seed())
    write_json(Path("results") / params.preset() / "classification" / f"{name}.json", figures)


if __name__ == "__main__":
    run_stage(main)
