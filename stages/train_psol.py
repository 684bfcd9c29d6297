"""Pseudo boxes -> box regression, a baseline of WSFL's tables (PSOL 3). Usage: train_psol NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import read_table
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import train_network
from wsol_core.methods.psol.network import PsolParams, box_loss, build, relative_boxes

INDEX = Path("data/localization/index.parquet")
BOXES = Path("data/localization/pseudo_boxes.parquet")


def main(name: str) -> None:
    """Run the stage."""
    params = load(PsolParams, f"psol.{name}")
    targets = partial(relative_boxes, read_table(BOXES)[0])
    train_network(name, params, partial(build, params), box_loss, read_index(INDEX), targets, [INDEX, BOXES])


if __name__ == "__main__":
    run_stage(main)
