"""DDT, deep descriptor transforming: pseudo boxes from image labels alone (WSFL 3.3.1, after Wei et al. 2019).

All positions of all images of a class are stacked as descriptors; their first principal component separates what the
images share, the object, from the rest.

Deviations: the sign of a principal component is arbitrary, so it is fixed here: the projection must be larger inside
than along the border of the feature map, on average over the training images. The box comes from the grid itself,
scaled to the image, which is what a nearest-neighbour resize of the indicator map gives. By parameter the threshold is
Otsu's instead of 0: zero is the mean of a class's descriptors, too low where objects fill little of their images.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from pydantic import Field
from scipy.sparse.linalg import eigsh
from torch import Tensor

from wsol_core.backbones.create import Backbone, BackboneParams
from wsol_core.boxes import Boxes
from wsol_core.data.loading import SquashedImages, image_batches
from wsol_core.errors import InputError
from wsol_core.maps import CLASS_AGNOSTIC
from wsol_core.params import Block
from wsol_core.regions import largest_component_box


class DDTParams(Block):
    """How pseudo boxes are made."""

    backbone: BackboneParams
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
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    """of the forward pass; the component is always computed in float64"""


@contextmanager
def _fast_products_of(dtype: torch.dtype) -> Iterator[None]:
    """Let float32 products of numbers that came as bfloat16 run on bfloat16 units; sums stay float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if dtype == torch.bfloat16 else "highest")
    yield
    torch.set_float32_matmul_precision(before)


@dataclass
class Moments:
    """Running sums over the descriptors of a stream of feature maps; memory is `C x C` however many there are.

    Attributes:
        count: descriptors so far.
        total: `(C,)` float64, their sum.
        outer: `(C, C)` float64, the sum of their outer products.
        inside, border: `(C,)` float64, the sums over the positions off and on the border of the map.
        inside_count, border_count: how many those were.
    """

    channels: int
    count: int = 0
    inside_count: int = 0
    border_count: int = 0
    total: Tensor = field(init=False)
    outer: Tensor = field(init=False)
    inside: Tensor = field(init=False)
    border: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.total, self.inside, self.border = (torch.zeros(self.channels, dtype=torch.float64) for _ in range(3))
        self.outer = torch.zeros(self.channels, self.channels, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Add the descriptors of `features (B, C, h, w)`."""
        count, _, height, width = features.shape
        descriptors = features.float().permute(0, 2, 3, 1).reshape(-1, self.channels)
        with _fast_products_of(features.dtype):
            self.outer += (descriptors.T @ descriptors).double().cpu()
        sums = descriptors.view(count, height, width, -1).sum(0).double().cpu()
        total, inside = sums.sum((0, 1)), sums[1:-1, 1:-1].sum((0, 1))
        inside_count = count * max(0, height - 2) * max(0, width - 2)
        self.total += total
        self.inside += inside
        self.border += total - inside
        self.count += len(descriptors)
        self.inside_count += inside_count
        self.border_count += len(descriptors) - inside_count

    def component(self) -> "Component":
        """The mean and the first principal component of the descriptors seen so far."""
        mean = self.total / self.count
        covariance = self.outer / self.count - torch.outer(mean, mean)
        start = np.ones(self.channels)
        _, vectors = eigsh(covariance.numpy(), k=1, which="LA", v0=start)
        direction = torch.from_numpy(vectors[:, 0].copy())
        contrast = self.inside / max(1, self.inside_count) - self.border / max(1, self.border_count)
        return Component(mean.float(), orient(direction, contrast).float())


def orient(direction: Tensor, contrast: Tensor) -> Tensor:
    """`direction` or its opposite, whichever makes the projection of `contrast` (inside minus border) positive."""
    return direction if float(direction @ contrast) >= 0 else -direction


@dataclass(frozen=True)
class Component:
    """A class's mean descriptor and first principal component, `(C,)` float32 each."""

    mean: Tensor
    direction: Tensor

    def project(self, features: Tensor) -> Tensor:
        """The indicator maps `(B, h, w)` float32 of `features (B, C, h, w)`; positive where the object is."""
        direction = self.direction.to(features.device)
        offset = float(self.mean @ self.direction)
        return torch.einsum("bchw,c->bhw", features.float(), direction) - offset


def otsu_threshold(projections: Tensor) -> Tensor:
    """The threshold of each map that leaves the largest variance between the two sides (Otsu 1979), exact.

    Args:
        projections: `(B, h, w)`.

    Returns:
        `(B, 1, 1)`: halfway between the two values that it parts.
    """
    values = projections.double().flatten(1).sort(dim=1).values
    count = values.shape[1]
    below = torch.arange(1, count, dtype=torch.float64, device=values.device)
    lower = values.cumsum(1)[:, :-1]
    total = values.sum(1, keepdim=True)
    between = (lower / below - (total - lower) / (count - below)) ** 2 * below * (count - below)
    if count == 1:
        return projections.clone()
    best = between.argmax(1, keepdim=True)
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
        fabric: from `training.launch`.
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
            self.components[label] = [_component(features[training]) for features in layers]
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


def _component(features: Tensor) -> Component:
    moments = Moments(features.shape[1])
    moments.add(features)
    return moments.component()


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
