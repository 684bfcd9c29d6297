"""DDT over ready images against the bare forward pass of its backbone (whole-set DDT: against two passes).

Run `python -m benchmarks.ddt_boxes`. Exit code 1 where a ratio misses the goal.
"""

import sys
from typing import Literal, cast

import numpy as np

from benchmarks.against_forward import ReadyImages, bare_forward, measure
from wsol_core.backbones.create import Backbone, BackboneParams, create_backbone
from wsol_core.data.loading import SquashedImages
from wsol_core.engine.devices import launch
from wsol_core.methods.ddt.colocalization import Colocalizer, DDTParams

GOAL = 0.85
CLASSES, PER_CLASS = 2, 30
ROUNDS = {"class": 9, "dataset": 3}


def ratio_reached(scope: Literal["class", "dataset"], network: Backbone, params: DDTParams) -> bool:
    """Measure one scope."""
    params = params.model_copy(update={"scope": scope})
    fabric = launch(params.precision)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    images = ReadyImages(len(labels), params.image_side)
    passes = 1 if scope == "class" else 2
    batches = images.batches(params.batch) * passes
    everyone = np.ones(len(labels), dtype=np.bool_)

    def run() -> None:
        for _ in Colocalizer(fabric, network, cast(SquashedImages, images), labels, everyone, params).run():
            pass

    name = f"ddt_boxes, scope {scope}, {CLASSES} classes of {PER_CLASS}"
    return measure(name, len(labels), run, lambda: bare_forward(fabric, network, batches), ROUNDS[scope], GOAL)


def main() -> int:
    """Print the ratio of each scope."""
    backbone = BackboneParams(name="efficientnet_lite0", weights="imagenet")
    network = create_backbone(backbone)
    params = DDTParams(backbone=backbone)
    per_class = ratio_reached("class", network, params)
    whole = ratio_reached("dataset", network, params)
    return int(not (per_class and whole))


if __name__ == "__main__":
    sys.exit(main())
