"""Low-resolution pseudo masks -> pixel classifier (WSFL 3.4)."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import stored_maps, train_network
from wsol_core.methods.wsfl.foreground import ForegroundParams, build, foreground_loss

INDEX = Path("data/localization/index.parquet")
MASKS = Path("data/localization/pseudo_masks.h5")


def main() -> None:
    """Run the stage."""
    params = load(ForegroundParams, "foreground")
    index = read_index(INDEX)
    inputs = [INDEX, MASKS]
    train_network("foreground", params, partial(build, params), foreground_loss, index, stored_maps(MASKS), inputs)


if __name__ == "__main__":
    run_stage(main)
