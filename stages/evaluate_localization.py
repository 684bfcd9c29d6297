"""Hold a method's boxes against the ground truth: `python -m stages.evaluate_localization METHOD`."""

import math
from pathlib import Path
from typing import Any

from wsol_core import params
from wsol_core.data.index import read_annotations, read_index
from wsol_core.errors import run_stage
from wsol_core.evaluation import evaluate
from wsol_core.files import read_table, write_csv, write_json
from wsol_core.localize import LocalizeParams, read_threshold
from wsol_core.maps import MapStore

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
    write_json(results / "localization" / f"{method}.json", _rounded(found.figures))
    for name, table in found.tables.items():
        write_csv(results / "curves" / f"{method}-{name}.csv", table.round(6))


def _rounded(value: Any) -> Any:
    """Every float in nested dictionaries and lists rounded, so that last bits make no difference; NaN becomes None."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


if __name__ == "__main__":
    run_stage(main)
