"""Image labels and cues -> a segmentation network (SEC; Two-Phase 4.4). Usage: train_sec NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import stored_maps, train_network
from wsol_core.methods.sec.network import SecParams, build, image_cues, sec_loss

DATA = Path("data/detection")
INDEX = DATA / "index.parquet"


def main(name: str) -> None:
    """Run the stage."""
    params = load(SecParams, f"sec.{name}.network")
    index = read_index(INDEX)
    classes = len(index.classes)
    seeds = DATA / "seeds" / f"{name}.h5"
    targets = image_cues(stored_maps(seeds), classes)
    loss = partial(sec_loss, params=params)
    train_network(name, params, partial(build, params, classes), loss, index, targets, [INDEX, seeds])


if __name__ == "__main__":
    run_stage(main)
