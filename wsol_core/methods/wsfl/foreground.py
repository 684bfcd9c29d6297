"""WSFL's pixel classifier: a foreground map from a classification network (Weakly Supervised Foreground Learning, 3.4).

The network keeps its convolutional layers; pooling and classifier give way to one 1x1 convolution with one output, so
that it says of each cell of its last feature map whether it is foreground. It learns from the low-resolution pseudo
masks of `pseudo_masks` with binary cross entropy.

A trained classifier transfers: on another data set it predicts as it is (`transfer:`), or starts a training there
(`starts_from`, Table 4).

Deviations:
- Where the masks are finer or coarser than the feature map (a parameter), the logits are resized to them.
- Cells of masks may be ignored, and images weighted by their masks' agreement, both by parameter.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.data.loading import Batch
from wsol_core.engine.training_params import NetworkParams
from wsol_core.heads.pixel_loss import ImageWeights, pixel_loss


class ForegroundParams(NetworkParams):
    """The pixel classifier and its training."""

    output_stride: int = Field(default=16, ge=8, le=32)
    """pixels per cell of the map: 16 gives 14x14 at 224 pixels (WSFL 4.2)"""
    level: int = -1
    """feature map of the pyramid that is classified, counted from its end"""
    image_weights: ImageWeights = "equal"
    """how much images count: all the same, or by `agreement`: of the pixels that may be the object, the ignored ones
    included, the share that is foreground; for labels with ignored pixels"""


class PixelClassifier(OnBackbone):
    """A backbone and a 1x1 convolution: images `(B, 3, H, W)` to foreground logits `(B, h, w)`."""

    def __init__(self, backbone: Backbone, level: int = -1) -> None:
        super().__init__(backbone)
        self.level = level
        self.head = nn.Conv2d(backbone.channels[level], 1, kernel_size=1)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the foreground."""
        logits: Tensor = self.head(self.backbone(images)[self.level])
        return logits.squeeze(1)  # (B, 1, h, w) to (B, h, w)


def build(params: ForegroundParams) -> PixelClassifier:
    """The untrained classifier on its pretrained backbone."""
    return PixelClassifier(params.create_backbone(params.output_stride), params.level)


def foreground_loss(model: nn.Module, batch: Batch, weights: ImageWeights = "equal") -> Tensor:
    """`pixel_loss` with the pseudo masks `batch.targets (B, h, w)`: their mean binary cross entropy (WSFL 3.4)."""
    return pixel_loss(model(batch.inputs)[:, None], batch.targets, weights)


def foreground_maps(model: nn.Module, images: Tensor, _: Tensor) -> Tensor:
    """Foreground probabilities `(B, 1, h, w)`; the images' labels play no part."""
    return torch.sigmoid(model(images).float())[:, None]
