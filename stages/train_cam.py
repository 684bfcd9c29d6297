"""Image labels -> MFF-Net 1, or the network of plain class activation maps (SPOL 3.2). Usage: train_cam NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import class_labels, train_network
from wsol_core.methods.spol.networks import CamParams, build_cam, classification_loss

INDEX = Path("data/localization/index.parquet")


def main(name: str) -> None:
    """Run the stage."""
    params = load(CamParams, f"cam.{name}")
    index = read_index(INDEX).single_label()
    train_network(
        name,
        params,
        partial(build_cam, params, len(index.classes)),
        partial(classification_loss, auxiliary=params.auxiliary),
        index,
        class_labels,
        [INDEX],
    )


if __name__ == "__main__":
    run_stage(main)
