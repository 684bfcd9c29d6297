"""Training steps of a detector over ready pictures against forward and backward pass of its bare backbone, in turns.

The demo's setting: EfficientNet-Lite0 up to its 112 channels at stride 16, pictures of 352 pixels with 300 proposals,
two layers of 1024, three branches. What the detector adds are RoI pooling, these layers and their gradients, seeds and
labels, SGD, and the loop. Run `python -m benchmarks.detector_step`. Exit code 1 where a ratio misses the goal.
"""

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.against_forward import ReadyImages, measure
from wsol_core.backbones.create import Backbone, BackboneParams, create_backbone
from wsol_core.data.loading import SquashedImages, TrainingSet
from wsol_core.detection.detector import DetectorParams, build
from wsol_core.detection.heads import DetectorLoss
from wsol_core.detection.proposal_targets import ProposalTargets
from wsol_core.engine.devices import launch
from wsol_core.engine.training import Trainer
from wsol_core.engine.training_params import TrainingParams

GOAL = 0.35
IMAGES, ROUNDS, PROPOSALS = 32, 3, 300
CLASSES = ("bird", "mammal", "fish", "fruit", "vegetable", "vehicle", "flower")
STRIDE, LEVEL = 32, -3
BACKBONE = BackboneParams(name="efficientnet_lite0", weights="imagenet")
TRAINING = TrainingParams(epochs=1, batch=4, lr_backbone=1e-4, lr_head=1e-3, image_side=352)


def parameters(method: str) -> DetectorParams:
    """The demo's detector."""
    given = {"method": method, "width": 1024, "output_stride": STRIDE, "level": LEVEL}
    return DetectorParams.model_validate({"backbone": BACKBONE, "training": TRAINING, **given})


def random_targets() -> ProposalTargets:
    """Two classes for each picture, and boxes of many sizes."""
    generator = np.random.default_rng(0)
    low = generator.random((IMAGES, PROPOSALS, 2)) * 0.7
    boxes = np.concatenate([low, low + 0.05 + generator.random(low.shape) * 0.25], axis=2).astype(np.float32)
    labels = [generator.choice(len(CLASSES), 2, replace=False).tolist() for _ in range(IMAGES)]
    return ProposalTargets(labels, len(CLASSES), boxes, np.ones(boxes.shape[:2], np.float32))


def bare_passes(fabric: Fabric, backbone: Backbone, batches: Sequence[Tensor]) -> None:
    """Forward and backward pass for each batch, no step."""
    for images in batches:
        with fabric.autocast():
            features = backbone(fabric.to_device(images))[-1]
        backbone.zero_grad(set_to_none=True)
        torch.autograd.backward(features.float().mean())


def main() -> int:
    """Print speeds and ratios."""
    fabric = launch(TRAINING.precision)
    images = ReadyImages(IMAGES, TRAINING.image_side)
    pairs = TrainingSet(cast(SquashedImages, images), random_targets(), TRAINING.geometry, seed=0)
    backbone = create_backbone(BACKBONE, STRIDE)
    backbone.end_at(LEVEL)
    fabric.to_device(backbone.to(memory_format=torch.channels_last))
    bare = partial(bare_passes, fabric, backbone, images.batches(TRAINING.batch))
    reached = []
    for method in ("oicr", "mist"):
        params = parameters(method)
        model, loss = build(params, len(CLASSES)), DetectorLoss(params, CLASSES)

        def run(model: torch.nn.Module = model, loss: DetectorLoss = loss) -> None:
            with tempfile.TemporaryDirectory() as folder:
                Trainer(fabric, model, loss, TRAINING, 0, Path(folder)).fit(pairs, held_out=None)

        reached.append(measure(method.upper(), IMAGES, run, bare, ROUNDS, GOAL))
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
