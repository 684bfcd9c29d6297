"""The map writer with WSFL's pixel classifier over ready images against the bare forward pass of its backbone.

Run `python -m benchmarks.foreground_maps`. Exit code 1 where the ratio misses the goal.
"""

import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import pandas as pd

from benchmarks.against_forward import ReadyImages, bare_forward, measure
from wsol_core.backbones.create import BackboneParams
from wsol_core.data.index import ImageIndex
from wsol_core.engine import inference
from wsol_core.engine.devices import launch
from wsol_core.engine.inference import InferenceParams
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.wsfl.foreground import ForegroundParams, build, foreground_maps

GOAL = 0.85
IMAGES, ROUNDS = 256, 5


def main() -> int:
    """Print both speeds and their ratio."""
    training = TrainingParams(epochs=1, batch=32, lr_backbone=0, lr_head=0)
    backbone = BackboneParams(name="efficientnet_lite0", weights="imagenet")
    model = build(ForegroundParams(backbone=backbone, output_stride=16, training=training))
    fabric = launch(training.precision)
    images = ReadyImages(IMAGES, training.image_side)
    batches = images.batches(training.batch)
    index = ImageIndex(
        pd.DataFrame({"image_id": [f"{n:05d}" for n in range(IMAGES)], "labels": [[0]] * IMAGES}), (), "ready", "."
    )

    with tempfile.TemporaryDirectory() as folder, patch.object(inference, "SquashedImages", lambda *_: images):

        def run() -> None:
            path = Path(folder) / "maps.h5"
            inference.write_maps(fabric, model, foreground_maps, index, training, InferenceParams(), path)

        bare = model.backbone
        reached = measure("foreground_maps", IMAGES, run, lambda: bare_forward(fabric, bare, batches), ROUNDS, GOAL)
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
