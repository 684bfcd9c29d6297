"""DDT on features that it computes as it reads them, against the bare forward pass of their backbone, in turns.

Whole-set DDT reads them twice, and is held against two passes. Run `python -m benchmarks.ddt_boxes`. Exit code 1 where
a ratio misses the goal.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from benchmarks.against_forward import ReadyImages, bare_forward, measure
from wsol_core.backbones.create import BackboneParams
from wsol_core.data.index import ImageIndex
from wsol_core.engine import feature_store
from wsol_core.engine.devices import launch
from wsol_core.engine.feature_store import FeatureStore, write_features
from wsol_core.engine.features import FeatureParams, frozen_backbone
from wsol_core.methods.ddt.colocalization import Colocalizer, DDTParams, Source

GOAL = 0.85
CLASSES, PER_CLASS = 2, 32
ROUNDS = {"class": 9, "dataset": 3}
FEATURES = FeatureParams(backbone=BackboneParams(name="efficientnet_lite0"), side=448, batch=32, store="never")


def main() -> int:
    """Print the ratio of each scope."""
    fabric, labels = launch(FEATURES.precision), np.repeat(np.arange(CLASSES), PER_CLASS)
    images = ReadyImages(len(labels), FEATURES.side)
    index = ImageIndex(pd.DataFrame({"image_id": [f"{n:05d}" for n in range(len(labels))]}), (), "ready", ".")
    network = fabric.to_device(frozen_backbone(FEATURES).to(memory_format=torch.channels_last))
    reached = []
    with tempfile.TemporaryDirectory() as folder, patch.object(feature_store, "SquashedImages", lambda *_: images):
        path = Path(folder) / "features.h5"
        write_features(fabric, FEATURES, index, path)
        with FeatureStore(path) as store:
            source, params = Source(store, store.reader(fabric, index)), DDTParams(sees=str(path), second=str(path))
            colocalizer = Colocalizer([source], labels, np.ones(len(labels), dtype=np.bool_), params)
            for scope, ddt, passes in (("class", colocalizer.per_class, 1), ("dataset", colocalizer.together, 2)):
                name = f"ddt_boxes, scope {scope}, {CLASSES} classes of {PER_CLASS}"
                bare = partial(bare_forward, fabric, network, images.batches(FEATURES.batch) * passes)
                run = lambda ddt=ddt: [None for _ in ddt()]  # noqa: E731
                reached.append(measure(name, len(labels), run, bare, ROUNDS[scope], GOAL))
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
