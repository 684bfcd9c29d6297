"""Choose a method's box threshold without ground truth: `python -m stages.calibrate METHOD`."""

from pathlib import Path

from wsol_core.core import params
from wsol_core.core.errors import run_stage
from wsol_core.core.files import write_csv, write_json
from wsol_core.core.map_store import MapStore
from wsol_core.core.oracle_names import refuse_hidden_oracle
from wsol_core.data.index import read_index
from wsol_core.localization.calibrate import CalibrateParams, MethodParams, calibrate_method
from wsol_core.localization.localize import LocalizeParams

DATA = Path("data/localization")


def main(method: str) -> None:
    """Write `thresholds/METHOD.json` and the curve of mean IoU with the pseudo boxes by threshold."""
    block = params.load(MethodParams, f"methods.{method}")
    refuse_hidden_oracle(method, block.calibrated_on)
    search, boxes = params.load(CalibrateParams, "calibrate"), params.load(LocalizeParams, "localize")
    index = read_index(DATA / "index.parquet")
    with MapStore(DATA / "outputs" / method / "maps.h5") as store:
        found = calibrate_method(store, index, block, search, boxes, params.seed())
    write_json(DATA / "thresholds" / f"{method}.json", found.content())
    write_csv(Path("results") / params.preset() / "curves" / f"calibrate-{method}.csv", found.curve.round(6))


if __name__ == "__main__":
    run_stage(main)
