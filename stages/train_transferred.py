"""Pixel classifier of another data set -> of this one, trained further or not (WSFL 5.3).

Usage: train_transferred NAME.
"""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import stored_maps, train_network
from wsol_core.methods.wsfl.foreground import TransferredParams, build_transferred, foreground_loss

INDEX = Path("data/localization/index.parquet")
MASKS = Path("data/localization/pseudo_masks.h5")


def main(name: str) -> None:
    """Run the stage."""
    params = load(TransferredParams, f"transferred.{name}")
    train_network(
        name,
        params.network,
        partial(build_transferred, params),
        foreground_loss,
        read_index(INDEX),
        stored_maps(MASKS),
        [INDEX, MASKS, params.start],
    )


if __name__ == "__main__":
    run_stage(main)
