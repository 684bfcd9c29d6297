"""Heat maps of classes and a saliency map -> localization cues (SEC; Two-Phase 4.2). Usage: cues NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.methods.sec.cues import CueParams, write_cues

DATA = Path("data/detection")


def main(name: str) -> None:
    """Write `targets/NAME.h5`."""
    params = load(CueParams, f"cues.{name}")
    index = read_index(DATA / "index.parquet")
    with (
        MapStore(DATA / "outputs" / params.maps / "maps.h5") as maps,
        MapStore(DATA / "outputs" / params.saliency / "saliency.h5") as saliency,
    ):
        write_cues(maps, saliency, index, params, DATA / "targets" / f"{name}.h5")


if __name__ == "__main__":
    run_stage(main)
