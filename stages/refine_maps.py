"""Maps of a method -> the same refined by dense CRF, the method METHOD-crf. Usage: refine_maps METHOD."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.refinement.refine import RefineParams, refine_maps

DATA = Path("data/localization")


def main(method: str) -> None:
    """Write `outputs/METHOD-crf/maps.h5`."""
    params, outputs = load(RefineParams, "crf"), DATA / "outputs"
    with MapStore(outputs / method / "maps.h5") as store:
        refine_maps(store, read_index(DATA / "index.parquet"), params, outputs / f"{method}-crf" / "maps.h5")


if __name__ == "__main__":
    run_stage(main)
