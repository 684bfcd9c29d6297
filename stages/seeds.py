"""Maps per label and saliency -> localization cues of the training images (SEC; Two-Phase 4.2). Usage: seeds NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.methods.sec.cues import SeedParams, write_seeds

DATA = Path("data/detection")


def main(name: str) -> None:
    """Run the stage."""
    params = load(SeedParams, f"sec.{name}.seeds")
    index = read_index(DATA / "index.parquet")
    with (
        MapStore(DATA / "maps" / f"{params.maps}.h5") as maps,
        MapStore(DATA / "maps" / f"{params.saliency}.h5") as saliency,
    ):
        write_seeds(maps, saliency, index, params, DATA / "seeds" / f"{name}.h5")


if __name__ == "__main__":
    run_stage(main)
