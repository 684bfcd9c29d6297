"""Hold a method's boxes against the ground truth: `python -m stages.evaluate_localization METHOD`."""

from pathlib import Path

from wsol_core.core import params
from wsol_core.core.errors import run_stage
from wsol_core.core.files import read_table, write_csv, write_json
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import read_annotations, read_index
from wsol_core.evaluation.figures import rounded
from wsol_core.evaluation.localization import evaluate
from wsol_core.localization.localize import LocalizeParams, read_threshold

DATA = Path("data/localization")


def main(method: str) -> None:
    """Write `localization/METHOD.json` (figures by split) and `curves/METHOD-*.csv` under `results/PRESET`.

    The tables are those of `evaluation.Evaluation`.
    """
    block = params.load(LocalizeParams, "localize")
    results = Path("results") / params.preset()
    index = read_index(DATA / "index.parquet")
    annotations = read_annotations(DATA / "annotations.parquet")
    boxes, _ = read_table(DATA / "boxes" / f"{method}.parquet")
    threshold = read_threshold(DATA / "thresholds" / f"{method}.json")
    with MapStore(DATA / "maps" / f"{method}.h5") as store:
        found = evaluate(store, boxes, index, annotations, DATA / "masks", threshold, block, params.seed())
    if not found.figures:
        print(f"{method}: the data set has no annotations, so there is nothing to evaluate")
    write_json(results / "localization" / f"{method}.json", rounded(found.figures))
    for name, table in found.tables.items():
        write_csv(results / "curves" / f"{method}-{name}.csv", table.round(6))


if __name__ == "__main__":
    run_stage(main)
