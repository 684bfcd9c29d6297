"""BC-CT trained at once: the binary classifier's masks of the moment supervise the network (BC-CT 4.2).

A batch holds target images and background images, as many of each. The binary classifier (BC, `binary`)
learns to tell them apart; its gradient in the target images, taken in the same step, becomes masks (Eqs. 1, 2), and
these supervise the classification network (CT, `pixel_supervision`), which sees the target images alone. No gradient
passes through a mask, so neither network learns from the other's loss.

Against training one after the other, pictures and masks move together without stored masks, and early masks are those
of a classifier that has just begun. Both networks have a backbone of the same kind; BC's keeps its weights (5.1).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone
from wsol_core.data.loading import Batch
from wsol_core.methods.bcct.binary import AnswerParams, BinaryNet, frozen_backbone, strength_maps
from wsol_core.methods.bcct.masks import largest_parts
from wsol_core.methods.bcct.pixel_supervision import ClassificationNet, CTAnswer, CTParams, MaskLoss, answer_loss


class JointParams(CTParams):
    """CT, and the binary classifier that learns beside it; batches count targets and backgrounds together."""

    delta: float = Field(default=0.8, gt=0, le=1)
    """share of a map's maximum from which on a pixel belongs to the mask; the paper tries .7 to .9"""
    binary: AnswerParams
    """the binary classifier's features, and what becomes of their gradient"""


class JointAnswer(NamedTuple):
    """What both networks say of a batch with `T` target images."""

    answer: CTAnswer | None
    """CT's, of the target images; None if there are none"""
    logits: Tensor
    """`(B,)` float32: BC's, target against background"""
    masks: Tensor
    """`(T, r, r)` float32, 0 or 1: those that BC's gradient gives of the target images (Eq. 2)"""


class JointNet(ClassificationNet):
    """CT with BC beside it."""

    def __init__(self, backbone: Backbone, frozen: Backbone, params: JointParams, classes: int) -> None:
        super().__init__(backbone, params, classes)
        self.binary = BinaryNet(frozen, params.binary.level)
        self.params = params

    def forward(self, images: Tensor, targets: Tensor | None = None) -> CTAnswer | JointAnswer:  # type: ignore[override]
        """CT's answer; and with `targets (B,)`, 0 for a background image, those of both, as training needs them."""
        if targets is None:
            return super().forward(images)
        shown = targets > 0
        with torch.enable_grad():
            pixels = (images.float() / 255).requires_grad_()
            pooled = self.binary.pooled(pixels)
            answer = self.binary.logits(pooled)
            gradient = torch.autograd.grad(answer, pixels, answer.detach())[0]
        maps = strength_maps(gradient[shown], self.params.binary)
        masks = torch.from_numpy(largest_parts(maps.cpu().numpy(), self.params.delta)).to(maps)
        said = super().forward(images[shown]) if shown.any() else None
        return JointAnswer(said, self.binary.logits(pooled.detach()), masks)


def build_joint(params: JointParams, classes: int) -> JointNet:
    """Both untrained networks, each on a pretrained backbone."""
    frozen = frozen_backbone(params.backbone, params.binary)
    return JointNet(params.create_backbone(params.output_stride), frozen, params, classes)


def class_numbers(rows: pd.DataFrame) -> Sequence[np.int64]:
    """Targets: an image's class, counted from 1; 0 for a background image."""
    return [np.int64(labels[0] + 1 if len(labels) else 0) for labels in rows["labels"]]


def joint_loss(model: nn.Module, batch: Batch, mask: MaskLoss) -> Tensor:
    """BC's loss (Eq. 3) plus CT's (Eq. 6); `batch.targets (B,)` int64 are `class_numbers`.

    A batch without target images has BC's loss alone.
    """
    said: JointAnswer = model(batch.inputs, batch.targets)
    shown = batch.targets > 0
    l_bc = functional.binary_cross_entropy_with_logits(said.logits, shown.float())
    if said.answer is None:
        return l_bc
    return l_bc + answer_loss(said.answer, batch.targets[shown] - 1, said.masks, mask)
