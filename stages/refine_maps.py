"""Maps of a method -> the same along edges, the method METHOD-HOW. Usage: refine_maps METHOD crf|grabcut."""

from pathlib import Path

from wsol_core.core.errors import InputError, run_stage
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.refinement.grabcut import GrabCutParams, cut_maps
from wsol_core.refinement.refine import RefineParams, refine_maps

DATA = Path("data/localization")


def main(method: str, how: str) -> None:
    """Write `outputs/METHOD-HOW/maps.h5`."""
    if how not in ("crf", "grabcut"):
        raise InputError(f"no refinement {how!r}; there are crf, grabcut")
    index, path = read_index(DATA / "index.parquet"), DATA / "outputs" / f"{method}-{how}" / "maps.h5"
    with MapStore(DATA / "outputs" / method / "maps.h5") as store:
        if how == "crf":
            refine_maps(store, index, load(RefineParams, "crf"), path)
        else:
            left = cut_maps(store, index, load(GrabCutParams, "grabcut"), path)
            print(f"grabcut: {left} of {len(store)} masks of {method} stay unrefined")


if __name__ == "__main__":
    run_stage(main)
