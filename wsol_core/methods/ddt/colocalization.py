"""DDT, deep descriptor transforming: pseudo boxes from image labels alone (WSFL 3.3.1, after Wei et al. 2019).

All positions of all images of a class are stacked as descriptors; their first principal component separates what the
images share, the object, from the rest.

Deviations:
- The component's sign is fixed (see `principal_component`): the object is where the projection is positive.
- The box comes from the grid, scaled to the image: what a nearest-neighbour resize of the indicator map gives.
- By parameter the threshold is Otsu's of each image instead of 0, the mean of a class's descriptors.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from pydantic import Field
from torch import Tensor

from wsol_core.backbones.create import Backbone, BackboneParams
from wsol_core.core.boxes import Boxes
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.core.params import Block
from wsol_core.core.regions import largest_component_box
from wsol_core.data.loading import SquashedImages, image_batches
from wsol_core.engine.devices import Precision
from wsol_core.methods.ddt.principal_component import Component, Moments, block_component


class DDTParams(Block):
    """How pseudo boxes are made."""

    backbone: BackboneParams = BackboneParams()
    """the pretrained network; it is not trained"""
    layers: tuple[int, ...] = Field(default=(-1,), min_length=1, max_length=2)
    """feature maps of the pyramid, from its end; two of them are intersected (DDT+)"""
    image_side: int = Field(default=448, gt=0)
    """side of the squashed input, in pixels"""
    threshold: Literal["zero", "otsu"] = "zero"
    """the object is where the projection is positive (the paper), or exceeds Otsu's threshold of the image"""
    scope: Literal["class", "dataset"] = "class"
    """one component per class, or one for all images"""
    batch: int = Field(default=32, gt=0)
    """images per forward pass"""
    precision: Precision = "bf16-mixed"
    """of the forward pass; the component is summed in float32 and solved for in float64"""


def otsu_threshold(projections: Tensor) -> Tensor:
    """The threshold of each map that leaves the largest variance between the two sides (Otsu 1979), exact.

    Args:
        projections: `(B, h, w)`.

    Returns:
        `(B, 1, 1)`: halfway between the two values that it parts.
    """
    values = projections.double().flatten(1).sort(dim=1).values  # (B, h * w), ascending
    count = values.shape[1]
    below = torch.arange(1, count, dtype=torch.float64, device=values.device)
    lower = values.cumsum(1)[:, :-1]
    total = values.sum(1, keepdim=True)
    between = (lower / below - (total - lower) / (count - below)) ** 2 * below * (count - below)
    if count == 1:
        return projections.clone()
    best = between.argmax(1, keepdim=True)
    # (B, 1), then (B, 1, 1)
    return ((values.gather(1, best) + values.gather(1, best + 1)) / 2).to(projections.dtype)[:, :, None]


def indicator_scores(
    projections: Sequence[Tensor], threshold: Literal["zero", "otsu"] = "zero"
) -> npt.NDArray[np.float16]:
    """Indicator maps as scores in [0, 1] with the threshold at .5.

    Each projection, less its threshold, is divided by its largest absolute value per image. Several layers are
    intersected (DDT+): enlarged to the finest grid, nearest, and the smallest score taken.

    Args:
        projections: one `(B, h, w)` per layer.
        threshold: 0, or each image's own.

    Returns:
        `(B, h, w)` float16, of the finest layer's resolution.
    """
    finest = max((p.shape[1:] for p in projections), key=lambda shape: shape[0] * shape[1])
    scores = []
    for projection in projections:
        if threshold == "otsu":
            projection = projection - otsu_threshold(projection)
        peak = projection.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        score = 0.5 + 0.5 * projection / peak
        scores.append(torch.nn.functional.interpolate(score[:, None], size=finest, mode="nearest")[:, 0])
    return torch.stack(scores).amin(0).cpu().numpy().astype(np.float16)


def pseudo_box(scores: npt.NDArray[np.float16], width: int, height: int) -> Boxes:
    """The box `(4,)` of the largest 8-connected region of an indicator map above .5; without one, the whole image.

    Args:
        scores: `(h, w)`.
        width: of the image, in pixels.
        height: of the image, in pixels.
    """
    box = largest_component_box(scores > 0.5)
    if box is None:
        return np.array([0, 0, width, height], dtype=np.float32)
    rows, columns = scores.shape
    scale = np.array([width / columns, height / rows] * 2, dtype=np.float32)
    return np.asarray(box, dtype=np.float32) * scale


class Colocalizer:
    """Runs DDT over the images of a data set, one forward pass each (two where all classes share one component).

    Args:
        fabric: from `devices.launch`.
        network: the pretrained feature pyramid.
        images: all images of an index, squashed to `params.image_side`.
        labels: `(N,)` their class.
        training: `(N,)` whether an image takes part in the component; the others are only projected.
        params: how pseudo boxes are made.
    """

    def __init__(
        self, fabric: Fabric, network: Backbone, images: SquashedImages, labels: npt.NDArray[np.int64],
        training: npt.NDArray[np.bool_], params: DDTParams,
    ) -> None:  # fmt: skip
        self._network = fabric.to_device(network.eval().to(memory_format=torch.channels_last))
        self._fabric, self._images, self._params = fabric, images, params
        self._labels, self._training = labels, training
        self.components: dict[int, list[Component]] = {}

    def run(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]]:
        """Yield `(positions (B,), indicator scores (B, h, w))` until every image was seen once.

        Memory is bounded by the features of the largest class, or of a batch with the scope `dataset`.

        Raises:
            InputError: a class has images, but none to learn its component from.
        """
        return self._per_class() if self._params.scope == "class" else self._whole()

    def _per_class(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]]:
        order = np.argsort(self._labels, kind="stable")
        classes, counts = np.unique(self._labels, return_counts=True)
        ends = np.cumsum(counts)
        blocks = regroup(self._features(order), counts.tolist())
        for label, end, count, layers in zip(classes.tolist(), ends, counts, blocks, strict=True):
            positions = order[end - count : end]
            training = torch.from_numpy(self._training[positions])
            if not training.any():
                raise InputError(f"class {label}: no image in train-weaksup to learn from; add some or drop the class")
            self.components[label] = [block_component(features[training]) for features in layers]
            yield positions, self._scores(self.components[label], layers)

    def _whole(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]]:
        moments: list[Moments] = []
        for layers in self._features(np.flatnonzero(self._training)):
            moments = moments or [Moments(features.shape[1]) for features in layers]
            for moment, features in zip(moments, layers, strict=True):
                moment.add(features)
        self.components[CLASS_AGNOSTIC] = [moment.component() for moment in moments]
        positions = np.arange(len(self._images))
        for start, layers in zip(range(0, len(positions), self._params.batch), self._features(positions), strict=True):
            yield positions[start : start + self._params.batch], self._scores(self.components[CLASS_AGNOSTIC], layers)

    def _scores(self, components: list[Component], layers: list[Tensor]) -> npt.NDArray[np.float16]:
        projections = [c.project(features) for c, features in zip(components, layers, strict=True)]
        return indicator_scores(projections, self._params.threshold)

    @torch.inference_mode()
    def _features(self, positions: npt.NDArray[np.int64]) -> Iterator[list[Tensor]]:
        for pictures in image_batches(self._images, positions.tolist(), self._params.batch):
            with self._fabric.autocast():
                pyramid = self._network(self._fabric.to_device(pictures))
            yield [pyramid[layer] for layer in self._params.layers]


def regroup(batches: Iterator[list[Tensor]], counts: Sequence[int]) -> Iterator[list[Tensor]]:
    """Cut a stream of batches, each a list of layers `(B, C, h, w)`, into blocks of the given numbers of images."""
    waiting: list[list[Tensor]] = []
    have = 0
    for count in counts:
        while have < count:
            waiting.append(next(batches))
            have += len(waiting[-1][0])
        layers = [torch.cat(parts) for parts in zip(*waiting, strict=True)]
        yield [features[:count] for features in layers]
        waiting = [[features[count:] for features in layers]] if have > count else []
        have -= count
