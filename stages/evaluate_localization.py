"""Hold a method's boxes against the ground truth: `python -m stages.evaluate_localization METHOD`."""

from pathlib import Path

from wsol_core.core import params
from wsol_core.core.errors import run_stage
from wsol_core.core.files import SCORED_BOXES, read_table, write_csv, write_json
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import read_annotations, read_index
from wsol_core.evaluation.figures import rounded
from wsol_core.evaluation.localization import evaluate
from wsol_core.localization.localize import LocalizeParams, read_calibration

DATA = Path("data/localization")
TRUTH = DATA / "truth"


def main(method: str) -> None:
    """Write `localization/METHOD.json` (figures by split) and `curves/METHOD-*.csv` under `results/PRESET`.

    The tables are those of `evaluation.localization.Evaluation`.
    """
    block, results = params.load(LocalizeParams, "localize"), Path("results") / params.preset()
    index, annotations = read_index(DATA / "index.parquet"), read_annotations(TRUTH / "annotations.parquet")
    boxes, _ = read_table(DATA / "boxes" / f"{method}.parquet", SCORED_BOXES)
    threshold = read_calibration(DATA / "thresholds" / f"{method}.json")
    with MapStore(DATA / "outputs" / method / "maps.h5") as store:
        found = evaluate(store, boxes, index, annotations, TRUTH / "masks", threshold, block.resolution, params.seed())
    if not found.figures:
        print(f"{method}: the data set has no annotations, so there is nothing to evaluate")
    write_json(results / "localization" / f"{method}.json", rounded(found.figures))
    for name, table in found.tables.items():
        write_csv(results / "curves" / f"{method}-{name}.csv", table.round(6))


if __name__ == "__main__":
    run_stage(main)
