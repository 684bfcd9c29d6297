"""Features of 300 proposals a picture against bare passes of the same network on ready tensors, in turns.

Bare are the backbone up to the level on the picture, and the stages behind it on 300 regions that are cut out already.
What the stage adds are RoIAlign, means, their length, and the store. Run `python -m benchmarks.proposal_features`.
Exit code 1 where the ratio misses the goal.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.against_forward import ReadyImages, measure
from wsol_core.backbones.create import BackboneParams, create_backbone
from wsol_core.data.index import ImageIndex
from wsol_core.detection.proposal_features import ProposalFeatureNetwork, ProposalFeatureParams, write_proposal_features
from wsol_core.engine import inference
from wsol_core.engine.devices import launch

GOAL = 0.8
IMAGES, PROPOSALS, ROUNDS = 16, 300, 3
PARAMS = ProposalFeatureParams(backbone=BackboneParams(name="efficientnet_lite0", weights="imagenet"), level=-4)


def main() -> int:
    """Print both speeds and their ratio."""
    fabric = launch(PARAMS.precision)
    images = ReadyImages(IMAGES, PARAMS.image_side)
    generator = np.random.default_rng(0)
    low = generator.random((IMAGES, PROPOSALS, 2)) * 0.7
    boxes = np.concatenate([low, low + 0.05 + generator.random(low.shape) * 0.25], axis=2).astype(np.float32)
    table = pd.DataFrame({"image_id": [f"{n:05d}" for n in range(IMAGES)], "labels": [[0]] * IMAGES})
    index = ImageIndex(table, (), "ready", ".")
    model = ProposalFeatureNetwork(create_backbone(PARAMS.backbone, PARAMS.output_stride), PARAMS).eval()
    fabric.to_device(model.to(memory_format=torch.channels_last))
    shape = (PROPOSALS * PARAMS.batch, model.backbone.channels[-1], PARAMS.cells, PARAMS.cells)
    regions = torch.split(torch.rand(shape).to(memory_format=torch.channels_last), PARAMS.proposals_at_once)

    @torch.no_grad()
    def bare(batches: Sequence[Tensor] = tuple(images.batches(PARAMS.batch))) -> None:
        for pictures in batches:
            with fabric.autocast():
                model.backbone(fabric.to_device(pictures))
                for part in regions:
                    model.backbone.behind(fabric.to_device(part))  # type: ignore[operator]

    with tempfile.TemporaryDirectory() as folder, patch.object(inference, "SquashedImages", lambda *_: images):

        def run() -> None:
            write_proposal_features(PARAMS, index, boxes, Path(folder) / "features.h5")

        return int(not measure("proposal_features", IMAGES, run, bare, ROUNDS, GOAL))


if __name__ == "__main__":
    sys.exit(main())
