"""The L2 norm of the features at each position, the baseline that every learned map has to beat.

Networks that are trained to classify answer more strongly to what they know, so the norm of their features is larger on
objects than beside them. Nothing is trained and no label is seen; `training.epochs` is 0.
"""

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import Batch
from wsol_core.engine.inference import Predict
from wsol_core.engine.recipe import MapRecipe
from wsol_core.engine.targets import Targets, has_label
from wsol_core.engine.training import Loss
from wsol_core.engine.training_params import NetworkParams

TINY = 1e-12


class NormParams(NetworkParams):
    """Which features."""

    output_stride: int = Field(default=32, ge=8, le=32)
    """stride of the backbone's last stage, in pixels"""
    level: int = -1
    """feature map whose norm is taken, counted from the pyramid's end"""

    @model_validator(mode="after")
    def _trains_nothing(self) -> Self:
        if self.training.epochs:
            raise ValueError(f"training.epochs: {self.training.epochs}: the norm has nothing to train; set 0")
        return self


class NormNet(OnBackbone):
    """The norm of a level: images `(B, 3, H, W)` to maps `(B, h, w)` in [0, 1], the largest value of each being 1."""

    def __init__(self, backbone: Backbone, level: int) -> None:
        super().__init__(backbone)
        self.level = level

    def forward(self, images: Tensor) -> Tensor:
        """The norms as shares of each map's largest; zeros where all are 0."""
        features: Tensor = self.backbone(images)[self.level].float()
        norms = torch.linalg.vector_norm(features, dim=1)  # (B, C, h, w) to (B, h, w)
        shares: Tensor = norms / norms.amax((1, 2), keepdim=True).clamp_min(TINY)
        return shares


def norm_maps(model: nn.Module, images: Tensor, _: Tensor) -> Tensor:
    """The maps `(B, 1, h, w)`; the images' labels play no part."""
    maps: Tensor = model(images)
    return maps[:, None]


def no_loss(_: nn.Module, batch: Batch) -> Tensor:
    """0: nothing is trained."""
    return torch.zeros((), device=batch.inputs.device)


class NormRecipe(MapRecipe[NormParams]):
    """The norm: no training, a map per image."""

    params = NormParams

    def build(self, params: NormParams, classes: int) -> NormNet:
        """The backbone alone."""
        del classes
        return NormNet(params.create_backbone(params.output_stride), params.level)

    def targets(self, params: NormParams, index: ImageIndex) -> Targets:
        """None that plays a part."""
        del params, index
        return has_label

    def loss(self, params: NormParams, index: ImageIndex) -> Loss:
        """None."""
        del params, index
        return no_loss

    def maps(self, params: NormParams) -> Predict:
        """The norms."""
        del params
        return norm_maps


RECIPES = {"norm": NormRecipe()}
