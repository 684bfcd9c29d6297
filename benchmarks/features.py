"""Cached features: the stage that writes them, and heads that learn from them, each against its bare work, in turns.

The setting is the demo's: EfficientNet-Lite0 at 608 pixels, its feature maps of strides 16 and 32. Bare are the frozen
network's forward pass over ready images; and for heads, a step for each batch of rows and targets that lies ready in
memory. The stage adds rows in float16 and their file; training adds choosing and mirroring rows, rates, the sum of
losses and a checkpoint an epoch. Run `python -m benchmarks.features`. Exit code 1 where a ratio misses the goal.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.against_forward import ReadyImages, bare_forward, measure
from benchmarks.training_step import bare_steps
from wsol_core.backbones.create import BackboneParams, OnBackbone
from wsol_core.data.index import ImageIndex
from wsol_core.engine import feature_store
from wsol_core.engine.devices import launch
from wsol_core.engine.feature_pairs import FeaturePairs
from wsol_core.engine.feature_store import FeatureStore, Rows, write_features
from wsol_core.engine.features import FeatureParams, frozen_backbone
from wsol_core.engine.training import Loss, Trainer
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.spol import networks as spol
from wsol_core.methods.wsfl import foreground as wsfl

STAGE_GOAL, HEADS_GOAL = 0.9, 0.8
IMAGES, ROWS, ROUNDS, CLASSES = 64, 512, 3, 6
FEATURES = FeatureParams(backbone=BackboneParams(name="efficientnet_lite0"), levels=(-3, -2), side=608)


class ReadyRows:
    """Stands in for a store's rows: 64 different ones, over and over."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._held = torch.rand((64, *shape), generator=torch.Generator().manual_seed(0)).half()

    def read(self, positions: Sequence[int]) -> Iterator[Tensor]:
        """Rows `(B, V, D)`, 64 at a time."""
        for start in range(0, len(positions), 64):
            yield self._held[torch.tensor(positions[start : start + 64]) % 64]


def heads(store: FeatureStore) -> dict[str, tuple[OnBackbone, Loss, npt.NDArray[Any], int]]:
    """What is trained: the network, its loss, its targets, its batch."""
    generator, given = np.random.default_rng(0), {"sees": str(store.path), "training": {"epochs": 1, "lr_head": 1e-3}}
    foreground = wsfl.ForegroundParams.model_validate(given).on_features(FEATURES)
    cam = spol.CamParams.model_validate(given | {"levels": (-2, -1)}).on_features(FEATURES)
    classification = partial(spol.classification_loss, auxiliary=cam.auxiliary)
    masks = generator.integers(0, 2, (ROWS, 28, 28)).astype(np.float32)
    found = {
        "pixel classifier": (wsfl.build(foreground), wsfl.foreground_loss, masks, 64),
        "MFF-Net 1": (spol.build_cam(cam, CLASSES), classification, generator.integers(0, CLASSES, ROWS), 32),
    }
    for model, *_ in found.values():
        model.backbone.shapes = store.shapes
    return found


def stage_ratio_reached(path: Path) -> bool:
    """The stage `features`, which leaves its store at `path`."""
    fabric, images = launch(FEATURES.precision), ReadyImages(IMAGES, FEATURES.side)
    network = fabric.to_device(frozen_backbone(FEATURES).to(memory_format=torch.channels_last))
    index = ImageIndex(pd.DataFrame({"image_id": [f"{n:05d}" for n in range(IMAGES)]}), (), "ready", ".")
    run = partial(write_features, fabric, FEATURES, index, path)
    bare = partial(bare_forward, fabric, network, images.batches(FEATURES.batch))
    with patch.object(feature_store, "SquashedImages", lambda *_: images):
        return measure("features", IMAGES, run, bare, ROUNDS, STAGE_GOAL)


def heads_ratio_reached(name: str, fabric: Fabric, store: FeatureStore) -> bool:
    """Heads on rows of the store's shape."""
    model, loss, targets, batch = heads(store)[name]
    training = TrainingParams(epochs=1, batch=batch, lr_backbone=0, lr_head=1e-3, precision="32-true")
    pairs = FeaturePairs(store, cast(Rows, ReadyRows(store.row_shape)), list(targets), flip=True, seed=0)
    places = [range(start, min(start + batch, ROWS)) for start in range(0, ROWS, batch)]
    batches = list(pairs.batches([[(-1, place) for place in part] for part in places]))

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            Trainer(fabric, model, loss, training, 0, Path(folder)).fit(pairs, held_out=None)

    return measure(name, ROWS, run, partial(bare_steps, fabric, model, loss, batches), ROUNDS, HEADS_GOAL)


def main() -> int:
    """Print speeds and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        reached = [stage_ratio_reached(path)]
        with FeatureStore(path) as store:
            fabric = launch("32-true")
            reached += [heads_ratio_reached(name, fabric, store) for name in ("pixel classifier", "MFF-Net 1")]
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
