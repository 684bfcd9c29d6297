"""MFF-Net 1 as SPOL's released code has it, beside the paper's (`networks`): one classifier that sees class maps.

The classifier is a 1x1 convolution that the fused features share with the projected last stage. Its class maps are cut
below 0 before they are averaged, in training too, so a class gains nothing from positions that speak against it. Half
of the fused features are dropped out, and the pooled features of the channel attention (MCA) pass batch normalisation
and a ReLU. Losses and maps are those of `networks`.

Deviation: the classifier has no bias, so that an activation map is what was averaged.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone
from wsol_core.heads.mff_net import WIDTH, fuse
from wsol_core.methods.spol.networks import CamNet, CamParams


class ReleasedParams(CamParams):
    """The released MFF-Net 1 and its training."""

    fusion: Literal["multiply", "add"] = "multiply"
    """how stages become one, of the width that the shared classifier sees"""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """share of the fused features that are dropped out in training"""


class PooledNorm(nn.BatchNorm2d):
    """Batch normalisation of pooled features `(B, C, 1, 1)`.

    A single image has no spread, so it meets the running statistics, in training too.
    """

    def forward(self, features: Tensor) -> Tensor:
        """The normalised features, of the same shape."""
        if len(features) > 1:
            return super().forward(features)
        return functional.batch_norm(
            features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class ReleasedNet(CamNet):
    """The released MFF-Net 1: images `(B, 3, H, W)` to class logits."""

    def __init__(self, backbone: Backbone, params: ReleasedParams, classes: int) -> None:
        super().__init__(backbone, params, classes)
        self.dropout, self.auxiliary = params.dropout, params.auxiliary != "none"
        self.heads = nn.ModuleList([nn.Conv2d(self.width, classes, kernel_size=1, bias=False)])
        if self.attention is not None:
            self.attention.squeeze = nn.ModuleList(
                nn.Sequential(nn.Conv2d(backbone.channels[level], WIDTH, 1, bias=False), PooledNorm(WIDTH), nn.ReLU())
                for level in params.levels
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Class logits `(B, classes)` float32 of the fused features, then those of the projected last stage."""
        stages = self.stages(self.backbone(images))
        (fused,) = fuse(stages, self.fusion)
        fused = functional.dropout(fused, self.dropout, self.training)
        return self.pooled_logits([fused]) + (self.pooled_logits(stages[-1:]) if self.auxiliary else [])

    def pooled_logits(self, fused: list[Tensor]) -> list[Tensor]:
        """Class logits `(B, classes)` of features `(B, C, h, w)`: averages of class maps that are cut below 0."""
        return [logits.relu().mean((2, 3)) for own in fused for logits in self.classify([own])]


def build_released(params: ReleasedParams, classes: int) -> ReleasedNet:
    """The untrained network on its pretrained backbone."""
    return ReleasedNet(params.create_backbone(params.output_stride), params, classes)
