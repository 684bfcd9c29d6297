"""Class probabilities -> label masks at the original size (SEC; Two-Phase 4.4). Usage: segments NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import load
from wsol_core.core.scratch import scratch_folder
from wsol_core.data.index import read_index
from wsol_core.methods.sec.segments import SegmentParams, write_segments

DATA = Path("data/detection")
INDEX = DATA / "index.parquet"


def main(name: str) -> None:
    """Write a PNG per image into `segments/NAME`."""
    params = load(SegmentParams, f"segments.{name}")
    maps = DATA / "outputs" / params.network / "maps.h5"
    with MapStore(maps) as store, scratch_folder(f"segments-{name}", {"segments": params}, [INDEX, maps]) as scratch:
        write_segments(store, read_index(INDEX), params, scratch, DATA / "segments" / name)


if __name__ == "__main__":
    run_stage(main)
