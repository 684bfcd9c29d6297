"""Image labels -> FAM's network (Foreground Activation Maps, 3.3). Usage: train_fam NAME."""

from functools import partial
from pathlib import Path

import torch

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import TRAIN_WEAKSUP, read_index
from wsol_core.engine.fit import class_labels, train_network
from wsol_core.methods.fam.network import FamParams, build, class_weights, joint_loss

INDEX = Path("data/localization/index.parquet")


def main(name: str) -> None:
    """Run the stage."""
    params = load(FamParams, f"fam.{name}")
    index = read_index(INDEX).single_label()
    classes = len(index.classes)
    labels = torch.tensor(class_labels(index.split(TRAIN_WEAKSUP)), dtype=torch.int64)
    loss = partial(joint_loss, weights=class_weights(labels, classes), params=params)
    train_network(name, params, partial(build, params, classes), loss, index, class_labels, [INDEX])


if __name__ == "__main__":
    run_stage(main)
