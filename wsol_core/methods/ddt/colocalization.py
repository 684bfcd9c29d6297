"""DDT, deep descriptor transforming: pseudo boxes from image labels alone (WSFL 3.3.1, after Wei et al. 2019).

All positions of all images of a class are stacked as descriptors; their first principal component separates what the
images share, the object, from the rest.

Deviations:
- The component's sign is fixed (see `principal_component`): the object is where the projection is positive.
- The box comes from the grid, scaled to the image: what a nearest-neighbour resize of the indicator map gives.
- By parameter the threshold is a share of Otsu's of each image (0 is the paper's, the mean of a class's descriptors),
  found on an enlarged map, and projections are averaged over views and over the sides of two feature stores.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from wsol_core.core.boxes import Boxes
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.core.params import Block
from wsol_core.core.regions import largest_component_box
from wsol_core.engine.feature_store import FeatureStore, Rows
from wsol_core.engine.features import View, view_of
from wsol_core.methods.ddt.principal_component import Component, Moments, block_component


class DDTParams(Block):
    """How pseudo boxes are made."""

    sees: str
    """features of the images, data/localization/features/NAME.h5"""
    second: str
    """features at another side, whose scores are averaged with the first's; the first again for none"""
    layers: tuple[int, ...] = Field(default=(-1,), min_length=1, max_length=2)
    """levels of the features, from their end; two of them are intersected (DDT+)"""
    otsu: float = Field(default=1.0, ge=0, le=1)
    """the object is where the projection exceeds this share of the image's Otsu threshold; 0 in the paper"""
    resolution: int = Field(default=0, ge=0)
    """side that projections are enlarged to, bilinear, before they are cut; 0 leaves the grid of the features"""
    scope: Literal["class", "dataset"] = "class"
    """whose component makes the pseudo boxes: one per class, or one for all images; maps are made by both"""

    @model_validator(mode="before")
    @classmethod
    def _second_is_the_first(cls, content: Any) -> Any:
        return {"second": content.get("sees"), **content} if isinstance(content, dict) else content


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


def indicator_scores(projections: Sequence[Tensor], otsu: float, resolution: int = 0) -> Tensor:
    """Indicator maps as scores in [0, 1] with the threshold at .5.

    Each projection, less its threshold, is divided by its largest absolute value per image. Several layers are
    intersected (DDT+): enlarged to the finest grid, nearest, and the smallest score taken.

    Args:
        projections: one `(B, h, w)` per layer.
        otsu: share of each map's Otsu threshold that is the threshold.
        resolution: side that projections are enlarged to first; 0 for none.

    Returns:
        `(B, h, w)` float32, of the finest layer's resolution.
    """
    if resolution:
        sides = (resolution, resolution)
        projections = [functional.interpolate(each[:, None], sides, mode="bilinear")[:, 0] for each in projections]
    finest = max((p.shape[1:] for p in projections), key=lambda shape: shape[0] * shape[1])
    scores = []
    for projection in projections:
        above = projection - otsu * otsu_threshold(projection) if otsu else projection
        peak = above.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        score = 0.5 + 0.5 * above / peak
        scores.append(functional.interpolate(score[:, None], size=finest, mode="nearest")[:, 0])
    return torch.stack(scores).amin(0)


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


class Source(NamedTuple):
    """Features of all images of an index."""

    store: FeatureStore
    rows: Rows


class Found(NamedTuple):
    """What DDT says of B images."""

    positions: npt.NDArray[np.int64]
    """`(B,)` of the images in the index"""
    scores: npt.NDArray[np.float16]
    """`(B, h, w)` in [0, 1], the object where they exceed .5"""
    agreement: npt.NDArray[np.float32]
    """`(B,)` mean IoU of the objects of every two sources and views; 1 where there is but one"""


class Colocalizer:
    """DDT over the images of a data set.

    Args:
        sources: features of all images of an index; scores are averaged over them.
        labels: `(N,)` their class.
        training: `(N,)` whether an image takes part in the component; the others are only projected.
        params: how pseudo boxes are made.
    """

    BATCH = 64

    def __init__(
        self, sources: Sequence[Source], labels: npt.NDArray[np.int64], training: npt.NDArray[np.bool_],
        params: DDTParams,
    ) -> None:  # fmt: skip
        self._sources, self._labels, self._training, self._params = sources, labels, training, params
        self.components: dict[int, list[list[Component]]] = {}
        """of each source and layer, by label"""

    def per_class(self) -> Iterator[Found]:
        """Every image once, class by class; memory is bounded by the features of the largest class.

        Raises:
            InputError: a class has images, but none to learn its component from.
        """
        for label in np.unique(self._labels).tolist():
            positions = np.flatnonzero(self._labels == label)
            training = torch.from_numpy(self._training[positions])
            if not training.any():
                raise InputError(f"class {label}: no image in train-weaksup to learn from; add some or drop the class")
            layers = [self._layers(source, positions) for source in self._sources]
            components = [[block_component(features[training].flatten(0, 1)) for features in each] for each in layers]
            self.components[label] = components
            for start in range(0, len(positions), self.BATCH):
                part = slice(start, start + self.BATCH)
                parts = [[features[part] for features in each] for each in layers]
                yield self._found(positions[part], components, parts)

    def together(self) -> Iterator[Found]:
        """Every image once, with one component for all classes; memory is bounded by a batch."""
        moments: list[list[Moments]] = []
        for positions in self._batches(np.flatnonzero(self._training)):
            layers = [self._layers(source, positions) for source in self._sources]
            moments = moments or [[Moments(features.shape[2]) for features in each] for each in layers]
            for own, each in zip(moments, layers, strict=True):
                for moment, features in zip(own, each, strict=True):
                    moment.add(features.flatten(0, 1))
        components = [[moment.component() for moment in own] for own in moments]
        self.components[CLASS_AGNOSTIC] = components
        for positions in self._batches(np.arange(len(self._labels))):
            yield self._found(positions, components, [self._layers(source, positions) for source in self._sources])

    def _batches(self, positions: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
        for start in range(0, len(positions), self.BATCH):
            yield positions[start : start + self.BATCH]

    def _layers(self, source: Source, positions: npt.NDArray[np.int64]) -> list[Tensor]:
        """The features `(B, V, C, h, w)` float32 of each layer."""
        blocks = source.rows.read(positions.tolist())
        parts = [[source.store.level(rows, layer) for layer in self._params.layers] for rows in blocks]
        return [torch.cat(each) for each in zip(*parts, strict=True)]

    def _found(
        self, positions: npt.NDArray[np.int64], components: list[list[Component]], layers: list[list[Tensor]]
    ) -> Found:
        scores, masks = [], []
        for source, own, each in zip(self._sources, components, layers, strict=True):
            # (B, V, h, w) for each layer, in the plain view
            views = source.store.params.views
            projected = [projections(c, features, views) for c, features in zip(own, each, strict=True)]
            scores.append(self._scores([maps.mean(1) for maps in projected]))
            if self._sees_several():
                masks += [self._scores([maps[:, v] for maps in projected]) > 0.5 for v in range(projected[0].shape[1])]
        mean = merged(scores)
        return Found(positions, mean.numpy().astype(np.float16), agreement(masks, len(positions)))

    def _sees_several(self) -> bool:
        return sum(len(source.store.params.views) for source in self._sources) > 1

    def _scores(self, layers: list[Tensor]) -> Tensor:
        return indicator_scores(layers, self._params.otsu, self._params.resolution)


def projections(component: Component, features: Tensor, views: Sequence[View]) -> Tensor:
    """Projections `(B, V, h, w)` of features `(B, V, C, h, w)`, each view turned back to the plain one."""
    found = component.project(features.flatten(0, 1))  # (B * V, h, w)
    found = found.reshape(*features.shape[:2], *found.shape[1:])
    return torch.stack([view_of(found[:, number], view) for number, view in enumerate(views)], dim=1)


def merged(scores: Sequence[Tensor]) -> Tensor:
    """The mean of scores `(B, h, w)`, the coarser enlarged to the finest, bilinear."""
    finest = max((each.shape[1:] for each in scores), key=lambda shape: shape[0] * shape[1])
    enlarged = [functional.interpolate(each[:, None], finest, mode="bilinear")[:, 0] for each in scores]
    return torch.stack(enlarged).mean(0)


def agreement(masks: Sequence[Tensor], count: int) -> npt.NDArray[np.float32]:
    """The mean IoU `(B,)` of every two of the masks `(B, h, w)`; 1 without a pair, and where both are empty."""
    finest = max((each.shape[1:] for each in masks), key=lambda shape: shape[0] * shape[1], default=(1, 1))
    flat = [functional.interpolate(m[:, None].float(), finest, mode="nearest").flatten(1) > 0.5 for m in masks]
    ious = [
        torch.where((a | b).any(1), (a & b).sum(1) / (a | b).sum(1).clamp_min(1), 1.0) for a, b in combinations(flat, 2)
    ]
    return torch.stack(ious).mean(0).numpy() if ious else np.ones(count, dtype=np.float32)
