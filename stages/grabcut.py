"""Maps of a method -> their masks along the edges of the pictures, the method METHOD-grabcut. Usage: grabcut METHOD."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.refinement.grabcut import GrabCutParams, cut_maps

DATA = Path("data/localization")


def main(method: str) -> None:
    """Write `outputs/METHOD-grabcut/maps.h5`."""
    params, outputs = load(GrabCutParams, "grabcut"), DATA / "outputs"
    with MapStore(outputs / method / "maps.h5") as store:
        left = cut_maps(store, read_index(DATA / "index.parquet"), params, outputs / f"{method}-grabcut" / "maps.h5")
        print(f"grabcut: {left} of {len(store)} masks of {method} stay unrefined")


if __name__ == "__main__":
    run_stage(main)
