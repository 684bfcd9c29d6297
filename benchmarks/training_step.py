"""The training loop over ready images against bare steps: same network, loss, batch and precision, in turns.

A bare step is forward pass, loss, backward pass and SGD on a batch that lies ready; the loop adds moving pictures and
targets, stacking them, rates, the sum of losses and the checkpoint at the end of the epoch. Run
`python -m benchmarks.training_step`. Exit code 1 where a ratio misses the goal.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric

from benchmarks.against_forward import ReadyImages, measure
from wsol_core.backbones.create import BackboneParams, OnBackbone
from wsol_core.data.loading import Batch, SquashedImages, TrainingSet
from wsol_core.engine.devices import launch
from wsol_core.engine.training import Loss, Trainer, create_optimizer, parameter_groups
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.spol import networks as spol
from wsol_core.methods.wsfl import foreground as wsfl

GOAL = 0.85
IMAGES, ROUNDS, CLASSES = 512, 3, 200
TRAINING = TrainingParams(epochs=1, batch=32, lr_backbone=1e-4, lr_head=1e-3)
BACKBONE = BackboneParams(name="efficientnet_lite0", weights="imagenet")
LEVELS = (-4, -3, -1)


def networks() -> dict[str, tuple[Callable[[], OnBackbone], Loss, npt.NDArray[Any]]]:
    """What is trained: how it is built, its loss, its targets."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, IMAGES)
    fine, coarse = (generator.integers(0, 2, (IMAGES, side, side)).astype(np.float32) for side in (56, 14))
    classification = partial(spol.classification_loss, auxiliary="cross_entropy")
    cam = spol.CamParams(backbone=BACKBONE, levels=LEVELS, training=TRAINING)
    segmentation = spol.SegmentationParams(backbone=BACKBONE, levels=LEVELS, training=TRAINING)
    foreground = wsfl.ForegroundParams(backbone=BACKBONE, training=TRAINING)
    return {
        "MFF-Net 1": (partial(spol.build_cam, cam, CLASSES), classification, labels),
        "MFF-Net 2": (partial(spol.build, segmentation), spol.segmentation_loss, fine),
        "pixel classifier": (partial(wsfl.build, foreground), wsfl.foreground_loss, coarse),
    }


def bare_steps(fabric: Fabric, model: OnBackbone, loss: Loss, batches: Sequence[Batch]) -> None:
    """One SGD step per batch."""
    optimizer = create_optimizer(parameter_groups(model, TRAINING), TRAINING.optimizer)
    for batch in batches:
        with fabric.autocast():
            value = loss(model, batch.to(fabric.device))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        optimizer.step()
        value.item()


def main() -> int:
    """Print speeds and ratios."""
    fabric = launch(TRAINING.precision)
    images = ReadyImages(IMAGES, TRAINING.image_side)
    reached = []
    for name, (build, loss, targets) in networks().items():
        model, bare = build(), build().to(memory_format=torch.channels_last)
        fabric.to_device(bare)
        pairs = TrainingSet(cast(SquashedImages, images), list(targets), TRAINING.geometry, seed=0)
        parts = np.split(targets, range(TRAINING.batch, IMAGES, TRAINING.batch))
        batches = [Batch(x, torch.from_numpy(y)) for x, y in zip(images.batches(TRAINING.batch), parts, strict=True)]

        def run(model: OnBackbone = model, loss: Loss = loss, pairs: TrainingSet = pairs) -> None:
            with tempfile.TemporaryDirectory() as folder:
                Trainer(fabric, model, loss, TRAINING, 0, Path(folder)).fit(pairs, held_out=None)

        reached.append(measure(name, IMAGES, run, partial(bare_steps, fabric, bare, loss, batches), ROUNDS, GOAL))
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
