"""A standalone classifier, which names the class of an image while a localization method finds its box (SPOL 3.4).

The deepest features of any backbone are averaged over all positions and pass one linear layer, without dropout. PSOL
and SPOL take DenseNet161 and EfficientNet-B7, and train on random crops. Top-1 and Top-5 localization take its class
and the method's box; its own features play no part in the box.

Deviation: where timm's pyramid of a network (EfficientNet-B7) ends before its last 1x1 convolution, the linear layer
stands on the features before it.
"""

from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.data.loading import Batch
from wsol_core.engine.training_params import NetworkParams


class ClassifierParams(NetworkParams):
    """The classifier, its training and its inference."""

    ten_crop: bool = False
    """average the probabilities of ten crops as large as the training's; else the whole image is seen at once"""

    @model_validator(mode="after")
    def _has_room_for_crops(self) -> Self:
        if self.ten_crop and self.training.resize <= self.training.image_side:
            raise ValueError("ten_crop needs a training.resize greater than training.image_side")
        return self


class Classifier(OnBackbone):
    """A backbone, global average pooling and a linear layer: images `(B, 3, H, W)` to logits `(B, C)`.

    Args:
        backbone: its deepest level is classified.
        classes: C, at least 1.
        crop_side: pixels, of the ten crops at inference; None for the whole image.
    """

    def __init__(self, backbone: Backbone, classes: int, crop_side: int | None = None) -> None:
        super().__init__(backbone)
        self.crop_side = crop_side
        self.head = nn.Linear(backbone.channels[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.head(self.backbone(images)[-1].mean((2, 3)))
        return logits


def build(params: ClassifierParams, classes: int) -> Classifier:
    """The untrained classifier on its pretrained backbone."""
    crop_side = params.training.image_side if params.ten_crop else None
    return Classifier(params.create_backbone(), classes, crop_side)


def classification_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross entropy, mean over images; `batch.targets (B,)` int64 are their classes."""
    return functional.cross_entropy(model(batch.inputs), batch.targets)


def ten_crops(images: Tensor, side: int) -> list[Tensor]:
    """The centre and the four corners of images `(B, 3, H, W)`, each `(B, 3, side, side)`, then their mirror images."""
    bottom, right = (extent - side for extent in images.shape[2:])
    corners = ((bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right))
    crops = [images[:, :, top : top + side, left : left + side] for top, left in corners]
    return [*crops, *(crop.flip(3) for crop in crops)]


def class_probabilities(model: Classifier, images: Tensor, _: Tensor) -> Tensor:
    """Probabilities of the classes `(B, C)`, the mean over ten crops where the model has them.

    The images are whole, squashed to `training.inference_side`; their labels play no part.
    """
    views = [images] if model.crop_side is None else ten_crops(images, model.crop_side)
    return torch.stack([functional.softmax(model(view).float(), dim=1) for view in views]).mean(0)
