"""The one map writer: a network over all images of an index, each seen once, streamed into a map store."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from wsol_core.backbones.create import OnBackbone
from wsol_core.core.map_store import CLASS_AGNOSTIC, Kind, create
from wsol_core.core.params import Block
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import SquashedImages, image_batches
from wsol_core.engine.feature_store import FeatureStore, regrouped
from wsol_core.engine.features import View, in_fast_layout, view_of
from wsol_core.engine.training_params import NetworkParams, TrainingParams

Predict = Callable[[Any, Tensor, Tensor], Tensor]
"""From the model, images `(B, 3, H, W)` uint8 and their labels `(B, L)` int64, filled up with -1, to any `(B, ...)`;
for maps `(B, M, h, w)` in [0, 1]."""

Rows = Sequence[int] | Literal["labels"]
"""Which label each of the M maps of an image is stored under: these, or the image's own, for maps `(B, L, h, w)`."""

AGNOSTIC: Rows = (CLASS_AGNOSTIC,)


class Input(Protocol):
    """How a network sees images."""

    @property
    def inference_side(self) -> int:
        """Side of the squashed picture, in pixels."""

    @property
    def batch(self) -> int:
        """Pictures at a time."""


class InferenceParams(Block):
    """How maps are averaged over views of an image."""

    flip: bool = False
    """average with the map of the mirrored image"""
    scales: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    """average over the image at these multiples of the network's input side; the first one's resolution is kept"""


def write_maps(
    fabric: Fabric,
    model: OnBackbone,
    predict: Predict,
    index: ImageIndex,
    training: TrainingParams,
    inference: InferenceParams,
    path: Path,
    rows: Rows = AGNOSTIC,
    features: FeatureStore | None = None,
) -> None:
    """Write the maps of every image of `index` to the store at `path`.

    Memory is bounded by the batch, whatever the number of images. Under `torchrun` every process computes its share of
    the batches, and the first one writes.

    Args:
        fabric: from `devices.launch`.
        model: with its `backbone`, whose interpolation squashes the images; moved to the device and set to evaluation.
        predict: what to compute.
        index: the images.
        training: for the side of the input and the batch.
        inference: views to average over.
        path: the output.
        rows: labels of an image's maps.
        features: cached features of the images, in place of the images.
    """

    def averaged(model: OnBackbone, inputs: Tensor, labels: Tensor) -> Tensor:
        if features is not None:
            return average_stored_views(model, predict, inputs, labels, features.params.views)
        return average_views(model, predict, inputs, labels, inference)

    outputs = predictions(fabric, model, averaged, index, training, features=features)
    first = next(outputs)
    if not fabric.is_global_zero:
        for _ in outputs:
            pass
        return
    ids, labels = index.table["image_id"].tolist(), index.table["labels"].tolist()
    progress = tqdm(total=len(ids), desc="maps", unit="image", disable=None)
    with create(path, Kind.SCORE, *first.shape[2:]) as writer, progress:
        done = 0
        for maps in chain([first], outputs):
            part = slice(done, done + len(maps))
            wanted = [sorted(own) if rows == "labels" else list(rows) for own in labels[part]]
            counts = [len(own) for own in wanted]
            found = np.concatenate([own[:count] for own, count in zip(maps.numpy(), counts, strict=True)])
            writer.append(np.repeat(ids[part], counts).tolist(), list(chain(*wanted)), found)
            progress.update(len(maps))
            done += len(maps)


def average_views(
    model: OnBackbone, predict: Predict, images: Tensor, labels: Tensor, params: InferenceParams
) -> Tensor:
    """The mean of the maps `(B, M, h, w)` of an image's views: each scale, and each mirrored."""
    maps: list[Tensor] = []
    for scale in params.scales:
        view = resize_images(images, scale)
        maps.append(predict(model, view, labels).float())
        if params.flip:
            maps.append(predict(model, view.flip(3), labels).float().flip(3))
    if len(maps) == 1:
        return maps[0]
    return torch.stack([functional.interpolate(each, maps[0].shape[2:], mode="bilinear") for each in maps]).mean(0)


def views_of(params: NetworkParams, inference: InferenceParams) -> InferenceParams:
    """The views of an image that a network's maps are averaged over: those of its features, else those asked for."""
    if params.features is None:
        return inference
    return InferenceParams(flip="mirrored" in params.features.views)


def average_stored_views(
    model: OnBackbone, predict: Predict, rows: Tensor, labels: Tensor, views: Sequence[View]
) -> Tensor:
    """The mean of the maps `(B, M, h, w)` of a store's rows `(B, V, D)`: of the plain and the mirrored view.

    What a network says upside down is not asked for: it was not trained so.
    """
    maps = [view_of(predict(model, rows[:, number], labels).float(), view) for number, view in upright(views)]
    return torch.stack(maps).mean(0) if len(maps) > 1 else maps[0]


def average_stored_classes(predict: Predict, views: Sequence[View]) -> Predict:
    """The same of class probabilities `(B, C)`: from rows, their mean over the same views."""

    def averaged(model: OnBackbone, rows: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([predict(model, rows[:, number], labels).float() for number, _ in upright(views)]).mean(0)

    return averaged


def upright(views: Sequence[View]) -> list[tuple[int, View]]:
    """The views in which networks learn and predict, with their places in a store."""
    return [(number, view) for number, view in enumerate(views) if view != "turned"]


def resize_images(images: Tensor, scale: float) -> Tensor:
    """Images `(B, 3, H, W)` uint8 at a multiple of their side, to the nearest 32 pixels."""
    sides = [max(32, round(side * scale / 32) * 32) for side in images.shape[2:]]
    if scale == 1:
        return images
    resized = functional.interpolate(images.float(), sides, mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def predictions(
    fabric: Fabric,
    model: OnBackbone,
    predict: Predict,
    index: ImageIndex,
    seen: Input,
    told: Tensor | None = None,
    features: FeatureStore | None = None,
) -> Iterator[Tensor]:
    """What `predict` says of all images of `index` in order, batch by batch, float32 on the CPU.

    Under `torchrun` every process computes its share, and all get all. In place of their labels `predict` gets the rows
    `told (N, ...)` of the images, if given, and in place of the images their cached `features (B, V, D)`.
    """
    fabric.to_device(in_fast_layout(model.eval()))
    side, batch = seen.inference_side, seen.batch
    images = SquashedImages(index.root, index.table, side, side, model.backbone.interpolation)
    told = padded_labels(index.table["labels"].tolist()) if told is None else told
    world, rank = fabric.world_size, fabric.global_rank
    count = len(images) if world == 1 else -(-len(images) // (batch * world)) * batch * world
    mine = [
        min(position, len(images) - 1)
        for start in range(rank * batch, count, batch * world)
        for position in range(start, min(start + batch, count))
    ]
    done = 0
    if features is None:
        inputs = image_batches(images, mine, batch)
    else:
        inputs = row_batches(fabric, features, index, mine, batch)
    for number, pictures in enumerate(inputs):
        own = told[mine[number * batch : (number + 1) * batch]]
        with fabric.autocast():
            found = predict(model, fabric.to_device(pictures), fabric.to_device(own)).float()
        gathered = fabric.all_gather(found) if world > 1 else found[None]
        assert isinstance(gathered, Tensor)
        for part in gathered.cpu():
            rest = part[: len(images) - done]
            done += len(rest)
            if len(rest):
                yield rest


def row_batches(
    fabric: Fabric, features: FeatureStore, index: ImageIndex, positions: Sequence[int], batch: int
) -> Iterator[Tensor]:
    """Batches `(B, V, D)` float16 of a store's rows, in the order of `positions` in `index`."""
    counts = (min(batch, len(positions) - start) for start in range(0, len(positions), batch))
    return regrouped(features.reader(fabric, index).read(positions), counts)


def padded_labels(labels: Sequence[Sequence[int]]) -> Tensor:
    """Labels of N images, ascending, as `(N, L)` int64; rows are filled up with -1."""
    table = np.full((len(labels), max((len(own) for own in labels), default=0)), CLASS_AGNOSTIC, dtype=np.int64)
    for row, own in zip(table, labels, strict=True):
        row[: len(own)] = sorted(own)
    return torch.from_numpy(table)
