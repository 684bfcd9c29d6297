"""SPOL: activation maps from labels, then masks from activation maps (Shallow Feature Matters, 3.2 to 3.5).

MFF-Net 1 learns the images' labels from the fused features' average over all positions (Eq. 1) with a linear
classifier, and an auxiliary classifier on the backbone's last feature map helps it converge (3.5). The activation map
of a class is the classifier's weights applied to the fused features at each position, without the bias; negative values
are cut, and the rest is divided by its maximum. With one stage, no attention and no auxiliary loss this is the plain
class activation map of Zhou et al.

MFF-Net 2 says foreground or background at each position of the fused features; it learns from tri-state pseudo labels
(`gaussian`), whose ignored pixels carry no loss (Eq. 7). The network is in `heads/mff_net.py`.

Deviations:
- MFF-Net 2's logits are resized to the pseudo labels' resolution.
- By parameter images are weighted by their labels' agreement.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.data.loading import Batch
from wsol_core.heads.mff_net import MFFNet, MFFParams, fuse
from wsol_core.heads.pixel_loss import ImageWeights, pixel_loss

Auxiliary = Literal["cross_entropy", "agreement", "none"]
Classes = Literal["label", "predicted", "class_agnostic"]


class CamParams(MFFParams):
    """MFF-Net 1 and its training."""

    auxiliary: Auxiliary = "cross_entropy"
    """of the last stage: the paper's sum of two cross entropies (3.5); the released code's for CUB, see
    `classification_loss`; or none (Table 3)"""
    maps: Classes = "label"
    """class of the activation map: `label` (ground truth), `predicted` (argmax) or `class_agnostic` (softmax-weighted
    sum)"""


class SegmentationParams(MFFParams):
    """MFF-Net 2 and its training."""

    image_weights: ImageWeights = "equal"
    """how much images count: all the same, or by `agreement`: of the pixels that may be the object, the ignored ones
    included, the share that is foreground; for labels with ignored pixels"""


class CamNet(MFFNet):
    """An MFF-Net whose class logits are averages over positions, so that its class maps say where."""

    def pooled_logits(self, fused: list[Tensor]) -> list[Tensor]:
        """Class logits `(B, classes)` of each head, from the average over positions (SPOL Eqs. 1 and 3)."""
        pooled = [features.mean((2, 3), keepdim=True) for features in fused]  # (B, C, 1, 1) each
        return [logits.flatten(1) for logits in self.classify(pooled)]


class ClassificationNet(CamNet):
    """MFF-Net 1: images `(B, 3, H, W)` to class logits."""

    def __init__(self, backbone: Backbone, params: CamParams, classes: int) -> None:
        super().__init__(backbone, params, classes)
        width = backbone.channels[params.levels[-1]]
        self.last = nn.ModuleList([nn.Conv2d(width, classes, kernel_size=1)] if params.auxiliary != "none" else [])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Class logits `(B, classes)` float32: of each head, and at the end those of the auxiliary classifier."""
        pyramid = self.backbone(images)
        fused = fuse(self.stages(pyramid), self.fusion)
        deepest = pyramid[self.levels[-1]].float().mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return self.pooled_logits(fused) + [last(deepest).flatten(1).float() for last in self.last]


class SegmentationNet(MFFNet):
    """MFF-Net 2: images `(B, 3, H, W)` to foreground logits at the shallowest fused stage."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits `(B, h, w)` float32 of each head, with `h` and `w` of the shallowest fused stage."""
        return [logits.squeeze(1) for logits in self.classify(fuse(self.stages(self.backbone(images)), self.fusion))]


def build_cam(params: CamParams, classes: int) -> ClassificationNet:
    """The untrained MFF-Net 1 on its pretrained backbone."""
    return ClassificationNet(params.create_backbone(params.output_stride), params, classes)


def build(params: SegmentationParams) -> SegmentationNet:
    """The untrained MFF-Net 2 on its pretrained backbone."""
    return SegmentationNet(params.create_backbone(params.output_stride), params, outputs=1)


def classification_loss(model: nn.Module, batch: Batch, auxiliary: Auxiliary) -> Tensor:
    """MFF-Net 1's loss from `batch.targets (B,)`, the labels (SPOL 3.5); with several heads L_cls is their sum.

    `cross_entropy` is L_cls + L_aux. `agreement` is the mean of two: the auxiliary classifier's cross entropy, and that
    of the fused prediction with the auxiliary one, as fixed soft labels; fused features then see no label themselves.
    """
    if auxiliary == "none":
        return _cross_entropies(model(batch.inputs), batch.targets)
    *fused, last = model(batch.inputs)
    l_aux = functional.cross_entropy(last, batch.targets)
    if auxiliary == "agreement":
        return (l_aux + _cross_entropies(fused, last.detach().softmax(1))) / 2
    return _cross_entropies(fused, batch.targets) + l_aux


def _cross_entropies(logits: list[Tensor], targets: Tensor) -> Tensor:
    return torch.stack([functional.cross_entropy(own, targets) for own in logits]).sum()


def segmentation_loss(model: nn.Module, batch: Batch, weights: ImageWeights = "equal") -> Tensor:
    """`pixel_loss` of all heads with the pseudo labels `batch.targets (B, h, w)`: 0, 1 or 255 (SPOL Eq. 7)."""
    return pixel_loss(torch.stack(model(batch.inputs), dim=1), batch.targets, weights)  # logits (B, heads, h, w)


def segmentation_maps(model: OnBackbone, images: Tensor, _: Tensor) -> Tensor:
    """Foreground probabilities `(B, 1, h, w)`, of the deepest head; the images' labels play no part."""
    return torch.sigmoid(model(images)[-1])[:, None]


def activation_maps(model: CamNet, images: Tensor, labels: Tensor, classes: Classes) -> Tensor:
    """MFF-Net 1's activation maps `(B, M, h, w)` in [0, 1], of the deepest head.

    One for each of the images' labels, or one: of the class with the highest logit, or of all classes, weighted by
    their probabilities before negative values are cut.
    """
    fused = fuse(model.stages(model.backbone(images)), model.fusion)
    shares = class_shares(model.pooled_logits(fused)[-1], labels, classes)
    return activations(fused[-1], shares, model.head_weights()[-1])


def branch_maps(model: CamNet, images: Tensor, labels: Tensor, classes: Classes) -> Tensor:
    """What the classifier says of each stage alone (SPOL Fig. 7): `(B, K, h, w)` in [0, 1], shallow to deep.

    Of the first map's class, which the whole network chooses where it is not the label.
    """
    stages = model.stages(model.backbone(images))
    shares = class_shares(model.pooled_logits(fuse(stages, model.fusion))[-1], labels, classes)[:, :1]
    weights = model.stage_weights()
    return torch.cat([activations(stage, shares, own) for stage, own in zip(stages, weights, strict=True)], dim=1)


def class_shares(logits: Tensor, labels: Tensor, classes: Classes) -> Tensor:
    """How much of each class `(B, M, classes)` is in an image's M maps, float32; a row sums to 1.

    Args:
        logits: `(B, classes)`.
        labels: `(B, L)` int64; the maps of negative ones mean nothing.
        classes: which maps.
    """
    match classes:
        case "label":
            return functional.one_hot(labels.clamp(min=0), logits.shape[1]).float()
        case "predicted":
            return functional.one_hot(logits.argmax(1, keepdim=True), logits.shape[1]).float()
        case "class_agnostic":
            return logits.softmax(1)[:, None]


def activations(features: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """Maps `(B, M, h, w)` in [0, 1] of `features (B, C, h, w)`, for shares of classes and a classifier's weights.

    Cut below 0 and divided by their maximum; a map without positive values is 0 everywhere.

    Args:
        features: float32.
        shares: `(B, M, classes)`, float32.
        weights: `(classes, C)`, float32.
    """
    with torch.autocast(features.device.type, enabled=False):
        # (B, M, classes) @ (classes, C): a weight per map and channel; then (B, M, h, w)
        maps = torch.einsum("bmc,bchw->bmhw", shares @ weights, features).relu()
    return maps / maps.amax((2, 3), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
