"""SPOL's MFF-Net in its segmentation role (Shallow Feature Matters, 3.2 to 3.5).

Features of several stages pass a channel attention that they share (MCA, 3.3), come to one width and one resolution,
and are multiplied element by element (MFF, Eq. 1): a deep stage silences the background noise of a shallow one, a
shallow stage sharpens the deep ones, and each learns through the others (Eq. 2). A 1x1 convolution then says
foreground or background; it learns from tri-state pseudo labels, whose ignored pixels carry no loss (Eq. 7).

Deviation: the logits are resized to the pseudo labels' resolution.
"""

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, BackboneParams, create_backbone
from wsol_core.data.loading import Batch
from wsol_core.maps import IGNORE
from wsol_core.params import Block
from wsol_core.training import TrainingParams

WIDTH = 128
"""C', the common width of the stages."""


class SegmentationParams(Block):
    """MFF-Net 2 and its training."""

    sources: tuple[str, ...]
    """methods whose Gaussian labels it learns from; one network each"""
    backbone: BackboneParams
    """the network that it starts from"""
    output_stride: int = Field(default=32, ge=8, le=32)
    """stride of the backbone's last stage, in pixels"""
    levels: tuple[int, ...] = Field(default=(-3, -2, -1), min_length=1)
    """feature maps of the pyramid that are fused, counted from its end, shallow to deep; the paper's are the last 3"""
    training: TrainingParams
    """how it is trained"""


class MultiplicativeChannelAttention(nn.Module):
    """Gates for the channels of every stage from the product of all stages' pooled features (SPOL 3.3)."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.squeeze = nn.ModuleList(nn.Conv2d(width, WIDTH, kernel_size=1) for width in channels)
        self.excite = nn.ModuleList(nn.Conv2d(WIDTH, width, kernel_size=1) for width in channels)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Stages `(B, C_k, h_k, w_k)`, gated, shapes unchanged."""
        pooled = [
            squeeze(features.mean((2, 3), keepdim=True)) for squeeze, features in zip(self.squeeze, stages, strict=True)
        ]
        latent = math.prod(pooled[1:], start=pooled[0])
        return [features * torch.sigmoid(excite(latent)) for excite, features in zip(self.excite, stages, strict=True)]


def multiply(stages: Sequence[Tensor]) -> Tensor:
    """The element-wise product of stages `(B, C, h, w)` of one shape (the summand of SPOL Eq. 1)."""
    return math.prod(stages[1:], start=stages[0])


class MFFNet(nn.Module):
    """Multiplicative feature fusion: images `(B, 3, H, W)` to foreground logits at the shallowest fused stage."""

    def __init__(self, backbone: Backbone, levels: Sequence[int]) -> None:
        super().__init__()
        channels = [backbone.channels[level] for level in levels]
        self.backbone = backbone
        self.levels = tuple(levels)
        self.attention = MultiplicativeChannelAttention(channels)
        self.project = nn.ModuleList(nn.Conv2d(width, WIDTH, kernel_size=1) for width in channels)
        self.head = nn.Conv2d(WIDTH, 1, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, h, w)`, with `h` and `w` of the shallowest fused stage."""
        pyramid = self.backbone(images)
        stages = self.attention([pyramid[level] for level in self.levels])
        resolution = stages[0].shape[2:]
        projected = [
            functional.interpolate(project(features), resolution, mode="bilinear")
            for project, features in zip(self.project, stages, strict=True)
        ]
        logits: Tensor = self.head(multiply(projected))
        return logits.squeeze(1)


def build(params: SegmentationParams) -> MFFNet:
    """The untrained network on its pretrained backbone."""
    return MFFNet(create_backbone(params.backbone, params.output_stride), params.levels)


def segmentation_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Binary cross entropy on the pixels that are not ignored, summed and divided by all pixels (SPOL Eq. 7).

    `batch.targets (B, h, w)` hold 0, 1 or 255 (ignored).
    """
    logits = model(batch.images)
    logits = functional.interpolate(logits[:, None], batch.targets.shape[1:], mode="bilinear").squeeze(1)
    known = batch.targets != IGNORE
    return functional.binary_cross_entropy_with_logits(logits, batch.targets * known, weight=known.to(logits.dtype))


def segmentation_maps(model: nn.Module, images: Tensor) -> Tensor:
    """Foreground probabilities `(B, h, w)`."""
    return torch.sigmoid(model(images).float())
