"""The loss of networks that say foreground or background of each pixel: ignored pixels, images that weigh less.

Tri-state labels come from two thresholds: pixels above both are foreground, below both background, and between them
ignored. The IoU of the two shapes says how sure the labels of an image are, since an object that stands out from its
surroundings keeps its shape whatever the threshold.
"""

from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import IGNORE, Kind, MapStore
from wsol_core.data.targets import ImageTargets
from wsol_core.engine.targets import Targets, stored_maps

ImageWeights = Literal["equal", "agreement"]


def pixel_labels(store: Path, weights: ImageWeights) -> Targets:
    """Targets of `pixel_loss`: the masks, shares or tri-state labels of a store.

    Raises:
        InputError: when called, if an image has no map, or `agreement` is asked of labels of one threshold.
    """

    def find(rows: pd.DataFrame) -> ImageTargets:
        with MapStore(store) as labels:
            if weights == "agreement" and labels.kind is not Kind.TRISTATE:
                raise InputError(
                    f"{store}: has no ignored pixels, so no agreement to weigh images by; "
                    "leave out image_weights, or give pseudo_masks a margin"
                )
        return stored_maps(store)(rows)

    return find


def pixel_loss(logits: Tensor, labels: Tensor, weights: ImageWeights = "equal") -> Tensor:
    """Binary cross entropy on the pixels that are not ignored, summed and divided by all pixels (SPOL Eq. 7).

    By agreement it is the weighted mean over the images that are computed together: the sum of weight times loss over
    that of the weights, 0 where all weigh nothing.

    Args:
        logits: `(B, heads, h, w)`, resized to the labels, bilinear; the losses of several heads are added.
        labels: `(B, H, W)` float32 in [0, 1], or 255 where a pixel is ignored.
        weights: of the images.
    """
    if logits.shape[2:] != labels.shape[1:]:
        logits = functional.interpolate(logits, labels.shape[1:], mode="bilinear")
    known = (labels != IGNORE).to(labels.dtype)
    weight = known  # (B, H, W)
    if weights == "agreement":
        share = agreement(labels)
        weight = known * (share / share.mean().clamp_min(torch.finfo(share.dtype).tiny))[:, None, None]
    targets, weight = ((labels * known)[:, None].expand_as(logits), weight[:, None].expand_as(logits))
    return functional.binary_cross_entropy_with_logits(logits, targets, weight=weight) * logits.shape[1]


def agreement(labels: Tensor) -> Tensor:
    """The IoU `(B,)` of the shapes at both thresholds of tri-state labels `(B, h, w)`; 1 where both are empty.

    Example:
        >>> agreement(torch.tensor([[[1.0, 255, 0]], [[0, 0, 0]]])).tolist()
        [0.5, 1.0]
    """
    foreground, possible = (labels == 1).sum((1, 2)), (labels != 0).sum((1, 2))
    return torch.where(possible > 0, foreground / possible.clamp_min(1), 1.0)
