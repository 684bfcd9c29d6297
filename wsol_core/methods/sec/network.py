"""SEC: a segmentation network from image labels and localization cues, as Two-Phase Learning (4) uses it.

Kolesnikov and Lampert, Seed, Expand and Constrain. *Seed*: the network shall agree with the cues (`cues.py`)
where there are any. *Expand*: a global weighted rank pooling of its maps shall agree with the image's labels.
*Constrain*: its segmentation shall follow the edges of the picture, as a dense CRF draws them. Two-Phase learning
leaves out *expand*, since its cues are wide (4.4). The network is DeepLab-LargeFOV; class 0 is the background, 1 + k
the class with label k.

From SEC's public code: the floor of probabilities; the two pools before the wide convolution; dropout; the classifier
starts at deviation .01; the means over present and over absent classes; and the gradient of the CRF, where the
derivative of log Q is taken as if Q were the softmax of the network's scores, of which only the diagonal is kept
(`crf_gradient: diagonal`). `constant` takes Q as a fixed target.

Deviations:
- fc6 and fc7 start random, as only convolutional weights are at hand, and have batch normalisation.
- Decays of the rank pooling, for 41x41 positions, are stretched to maps of another size: the same share counts.
- Pictures are antialiased as they shrink to the CRF's size.
- A class that an image shows counts in *expand* even where a crop has cut it off.
- *constrain* may begin after some steps (`constrain_after`; trials: docs/papers/two_phase.md). A CRF makes the least
  preference certain, and with random layers the first preferences mean nothing.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Self, cast

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.core.crf_params import FLOOR, CRFParams
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.data.index import DataSet
from wsol_core.data.loading import Batch
from wsol_core.engine.targets import Targets
from wsol_core.engine.training_params import NetworkParams
from wsol_core.methods.sec.cues import ABSENT, CUE, ImageCues
from wsol_core.methods.sec.exact_crf import mean_field

POSITIONS = 41 * 41
"""Positions of the map that the decays are for."""

LossName = Literal["seed", "expand", "constrain"]
CRFGradient = Literal["diagonal", "constant"]


class MapCRFParams(CRFParams):
    """The dense CRF on maps of 41x41, a pixel to the cell: deviations in place are a twelfth of those for the image."""

    appearance_pixels: float = Field(default=80 / 12, gt=0)
    """standard deviation in place of neighbours alike in place and colour, in cells"""
    smoothness_pixels: float = Field(default=3 / 12, gt=0)
    """that of neighbours in place, in cells"""


class SecParams(NetworkParams):
    """The segmentation network and its training."""

    set: DataSet = "detection"
    """data set that it learns from and gives maps of"""
    output_stride: int = Field(default=8, ge=8, le=32)
    """pixels per cell of the maps: 8 gives 41x41 at 321 pixels on VGG16"""
    level: int = Field(default=-1, lt=0)
    """feature map of the pyramid that is classified, counted from its end"""
    pooling: int = Field(default=3, ge=1)
    """side, odd, of the maximum and the average pool before the wide convolution; 1 for none"""
    width: int = Field(default=1024, gt=0)
    """channels of fc6 and fc7"""
    dilation: int = Field(default=12, ge=1)
    """of fc6, a 3x3 convolution, in cells; 12 for 41x41"""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """behind fc6 and fc7"""
    losses: tuple[LossName, ...] = Field(default=("seed", "constrain"), min_length=1)
    """terms of the loss: SEC has all three, Two-Phase learning leaves out expand"""
    decay_present: float = Field(default=0.996, ge=0, le=1)
    """d+: decay of the rank pooling for classes that an image shows; 0 is the maximum, 1 the mean"""
    decay_absent: float = Field(default=0.0, ge=0, le=1)
    """d-: for the others"""
    decay_background: float = Field(default=0.999, ge=0, le=1)
    """for the background"""
    constrain_after: int = Field(default=0, ge=0)
    """steps without the constrain loss, until the others have taken hold; none in the public code"""
    crf: MapCRFParams = MapCRFParams()
    """of the constrain loss"""
    crf_gradient: CRFGradient = "diagonal"
    """how the CRF's answer follows the network's: as in the public code, or not at all"""

    @model_validator(mode="after")
    def _something_to_begin_with(self) -> Self:
        if self.constrain_after and self.losses == ("constrain",):
            raise ValueError("constrain_after: no other loss to begin with; add seed or expand to losses")
        return self

    @field_validator("pooling")
    @classmethod
    def _odd(cls, side: int) -> int:
        if side % 2 == 0:
            raise ValueError("pools have an odd side, so that maps keep theirs")
        return side


class LargeFov(OnBackbone):
    """DeepLab-LargeFOV on a backbone: images `(B, 3, H, W)` to scores `(B, 1 + L, h, w)` float32, background first."""

    steps: Tensor
    """how often it has seen a batch in training"""

    def __init__(self, backbone: Backbone, params: SecParams, classes: int) -> None:
        super().__init__(backbone)
        self.level = params.level
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.head = nn.Sequential(
            nn.MaxPool2d(params.pooling, 1, params.pooling // 2),
            nn.AvgPool2d(params.pooling, 1, params.pooling // 2),
            *convolution(backbone.channels[params.level], params.width, 3, params.dilation, params.dropout),
            *convolution(params.width, params.width, 1, 1, params.dropout),
        )
        self.classify = nn.Conv2d(params.width, 1 + classes, kernel_size=1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.constant_(cast(Tensor, self.classify.bias), 0)

    def forward(self, images: Tensor) -> Tensor:
        """Scores before the softmax."""
        self.steps += self.training
        features = self.head(self.backbone(images)[self.level]).float()
        with torch.autocast(features.device.type, enabled=False):
            scores: Tensor = self.classify(features)
        return scores


def convolution(channels: int, width: int, side: int, dilation: int, dropout: float) -> list[nn.Module]:
    """fc6 or fc7, of the same height and width: `(B, channels, h, w)` to `(B, width, h, w)`."""
    padding = dilation * (side // 2)
    convolve = nn.Conv2d(channels, width, side, padding=padding, dilation=dilation, bias=False)
    return [convolve, nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(dropout)]


def build(params: SecParams, classes: int) -> LargeFov:
    """The untrained network on its pretrained backbone; `classes` without the background."""
    return LargeFov(params.create_backbone(params.output_stride), params, classes)


def image_cues(cues: Targets, classes: int) -> Targets:
    """The network's targets from cues and the images' labels."""
    return lambda rows: ImageCues(cues(rows), rows["labels"].tolist(), classes)


def probabilities(scores: Tensor) -> Tensor:
    """The softmax of scores `(B, 1 + L, h, w)` over classes, with `FLOOR` added to each before they sum to 1 again."""
    return (scores.softmax(1) + FLOOR) / (1 + FLOOR * scores.shape[1])


def seed_loss(p: Tensor, cues: Tensor) -> Tensor:
    """L_seed: minus the mean of log p over an image's cues, mean over images; one without cues counts 0.

    Args:
        p: probabilities `(B, 1 + L, h, w)`.
        cues: the same shape, bool.
    """
    sums = (cues * p.log()).sum((1, 2, 3))
    return -(sums / cues.sum((1, 2, 3)).clamp(min=1)).mean()


def weighted_rank_pooling(maps: Tensor, decay: float) -> Tensor:
    """G: the mean `(...)` of maps `(..., h, w)`, where the value of rank j, 0 the highest, weighs `decay ** j`.

    A decay of 0 is the maximum, 1 the mean. It is for `POSITIONS` ranks: with n the exponent is `j * POSITIONS / n`.
    """
    ordered = maps.flatten(-2).sort(-1, descending=True).values  # (..., h * w)
    count = ordered.shape[-1]
    ranks = torch.arange(count, dtype=maps.dtype, device=maps.device) * (POSITIONS / count)
    weights = torch.full_like(ranks, decay) ** ranks
    return (ordered * (weights / weights.sum())).sum(-1)


def expand_loss(p: Tensor, present: Tensor, decays: tuple[float, float, float]) -> Tensor:
    """L_expand: the labels against the pooled maps, mean over images.

    Minus the mean of log G over the classes that an image shows, of log (1 - G) over the others, and log G of the
    background; a mean over no class is 0.

    Args:
        p: probabilities `(B, 1 + L, h, w)`.
        present: `(B, L)` bool.
        decays: for present classes, absent ones and the background.
    """
    shown, hidden = (weighted_rank_pooling(p[:, 1:], decay) for decay in decays[:2])
    background = weighted_rank_pooling(p[:, 0], decays[2])
    return -(_mean(shown.log(), present) + _mean((1 - hidden).log(), ~present) + background.log()).mean()


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum(1) / chosen.sum(1).clamp(min=1)


def constrain_loss(p: Tensor, log_q: Tensor) -> Tensor:
    """L_constrain: the mean over positions of the divergence KL(Q || p), both `(B, 1 + L, h, w)`, mean over images."""
    return (log_q.exp() * (log_q - p.log())).sum(1).mean()


def crf_log_q(scores: Tensor, images: Tensor, params: SecParams) -> Tensor:
    """What a dense CRF on the shrunk pictures makes of the scores: log Q `(B, 1 + L, h, w)`, with Q at least `FLOOR`.

    Args:
        scores: `(B, 1 + L, h, w)`.
        images: `(B, 3, H, W)` uint8.
        params: the CRF, and its gradient.
    """
    small = functional.interpolate(images.float(), scores.shape[2:], mode="bilinear", antialias=True)
    small = small.round().clamp(0, 255).to(torch.uint8)
    q = mean_field(-scores.detach().log_softmax(1), small, params.crf).clamp(min=FLOOR)
    q = q / q.sum(1, keepdim=True)
    match params.crf_gradient:
        case "constant":
            return q.log()
        case "diagonal":
            return q.log() + (1 - q) * (scores - scores.detach())


def sec_loss(model: nn.Module, batch: Batch, params: SecParams) -> Tensor:
    """The sum of the terms that `params` names, *constrain* from its step on.

    `batch.targets` are `ImageCues`, resized to the scores, nearest.
    """
    scores = model(batch.inputs)
    targets = functional.interpolate(batch.targets, scores.shape[2:], mode="nearest-exact")
    p = probabilities(scores)
    decays = params.decay_present, params.decay_absent, params.decay_background
    losses: dict[LossName, Callable[[], Tensor]] = {
        "seed": lambda: seed_loss(p, targets == CUE),
        "expand": lambda: expand_loss(p, targets[:, 1:, 0, 0] != ABSENT, decays),
        "constrain": lambda: constrain_loss(p, crf_log_q(scores, batch.inputs, params)),
    }
    early = int(cast(LargeFov, model).steps) <= params.constrain_after
    return torch.stack([losses[name]() for name in params.losses if name != "constrain" or not early]).sum()


def label_rows(classes: int) -> Sequence[int]:
    """Labels under which `label_maps` are stored: -1, then every class."""
    return range(CLASS_AGNOSTIC, classes)


def label_maps(model: LargeFov, images: Tensor, _: Tensor) -> Tensor:
    """Probabilities `(B, 1 + L, h, w)` in [0, 1]: of any foreground, 1 - p of the background; then of each class.

    The images' labels play no part. The first is the class-agnostic map of a segmentation.
    """
    p = model.forward(images).softmax(1).clamp(0, 1)
    return torch.cat([1 - p[:, :1], p[:, 1:]], dim=1)
