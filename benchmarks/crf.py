"""The exact mean field of SEC's training maps, in batches, against the forward pass and against the library in a loop.

21 classes, 10 iterations, autocast to bf16 as in training; at 41x41, the maps of 321 px at stride 8, and at 14x14, of
224 px at stride 16. Networks have random weights; the library is the optional extra `crf`. Run
`python -m benchmarks.crf`. Exit code 1 where a ratio misses its goal.
"""

import sys
from functools import partial

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.against_forward import ReadyImages, bare_forward, measure
from wsol_core.backbones.create import BackboneParams, create_backbone
from wsol_core.core.crf_params import CRFParams
from wsol_core.engine.devices import launch
from wsol_core.methods.sec import exact_crf
from wsol_core.refinement import crf

FORWARD_GOAL, LIBRARY_GOAL = 1.0, 3.0
LABELS, ROUNDS = 21, 5
SIDES = {41: (321, 8, 8), 14: (224, 16, 32)}
"""Of the maps: side of the image, stride, images in a batch."""
BACKBONES = ("vgg16", "efficientnet_lite0")


def fields(side: int, images: int) -> tuple[Tensor, Tensor]:
    """Unaries and pictures `(images, ., side, side)`, as smooth as those of a network and of photographs."""
    generator = np.random.default_rng(0)
    scores = generator.normal(0, 1, (images, 6, 6, LABELS))
    scores[..., :3] += 3
    coarse = generator.uniform(0, 255, (images, 5, 5, 3))
    maps, pictures = (
        np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_CUBIC) for each in several])
        for several in (scores, coarse)
    )
    pictures = np.clip(pictures + generator.normal(0, 5, pictures.shape), 0, 255).astype(np.uint8)
    unaries = -torch.from_numpy(maps.astype(np.float32)).permute(0, 3, 1, 2).log_softmax(1)
    return unaries.contiguous(), torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def in_a_batch(fabric: Fabric, unaries: Tensor, images: Tensor, params: CRFParams) -> None:
    """The exact mean field; its result is waited for."""
    with fabric.autocast():
        found = exact_crf.mean_field(unaries, images, params)
    float(found.flatten()[0])


def in_a_loop(unaries: Tensor, images: Tensor, params: CRFParams) -> None:
    """The library's, image by image."""
    for unary, image in zip(unaries.numpy(), images.permute(0, 2, 3, 1).numpy(), strict=True):
        crf.mean_field(unary, image, params)


def main() -> int:
    """Print speeds and ratios."""
    fabric = launch("bf16-mixed")
    reached = []
    for side, (pixels, stride, count) in SIDES.items():
        unaries, images = fields(side, count)
        factor = 12 * 41 / side
        params = CRFParams(appearance_pixels=80 / factor, smoothness_pixels=3 / factor)
        exact = partial(in_a_batch, fabric, fabric.to_device(unaries), fabric.to_device(images), params)
        batches = ReadyImages(count, pixels).batches(count)
        for name in BACKBONES:
            network = create_backbone(BackboneParams(name=name, weights="none"), stride).eval()
            fabric.to_device(network.to(memory_format=torch.channels_last))
            bare = partial(bare_forward, fabric, network, batches)
            reached.append(measure(f"{side}x{side}, bare {name}", count, exact, bare, ROUNDS, FORWARD_GOAL))
        if crf.library() is not None:
            loop = partial(in_a_loop, unaries, images, params)
            reached.append(measure(f"{side}x{side}, bare library", count, exact, loop, ROUNDS, LIBRARY_GOAL))
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
