"""Classifier -> the likeliest classes of all images. Usage: class_scores NAME."""

from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wsol_core.checkpoints import rebuild
from wsol_core.class_scores import top_classes, write_scores
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import predictions
from wsol_core.methods.classifier import ClassifierParams, build, class_probabilities

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    network = partial(build, classes=len(index.classes))
    model, params = rebuild(Path(f"data/models/classifier-{name}.safetensors"), ClassifierParams, network)
    fabric = launch(params.training.precision)
    batches = predictions(fabric, model, class_probabilities, index, params.training)
    progress = tqdm(batches, desc="classes", unit="batch", disable=None)
    ranked, scores = zip(*(top_classes(batch.numpy()) for batch in progress), strict=True)
    if fabric.is_global_zero:
        write_scores(DATA / "scores" / f"{name}.parquet", index, np.concatenate(ranked), np.concatenate(scores))


if __name__ == "__main__":
    run_stage(main)
