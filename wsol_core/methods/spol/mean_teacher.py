"""MFF-Net 2 with a teacher for the pixels that pseudo labels ignore: a row beside SPOL's own, which leaves them unseen.

The teacher's weights are the exponential moving average of the student's (Mean teachers are better role models,
Tarvainen and Valpola 2017). It sees the features as they are, the student a strong view of the same features: channels
dropped out and a square erased (Cutout, DeVries and Taylor 2017), since cached features have no colour to change. Where
the pseudo labels ignore a pixel and the teacher is sure, its answer takes the label's place (FixMatch, Sohn et al.
2020); so the loss is Eq. 7 with more pixels. Until it is sure of something, that is MFF-Net 2's training on strong
views. Maps are the teacher's.

Deviations:
- Student and teacher share the backbone, also where it trains.
- The student learns labelled pixels from the strong view too, not from the weak one.
- The teacher's batch normalisation has statistics of its own, of the weak views that it sees in training.
- The teacher follows before each of the student's passes, so it lags a step behind, and with `accumulate` it follows
  once for each part of a batch.
"""

import copy
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.core.map_store import IGNORE
from wsol_core.data.loading import Batch
from wsol_core.heads.pixel_loss import ImageWeights, pixel_loss
from wsol_core.methods.spol.networks import SegmentationNet, SegmentationParams, segmentation_loss


class MeanTeacherParams(SegmentationParams):
    """MFF-Net 2, its teacher, and their training."""

    decay: float = Field(default=0.99, ge=0, lt=1)
    """share of its weights that the teacher keeps in a step; less in the first steps"""
    confidence: float = Field(default=0.95, ge=0.5, le=1)
    """probability of its answer, foreground or background, from which the teacher is sure"""
    channel_dropout: float = Field(default=0.5, ge=0, lt=1)
    """share of each level's channels that the student does not see"""
    erased_side: float = Field(default=0.5, ge=0, le=1)
    """side of the square that the student does not see, as a share of the map's; parts may lie outside the map"""


class MeanTeacherNet(OnBackbone):
    """MFF-Net 2 twice on one backbone: the student that learns, and the teacher that follows it.

    Args:
        backbone: of both.
        params: of both, of the teacher's pace and of the strong view.
    """

    updates: Tensor

    def __init__(self, backbone: Backbone, params: MeanTeacherParams) -> None:
        super().__init__(backbone)
        self.student = SegmentationNet(backbone, params, outputs=1)
        self.student.backbone = cast(Backbone, nn.Identity())  # both are given the backbone's levels
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.decay, self.channel_dropout, self.erased_side = params.decay, params.channel_dropout, params.erased_side

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits `(B, h, w)` float32 of images `(B, 3, H, W)`.

        In training the student's heads, and at the end the teacher's deepest one; else the teacher's heads.
        """
        pyramid = self.backbone(images)
        if not self.training:
            return cast(list[Tensor], self.teacher(pyramid))
        self.follow()
        with torch.no_grad():
            answer = self.teacher(pyramid)[-1]
        return [*self.student(strong_view(pyramid, self.channel_dropout, self.erased_side)), answer]

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher's weights towards the student's; in the first steps they are the mean of all so far."""
        decay = min(self.decay, 1 - 1 / (int(self.updates) + 1))
        for own, other in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            own.lerp_(other, 1 - decay)
        self.updates += 1


def build_mean_teacher(params: MeanTeacherParams) -> MeanTeacherNet:
    """The untrained networks on their pretrained backbone."""
    return MeanTeacherNet(params.create_backbone(params.output_stride), params)


def strong_view(pyramid: list[Tensor], channel_dropout: float, erased_side: float) -> list[Tensor]:
    """Levels `(B, C, h, w)` without some channels, and without one square, of the same place in all levels.

    Args:
        pyramid: levels of the same images.
        channel_dropout: share of the channels; the others are enlarged to make up for them.
        erased_side: side of the square as a share of a level's sides; its centre may lie anywhere in the map.
    """
    batch = len(pyramid[0])
    centres = torch.rand(2, batch, 1, device=pyramid[0].device)
    seen = []
    for level in pyramid:
        inside = []
        for centre, cells in zip(centres, level.shape[2:], strict=True):
            places = (torch.arange(cells, device=level.device) + 0.5) / cells  # (cells,)
            inside.append((places - centre).abs() < erased_side / 2)  # (B, cells)
        kept = ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])  # (B, 1, h, 1) and (B, 1, 1, w)
        seen.append(functional.dropout2d(level, channel_dropout) * kept)
    return seen


def mean_teacher_loss(model: nn.Module, batch: Batch, confidence: float, weights: ImageWeights = "equal") -> Tensor:
    """SPOL's Eq. 7, on the pixels of the pseudo labels and on ignored ones of which the teacher is sure.

    The held-out loss is the teacher's own, on the pixels of the pseudo labels.

    Args:
        model: a `MeanTeacherNet`.
        batch: targets `(B, h, w)` hold 0, 1 or 255 (ignored).
        confidence: see `MeanTeacherParams`.
        weights: of the images, by the labels that the student learns.
    """
    if not model.training:
        return segmentation_loss(model, batch, weights)
    *student, answer = model(batch.inputs)
    labels = completed(batch.targets, answer, confidence)
    return pixel_loss(torch.stack(student, dim=1), labels, weights)  # logits (B, heads, h, w)


def completed(labels: Tensor, answer: Tensor, confidence: float) -> Tensor:
    """Labels `(B, H, W)` with the teacher's answer, 0 or 1, where they are 255 and it is sure.

    Args:
        labels: 0, 1 or 255 (ignored).
        answer: logits `(B, h, w)`, resized to the labels.
        confidence: least probability of the answer.
    """
    foreground = torch.sigmoid(functional.interpolate(answer[:, None], labels.shape[1:], mode="bilinear")[:, 0])
    sure = (labels == IGNORE) & (torch.maximum(foreground, 1 - foreground) >= confidence)
    return torch.where(sure, (foreground > 0.5).to(labels.dtype), labels)
