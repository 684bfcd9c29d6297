"""A network over all images of an index, and what it says of their classes as a table of class scores."""

from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from tqdm import tqdm

from wsol_core.backbones.create import OnBackbone
from wsol_core.class_scores import top_classes, write_scores
from wsol_core.data.index import ImageIndex
from wsol_core.inference import Predict, predictions
from wsol_core.training import TrainingParams


def write_class_scores(
    fabric: Fabric, model: OnBackbone, predict: Predict, index: ImageIndex, training: TrainingParams, path: Path
) -> None:
    """Write the likeliest classes of every image of `index`; under `torchrun` the first process does.

    Args:
        fabric: from `devices.launch`.
        model: what `predict` gets.
        predict: probabilities of the classes `(B, C)`.
        index: the images.
        training: for the side of the input and the batch.
        path: the output, see `class_scores`.
    """
    batches = predictions(fabric, model, predict, index, training)
    progress = tqdm(batches, desc="classes", unit="batch", disable=None)
    ranked, scores = zip(*(top_classes(batch.numpy()) for batch in progress), strict=True)
    if fabric.is_global_zero:
        write_scores(path, index, np.concatenate(ranked), np.concatenate(scores))
