"""MFF-Net, the network of both of SPOL's steps (Shallow Feature Matters, 3.2 and 3.3).

Features of several stages pass a channel attention that they share (MCA, 3.3), come to one width and one resolution,
and are multiplied element by element (MFF, Eq. 1): a deep stage silences the background noise of a shallow one, a
shallow stage sharpens the deep ones, and each learns through the others (Eq. 2). Other fusions stand beside it, for
Fig. 3 and Table 2.

Deviations (trials: docs/papers/spol.md):
- A stage's 1x1 convolution is followed by batch normalisation and a ReLU, as signed factors silence nothing.
- Under bf16 autocast stages are fused, pooled and classified in float32: products are not rounded to 8 bits once more.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, cast

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.core.errors import InputError
from wsol_core.engine.training_params import NetworkParams

WIDTH = 128
"""C', the common width of the stages."""

Fusion = Literal["multiply", "add", "concat", "separate"]
"""Product (Fig. 3d, Eq. 1), sum (Fig. 3c, Eq. 3), concatenation (Table 2), or none: deep supervision (Fig. 3b), where
each stage has a head of its own."""


class MFFParams(NetworkParams):
    """What both MFF-Nets have in common."""

    output_stride: int = Field(default=32, ge=8, le=32)
    """stride of the backbone's last stage, in pixels"""
    levels: tuple[Annotated[int, Field(lt=0)], ...] = Field(default=(-3, -2, -1), min_length=1, max_length=4)
    """feature maps of the pyramid that are fused, counted from its end, shallow to deep; the paper's are the last 3"""
    fusion: Fusion = "multiply"
    """how stages become one; with one stage all are the same"""
    attention: bool = True
    """whether stages pass the shared channel attention (MCA, 3.3) first; Table 3 has the row without"""

    @field_validator("levels")
    @classmethod
    def _shallow_to_deep(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if list(levels) != sorted(set(levels)):
            raise ValueError("levels go from shallow to deep, each once, for example [-3, -2, -1]")
        return levels


class MultiplicativeChannelAttention(nn.Module):
    """Gates for the channels of every stage from the product of all stages' pooled features (SPOL 3.3)."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.squeeze = nn.ModuleList(nn.Conv2d(width, WIDTH, kernel_size=1) for width in channels)
        self.excite = nn.ModuleList(nn.Conv2d(WIDTH, width, kernel_size=1) for width in channels)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Gates `(B, C_k, 1, 1)` in (0, 1) of stages `(B, C_k, h_k, w_k)`."""
        pooled = [  # (B, C_k, 1, 1) to (B, WIDTH, 1, 1)
            squeeze(features.mean((2, 3), keepdim=True)) for squeeze, features in zip(self.squeeze, stages, strict=True)
        ]
        latent = math.prod(pooled[1:], start=pooled[0])  # (B, WIDTH, 1, 1)
        return [torch.sigmoid(excite(latent)) for excite in self.excite]


class Projection(nn.Sequential):
    """A 1x1 convolution of a gated stage to the common width, batch normalisation and a ReLU: none is negative.

    A gate scales a channel of one image. It is put into that image's weights, as these are fewer numbers than features,
    and so that frozen features need no gradient.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, WIDTH, kernel_size=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())

    def forward(self, features: Tensor, gate: Tensor | None = None) -> Tensor:
        """A stage `(B, C, h, w)`, channels times their gates `(B, C, 1, 1)`, at the common width `(B, WIDTH, h, w)`."""
        weights = cast(Tensor, self[0].weight).flatten(1)[None]  # (1, WIDTH, C)
        weights = weights.expand(len(features), -1, -1) if gate is None else weights * gate.flatten(1)[:, None]
        projected = torch.bmm(weights.to(features.dtype), features.flatten(2))  # (B, WIDTH, h * w)
        found: Tensor = self[2](self[1](projected.reshape(*projected.shape[:2], *features.shape[2:])))
        return found


def fuse(stages: Sequence[Tensor], fusion: Fusion) -> list[Tensor]:
    """What the heads see of stages `(B, C, h, w)` of one shape: one tensor, or for `separate` each stage.

    `multiply` and `add` keep the shape (the summands of SPOL Eqs. 1 and 3), `concat` gives `(B, K * C, h, w)`.
    """
    match fusion:
        case "multiply":
            return [math.prod(stages[1:], start=stages[0])]
        case "add":
            return [sum(stages[1:], start=stages[0])]
        case "concat":
            return [torch.cat(list(stages), dim=1)]
        case "separate":
            return list(stages)


class MFFNet(OnBackbone):
    """Stages of a backbone, attended, projected and fused, and 1x1 convolutions as heads on them.

    A single stage without attention is plain: not projected either, but a feature map under a linear head,
    which is the network of class activation maps (Zhou et al.), and as MFF-Net 2 WSFL's pixel classifier.

    Args:
        backbone: with the levels of `params`.
        params: levels, fusion and attention.
        outputs: of each head.

    Raises:
        InputError: the backbone has no such level.
    """

    def __init__(self, backbone: Backbone, params: MFFParams, outputs: int) -> None:
        super().__init__(backbone)
        if -params.levels[0] > len(backbone.channels):
            raise InputError(f"level {params.levels[0]}: the backbone has {len(backbone.channels)} feature maps")
        channels = [backbone.channels[level] for level in params.levels]
        self.levels, self.fusion = params.levels, params.fusion
        self.plain = len(channels) == 1 and not params.attention
        self.width = channels[0] if self.plain else WIDTH
        self.attention = MultiplicativeChannelAttention(channels) if params.attention else None
        self.project = nn.ModuleList() if self.plain else nn.ModuleList(Projection(width) for width in channels)
        count = len(channels) if params.fusion == "separate" else 1
        width = self.width * (len(channels) if params.fusion == "concat" else 1)
        self.heads = nn.ModuleList(nn.Conv2d(width, outputs, kernel_size=1) for _ in range(count))

    def stages(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """What is fused: `(B, C, h, w)` float32 for each stage, with `h` and `w` of the shallowest."""
        seen = [pyramid[level] for level in self.levels]
        if self.plain:
            return [features.float() for features in seen]
        gates = self.attention(seen) if self.attention is not None else [None] * len(seen)
        projected = [project(*each).float() for project, *each in zip(self.project, seen, gates, strict=True)]
        resolution = projected[0].shape[2:]
        return projected[:1] + [functional.interpolate(deep, resolution, mode="bilinear") for deep in projected[1:]]

    def classify(self, features: Sequence[Tensor]) -> list[Tensor]:
        """What each head says of its features `(B, C, h, w)`, in float32: `(B, outputs, h, w)`."""
        with torch.autocast(features[0].device.type, enabled=False):
            return [head(own) for head, own in zip(self.heads, features, strict=True)]

    def head_weights(self) -> list[Tensor]:
        """The weights `(outputs, C)` of each head, float32."""
        return [cast(Tensor, head.weight).flatten(1) for head in self.heads]  # (outputs, C, 1, 1) to (outputs, C)

    def stage_weights(self) -> list[Tensor]:
        """The part of the heads' weights `(outputs, C)` that sees each stage; product and sum have one for all."""
        weights = torch.cat(self.head_weights(), dim=1)  # (outputs, sum of C)
        parts = weights.chunk(weights.shape[1] // self.width, dim=1)
        return list(parts) * (len(self.levels) // len(parts))
