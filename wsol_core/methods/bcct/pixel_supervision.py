"""CT, the classification network of BC-CT, whose class maps are supervised by masks (BC-CT 4.1, 4.3, 5.1).

Deviations:
- Masks and the branch's map are compared at the masks' resolution, not at the image's.
- The new 3x3 convolutions are followed by batch normalisation and a ReLU.
- The class maps' averages are the class logits (5.1); a layer behind the average (4.1) would leave no class maps.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.core.errors import InputError
from wsol_core.data.index import ImageIndex
from wsol_core.engine.training_params import NetworkParams

Classes = Literal["label", "predicted"]
MaskLoss = Literal["bce", "foreground", "none"]


class CTParams(NetworkParams):
    """The classification network (CT) and its training."""

    mask_loss: MaskLoss = "bce"
    """binary cross entropy; the paper's Eq. 5, without a term for the background; or none, for a control"""
    width: int = Field(default=1024, gt=0)
    """channels of the 3x3 convolutions; 1024 in the paper"""
    output_stride: int = Field(default=16, ge=8, le=32)
    """pixels per cell of the class maps: 16 gives 14x14 at 224 pixels"""
    level: int = Field(default=-1, lt=0)
    """feature map of the pyramid that is classified, counted from its end"""
    maps: Classes = "label"
    """class of the activation map: `label` (ground truth) or `predicted` (argmax)"""


class CTAnswer(NamedTuple):
    """What CT says of images."""

    class_maps: Tensor
    """`(B, classes, h, w)` float32; their averages over positions are the class logits"""
    mask_logits: Tensor
    """`(B, h, w)` float32: the branch's map before the sigmoid"""


class ClassificationNet(OnBackbone):
    """CT: class maps on a backbone's features, and on the class maps the branch with one channel (4.1 and 5.1)."""

    def __init__(self, backbone: Backbone, params: CTParams, classes: int) -> None:
        super().__init__(backbone)
        self.level = params.level
        self.classify = convolutions(backbone.channels[params.level], params.width, classes)
        self.branch = convolutions(classes, params.width, 1)

    def forward(self, images: Tensor) -> CTAnswer:
        """Class maps and mask logits."""
        class_maps = self.classify(self.backbone(images)[self.level])
        return CTAnswer(class_maps.float(), self.branch(class_maps).squeeze(1).float())


def convolutions(channels: int, width: int, outputs: int) -> nn.Sequential:
    """The paper's block (5.1): two 3x3 convolutions and a 1x1 one; `(B, channels, h, w)` to `(B, outputs, h, w)`."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, outputs, 1),
    )  # fmt: skip


def build(params: CTParams, classes: int) -> ClassificationNet:
    """The untrained CT on its pretrained backbone."""
    return ClassificationNet(params.create_backbone(params.output_stride), params, classes)


def several_classes(index: ImageIndex) -> ImageIndex:
    """The same index.

    Raises:
        InputError: all its images are of one class.
    """
    labels = {label for labels in index.table["labels"] for label in labels}
    if len(labels) < 2:
        raise InputError(
            f"data set {index.name!r} has one class only, a classification network needs two; take the maps of the "
            "binary classifier (bcct/binary) as a method instead"
        )
    return index


def answer_loss(answer: CTAnswer, classes: Tensor, masks: Tensor, mask: MaskLoss) -> Tensor:
    """Eq. 6 of images with classes `(B,)` int64 and masks `(B, H, W)` float32."""
    l_cls = functional.cross_entropy(answer.class_maps.mean((2, 3)), classes)
    return l_cls + mask_loss(answer.mask_logits, masks, mask)


def mask_loss(logits: Tensor, masks: Tensor, form: MaskLoss) -> Tensor:
    """What the branch `(B, h, w)` pays for missing masks `(B, H, W)`, mean over pixels; it is resized to them.

    `foreground` is Eq. 5, which ones everywhere minimise; `bce` also counts the background; `none` is 0.
    """
    logits = functional.interpolate(logits[:, None], masks.shape[1:], mode="bilinear")[:, 0]  # (B, H, W)
    match form:
        case "bce":
            return functional.binary_cross_entropy_with_logits(logits, masks)
        case "foreground":
            return -(masks * functional.logsigmoid(logits)).mean()
        case "none":
            return 0 * logits.sum()


def class_maps(model: ClassificationNet, images: Tensor, labels: Tensor, classes: Classes) -> Tensor:
    """CT's activation maps `(B, M, h, w)` in [0, 1]: of each of the labels `(B, L)`, or of the class that it says.

    Negative values are cut, the rest is divided by its maximum; a map without positive values is 0 everywhere.
    """
    maps = model(images).class_maps
    chosen = labels.clamp(min=0) if classes == "label" else maps.mean((2, 3)).argmax(1, keepdim=True)
    own: Tensor = maps.take_along_dim(chosen[:, :, None, None], dim=1).relu()  # (B, M, h, w)
    return own / own.amax((2, 3), keepdim=True).clamp(min=torch.finfo(own.dtype).tiny)


def map_of_likeliest(heat: Tensor, classes: Tensor) -> Tensor:
    """The maps `(B, h, w)` of the likeliest classes, cut below 0 and divided by their maximum.

    Args:
        heat: class maps `(B, classes, h, w)`.
        classes: scores `(B, classes)`.
    """
    own = heat.take_along_dim(classes.argmax(1)[:, None, None, None], dim=1)[:, 0].relu()  # (B, h, w)
    return own / own.amax((1, 2), keepdim=True).clamp(min=torch.finfo(own.dtype).tiny)


def class_probabilities(model: ClassificationNet, images: Tensor, _: Tensor) -> Tensor:
    """Probabilities of the classes `(B, classes)`."""
    return model.forward(images).class_maps.mean((2, 3)).softmax(1)


def branch_maps(model: ClassificationNet, images: Tensor, _: Tensor) -> Tensor:
    """The branch's maps `(B, 1, h, w)` in [0, 1], A in Eq. 5; the images' labels play no part."""
    return torch.sigmoid(model(images).mask_logits)[:, None]
