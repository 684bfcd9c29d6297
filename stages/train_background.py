"""Target images and background images -> binary classifier (BC-CT 3.2). Usage: train_background NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.datasets.background import BackgroundParams, background_images
from wsol_core.engine.fit import has_label, train_network
from wsol_core.methods.bcct.binary import GradientParams, binary_loss, build_binary

INDEX = Path("data/localization/index.parquet")


def main(name: str) -> None:
    """Run the stage."""
    params = load(GradientParams, f"bc.{name}")
    index = read_index(INDEX)
    background = background_images(load(BackgroundParams, "background"), index.classes)
    inputs = [INDEX, *(background.root / path for path in background.table["path"])]
    train_network(name, params, partial(build_binary, params), binary_loss, index, has_label, inputs, background)


if __name__ == "__main__":
    run_stage(main)
