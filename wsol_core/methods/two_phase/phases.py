"""Two-Phase learning: a second network finds what the first one left out (Two-Phase Learning, 3).

The first network is fully convolutional under global average pooling, and learns the labels of images that may have
several (3.2, 3.3). Where its heat maps of these classes are high, the features of a second such network are suppressed,
forward and backward, so that it has to tell the classes by something else (3.4, 3.5). At inference none are suppressed
(3.6), and the maps of both are merged by weighted map voting (Eq. 5): here they are weighted, `voting` merges them.

A later phase names the method whose maps it does not see again. The third is a second network that names the merged
maps of the first two, at a lower threshold (3.5); any other method's maps serve as well.

What the paper leaves open (trials: docs/papers/two_phase.md):
- H in Eq. 5 is divided by its maximum, negative values cut, so that a weighted map peaks at its class's probability,
  the confidence of 6.1; Eq. 1 says the same of a map whatever its scale.
- The logistic loss is summed over the classes.
- conv6 and conv7 are 3x3, without dropout and, as in the paper, without batch normalisation; at a high rate they can
  die on a summed loss: clip the gradient.

Deviation: the first network is a function of the whole image, not of the moved picture: its stored maps move with the
picture, in place of a forward pass in every step.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import TRAIN_WEAKSUP, DataSet, ImageIndex
from wsol_core.data.loading import Batch
from wsol_core.engine.targets import Targets
from wsol_core.engine.training_params import NetworkParams

Classes = Literal["label", "all"]
Mask = npt.NDArray[np.bool_]


class PhaseParams(NetworkParams):
    """A phase's network and its training; the first phase."""

    set: DataSet = "detection"
    """data set that it learns from and gives maps of"""
    output_stride: int = Field(default=8, ge=8, le=32)
    """pixels per cell of the maps: 8 takes pool4 and pool5 from VGG16 and gives 41x41 at 321 pixels (3.2)"""
    level: int = Field(default=-1, lt=0)
    """feature map of the pyramid that is suppressed and classified, counted from its end; the paper's is conv5-3"""
    width: int = Field(default=1024, gt=0)
    """channels of conv6 and conv7"""
    maps: Classes = "label"
    """classes whose maps are written: those of the image's labels (5.1), or all (6.1)"""
    saliency: int | None = Field(default=None, lt=0)
    """feature map of the pyramid whose gradient is written as saliency too, counted from its end; null: none"""

    @property
    def levels_read(self) -> tuple[int, ...]:
        """The level that is classified, and that of the saliency."""
        return (self.level,) if self.saliency is None else (self.level, self.saliency)


class LaterPhaseParams(PhaseParams):
    """A phase that does not see again what others have seen."""

    threshold: float = Field(default=0.6, ge=0, le=1)
    """share of a map's maximum above which it suppresses: .6 in the second phase, .4 in the third; 1 for no
    feedback, a control"""


class PhaseAnswer(NamedTuple):
    """What a phase's network says of images."""

    heat: Tensor
    """`(B, classes, h, w)` float32: the classifier's weights applied at each position"""
    logits: Tensor
    """`(B, classes)` float32: the average of `heat` over positions, plus the classifier's bias"""


class PhaseNet(OnBackbone):
    """The network of every phase: a backbone, conv6 and conv7, global average pooling and a classifier (3.2)."""

    def __init__(self, backbone: Backbone, params: PhaseParams, classes: int) -> None:
        super().__init__(backbone)
        self.level = params.level
        channels, width = backbone.channels[params.level], params.width
        self.convolve = nn.Sequential(convolution(channels, width), nn.ReLU(), convolution(width, width), nn.ReLU())
        self.classify = nn.Conv2d(params.width, classes, kernel_size=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, images: Tensor, mask: Tensor | None = None) -> PhaseAnswer:
        """Heat maps and logits of images `(B, 3, H, W)`, under a suppression mask `(B, h, w)` while training."""
        features = self.backbone(images)[self.level]
        if mask is not None:
            features = suppress(features, mask)
        features = self.convolve(features).float()
        with torch.autocast(features.device.type, enabled=False):
            heat = self.classify(features)
        return PhaseAnswer(heat, heat.mean((2, 3)) + self.bias)  # (B, classes, h, w), (B, classes)


def convolution(channels: int, width: int) -> nn.Conv2d:
    """conv6 or conv7, which keeps the variance of what it gets: `(B, channels, h, w)` to `(B, width, h, w)`."""
    layer = nn.Conv2d(channels, width, kernel_size=3, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


def build(params: PhaseParams, classes: int) -> PhaseNet:
    """The untrained network on its pretrained backbone."""
    return PhaseNet(params.create_backbone(params.output_stride), params, classes)


def suppress(features: Tensor, mask: Tensor) -> Tensor:
    """Features `(B, C, h, w)` times the mask, 0 or 1, in every channel (Eq. 3); so is their gradient (Eq. 4).

    A mask `(B, H, W)` of another resolution is resized, nearest.
    """
    mask = functional.interpolate(mask[:, None], features.shape[2:], mode="nearest-exact")
    return features * mask.to(features.dtype)


def suppression_mask(maps: npt.NDArray[np.float32], threshold: float) -> Mask:
    """Where none of the maps `(M, h, w)` of the classes present is high: `(h, w)`, False where suppressed (Eqs. 1, 2).

    High is above `threshold` times a map's own maximum, so that a constant positive map is high everywhere; a map
    without positive values is nowhere high.
    """
    peaks = maps.max(axis=(1, 2), keepdims=True)
    return np.asarray((maps <= threshold * peaks).all(axis=0))


def feedback(store: Path, rows: pd.DataFrame, threshold: float) -> list[Mask]:
    """The suppression mask of each image of `rows`, from the maps of its labels (3.4).

    Raises:
        InputError: an image has neither a map of one of its labels nor a class-agnostic one.
    """
    with MapStore(store) as seen:
        return [
            suppression_mask(_maps_of(seen, image_id, labels), threshold)
            for image_id, labels in zip(rows["image_id"], rows["labels"], strict=True)
        ]


def _maps_of(seen: MapStore, image_id: str, labels: Sequence[int]) -> npt.NDArray[np.float32]:
    found = np.empty((len(labels), *seen.shape), np.float32)
    for own, label in zip(found, labels, strict=True):
        score_map = seen.find(image_id, label)
        if score_map is None:
            raise InputError(
                f"{seen.path}: image {image_id!r} has no map of its label {label}; make the maps of labels or all"
            )
        own[:] = score_map
    return found


class MaskedLabels:
    """A network's targets `(classes + 1, h, w)` float32: a plane for each class, 0 or 1, and last the suppression mask.

    Args:
        labels: the classes present, by position.
        masks: `(h, w)`, by position.
        classes: how many there are.
    """

    def __init__(self, labels: Sequence[Sequence[int]], masks: Sequence[Mask], classes: int) -> None:
        self._labels, self._masks, self._classes = labels, masks, classes

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, position: int) -> npt.NDArray[np.float32]:
        mask = self._masks[position]
        planes = np.zeros((self._classes + 1, *mask.shape), np.float32)
        planes[list(self._labels[position])] = 1
        planes[-1] = mask
        return planes


def first_targets(classes: int) -> Targets:
    """Targets of the first phase, which sees everything: the labels, under a mask of one cell."""
    nothing = np.ones((1, 1), dtype=bool)
    return lambda rows: MaskedLabels(rows["labels"].tolist(), [nothing] * len(rows), classes)


def later_targets(classes: int, store: Path, threshold: float) -> Targets:
    """Targets of a later phase: the labels, under the feedback of the maps in `store`."""
    return lambda rows: MaskedLabels(rows["labels"].tolist(), feedback(store, rows, threshold), classes)


def different_labels(index: ImageIndex) -> ImageIndex:
    """The same index.

    Raises:
        InputError: all training images have the same labels.
    """
    if len({tuple(sorted(labels)) for labels in index.split(TRAIN_WEAKSUP)["labels"]}) == 1:
        raise InputError(
            f"data set {index.name!r}: all images of {TRAIN_WEAKSUP} have the same labels; Two-Phase learning needs "
            "images with a class and images without it"
        )
    return index


def logistic_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The multi-label logistic loss (3.3), summed over classes, mean over images; targets are `MaskedLabels`."""
    labels, mask = batch.targets[:, :-1, 0, 0], batch.targets[:, -1]
    logits = model(batch.inputs, mask).logits
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(logits)


def weighted_maps(model: PhaseNet, images: Tensor, labels: Tensor, classes: Classes) -> Tensor:
    """A phase's maps `(B, M, h, w)` in [0, 1], each times its class's probability: p * H in Eq. 5.

    Args:
        model: the phase's network.
        images: `(B, 3, H, W)` uint8.
        labels: `(B, L)` int64; the maps of negative ones mean nothing.
        classes: whose maps, the labels' or all classes'.
    """
    heat, logits = model.forward(images)
    chosen = labels.clamp(min=0) if classes == "label" else torch.arange(logits.shape[1], device=logits.device)[None]
    own = heat.take_along_dim(chosen[:, :, None, None], dim=1).relu()  # (B, M, h, w)
    own = own / own.amax((2, 3), keepdim=True).clamp(min=torch.finfo(own.dtype).tiny)
    return own * torch.sigmoid(logits).take_along_dim(chosen, dim=1)[:, :, None, None]
