"""BC, the binary classifier of BC-CT, and the masks that come of it (Add Pixel-level Supervision for Free, 3).

A linear layer on frozen, pretrained features learns to tell target images from background images. What it says of an
image, propagated back to the pixels, lights up on the object (Eq. 1). The pixels from `delta` of the maximum on, of
them the largest part, are a mask (Eq. 2). The features alone, propagated back without any background image, are the
paper's baseline (Fig. 3, second row).

Deviations (trials: docs/papers/bcct.md):
- The layer sees the features' average over positions, the paper's the fully connected layers of VGG16.
- Three colours of a gradient become one by the maximum of their absolute values, each pixel gets its rank in the image
  (`strength`), a Gaussian smooths that, and the result is divided by its maximum; the paper leaves this open.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, BackboneParams, OnBackbone, create_backbone
from wsol_core.core.params import Block
from wsol_core.data.loading import Batch
from wsol_core.engine.training_params import NetworkParams

Strength = Literal["rank", "value"]


class AnswerParams(Block):
    """Which features answer, and what becomes of their gradient."""

    output_stride: int = Field(default=32, ge=8, le=32)
    """pixels per cell of the features"""
    level: int = Field(default=-1, lt=0)
    """feature map of the pyramid that answers, counted from its end"""
    strength: Strength = "rank"
    """what of a gradient is smoothed: each pixel's rank in its image, or the absolute value itself"""
    smoothing: float = Field(default=0.04, gt=0, le=1)
    """standard deviation of the Gaussian, as a share of the image's side"""
    resolution: int = Field(default=56, gt=0)
    """side of the maps, in cells"""


class GradientParams(AnswerParams, NetworkParams):
    """A network whose answer is propagated back to the pixels; its training, where it has one."""


class BinaryNet(OnBackbone):
    """BC: images `(B, 3, H, W)` to the logit of "target, not background" `(B,)`; its backbone does not learn."""

    def __init__(self, backbone: Backbone, level: int) -> None:
        super().__init__(backbone.requires_grad_(False))
        self.level = level
        self.head = nn.Linear(backbone.channels[level], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32."""
        return self.logits(self.pooled(images))

    def pooled(self, images: Tensor) -> Tensor:
        """The features' averages over positions `(B, C)`, float32."""
        features: Tensor = self.backbone(images)[self.level]
        return features.float().mean((2, 3))

    def logits(self, pooled: Tensor) -> Tensor:
        """The answer to averages."""
        logits: Tensor = self.head(pooled).squeeze(1)
        return logits.float()


class FeatureNet(OnBackbone):
    """The pretrained network alone: images `(B, 3, H, W)` to its features `(B, C, h, w)`."""

    def __init__(self, backbone: Backbone, level: int) -> None:
        super().__init__(backbone.requires_grad_(False))
        self.level = level

    def forward(self, images: Tensor) -> Tensor:
        """Features, float32."""
        features: Tensor = self.backbone(images)[self.level]
        return features.float()


def build_binary(params: GradientParams) -> BinaryNet:
    """The untrained BC on its pretrained backbone."""
    return BinaryNet(frozen_backbone(params.backbone, params), params.level)


def build_features(params: GradientParams) -> FeatureNet:
    """The pretrained features of the baseline."""
    return FeatureNet(frozen_backbone(params.backbone, params), params.level)


def frozen_backbone(backbone: BackboneParams, params: AnswerParams) -> Backbone:
    """The backbone with its weights and the statistics of its batch normalisation as they are."""
    found = create_backbone(backbone.model_copy(update={"frozen_batch_norm": True}), params.output_stride)
    found.check_level(params.level)
    return found


def binary_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Binary cross entropy, mean over images (Eq. 3); `batch.targets (B,)` int64: 1 for a target image, else 0."""
    return functional.binary_cross_entropy_with_logits(model(batch.inputs), batch.targets.float())


def no_loss(model: nn.Module, batch: Batch) -> Tensor:
    """0: the features learn nothing."""
    answer: Tensor = model(batch.inputs)
    return answer.sum() * 0


def backward(model: nn.Module, images: Tensor) -> Tensor:
    """G `(B, 3, H, W)` float32: the model's answer, taken as a gradient, propagated back to the images (Eq. 1).

    That is the gradient of half the answer's square; for a single logit its own gradient, times the logit.
    """
    with torch.enable_grad():
        pixels = (images.float() / 255).requires_grad_()
        answer = model(pixels)
        return torch.autograd.grad(answer, pixels, answer.detach())[0]


def gradient_maps(model: nn.Module, images: Tensor, _: Tensor, params: AnswerParams) -> Tensor:
    """Maps `(B, 1, r, r)` in [0, 1] of images `(B, 3, H, W)` uint8; 0 everywhere where the gradient is."""
    return strength_maps(backward(model, images), params)[:, None]


def strength_maps(gradient: Tensor, params: AnswerParams) -> Tensor:
    """Maps `(B, r, r)` in [0, 1] of gradients `(B, 3, H, W)`.

    Their maximum of absolutes over colours, as ranks or as it is, smoothed, and divided by its maximum.
    """
    strength = gradient.abs().amax(1)  # (B, 3, H, W) to (B, H, W)
    strength = ranks(strength) if params.strength == "rank" else strength
    maps = smooth(strength, params.resolution, params.smoothing)
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def ranks(maps: Tensor) -> Tensor:
    """For each value of maps `(B, h, w)` the share of its map's values that are lower, in [0, 1) float32."""
    flat = maps.flatten(1).contiguous()  # (B, h * w)
    lower = torch.searchsorted(flat.sort(1).values, flat)
    return (lower.float() / flat.shape[1]).view(maps.shape)


def smooth(maps: Tensor, resolution: int, deviation: float) -> Tensor:
    """Maps `(B, h, w)` under a Gaussian, seen at `resolution x resolution` points: `(B, r, r)` float32.

    Weights sum to 1 at the border too, so that a constant map stays as it is.

    Args:
        maps: float32.
        resolution: r; the points are the centres of its cells.
        deviation: of the Gaussian, as a share of the side.
    """

    def weights(side: int) -> Tensor:
        centres, pixels = ((torch.arange(n, device=maps.device) + 0.5) / n for n in (resolution, side))
        return (-(((centres[:, None] - pixels) / deviation) ** 2) / 2).softmax(1)

    down, across = (weights(side) for side in maps.shape[1:])
    with torch.autocast(maps.device.type, enabled=False):
        return down @ maps @ across.T  # (r, h) @ (B, h, w) @ (w, r): (B, r, r)
