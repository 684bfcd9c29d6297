"""FAM: one network that learns a foreground map and the class from labels (Foreground Activation Maps, 3).

Object-aware attention (3.1) says of each pixel whether it is foreground: a memory of appearance templates chooses the
pixel's own classifier, and sparsity holds the map back. Part-aware attention (3.2) finds K parts on the foreground and
classifies the image from them. Classification needs the foreground, sparsity silences the rest (3.3).

Deviations (trials: docs/papers/fam.md):
- The foreground module sees X centred and scaled per channel, as what all pixels share of X moves M as a whole.
- Parts pool the foreground features of Eq. 5; Eq. 7 names X, of which M can leave out all at no loss (`pooled`).
- Part discovery starts with far-apart weights; from the usual ones all parts stay alike, where L_div has no slope.
- Similarities are a softmax by default; as written in Eq. 1 they may be negative.
- Optimiser and schedule are ours, the paper names none. The heads run in float32.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.core.errors import InputError
from wsol_core.data.loading import Batch
from wsol_core.engine.training_params import NetworkParams

REDUCTION = 16
"""C over the width of queries and keys (3.1)."""
PART_SPREAD = 4.0
"""Standard deviation of the part discovery's first logits on features of unit variance."""
EPSILON = 1e-6
"""Below this a sum of similarities or the length of a feature counts as zero."""

Normalisation = Literal["sum", "softmax"]
Pooled = Literal["features", "foreground"]


class FamParams(NetworkParams):
    """FAM and its training."""

    output_stride: int = Field(default=16, ge=8, le=32)
    """pixels per cell of the maps"""
    level: int = Field(default=-1, lt=0)
    """feature map X of the pyramid, counted from its end"""
    memory: bool = True
    """whether the foreground map comes from the memory; else from three 1x1 convolutions (Table 2)"""
    templates: int = Field(default=3, ge=1)
    """N, the memory's keys and values (Fig. 7)"""
    normalisation: Normalisation = "softmax"
    """of a pixel's similarities: divided by their sum, as Eq. 1 is written, or their softmax"""
    parts: int = Field(default=5, ge=1)
    """K, the part-aware activation maps (Fig. 7)"""
    pooled: Pooled = "foreground"
    """what a part pools: X, as Eq. 7 is written, or the foreground features of Eq. 5"""
    importance: bool = True
    """whether parts are weighted by predicted importance (Eq. 9), else equally (Table 3)"""
    lambda_spa: float = Field(default=0.04, ge=0)
    """weight of the sparsity loss (Eq. 11)"""
    lambda_div: float = Field(default=0.01, ge=0)
    """weight of the diversity loss (Eq. 11)"""


class ForegroundMemory(nn.Module):
    """Features `(B, C, h, w)` to foreground logits `(B, h, w)`, by a memory of N appearance templates (3.1)."""

    def __init__(self, channels: int, templates: int, normalisation: Normalisation) -> None:
        super().__init__()
        width = max(1, channels // REDUCTION)
        self.normalisation: Normalisation = normalisation
        self.encode = nn.Conv2d(channels, width, kernel_size=1)
        self.keys = nn.Parameter(torch.randn(templates, width))
        self.values = nn.Parameter(torch.randn(templates, channels) * 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the foreground, before the sigmoid of Eq. 3."""
        return read_memory(x, similarities(self.encode(x), self.keys, self.normalisation), self.values)


def similarities(queries: Tensor, keys: Tensor, normalisation: Normalisation) -> Tensor:
    """How alike each pixel is to each key, `(B, N, h, w)`, with sum 1 over the keys (Eq. 1).

    As written, similarities of mixed signs can lie outside [0, 1] and have a sum near 0; where it is 0, all keys count
    the same.

    Args:
        queries: `(B, d, h, w)`.
        keys: `(N, d)`.
        normalisation: what makes the sum 1.
    """
    beta: Tensor = torch.einsum("bdhw,nd->bnhw", queries, keys) / keys.shape[1] ** 0.5  # (B, N, h, w)
    if normalisation == "softmax":
        return beta.softmax(1)
    total = beta.sum(1, keepdim=True)
    empty = total.abs() < EPSILON
    return beta.where(~empty, 1) / total.where(~empty, len(keys))


def read_memory(x: Tensor, similarity: Tensor, values: Tensor) -> Tensor:
    """What each pixel's own classifier says of it, `(B, h, w)` (Eqs. 2 and 3).

    The classifier `w = sum_n s_n v_n` is linear, so that the blend of the N answers `v_n x` is the same.

    Args:
        x: features `(B, C, h, w)`.
        similarity: `(B, N, h, w)`.
        values: `(N, C)`.
    """
    return (similarity * torch.einsum("bchw,nc->bnhw", x, values)).sum(1)  # (B, N, h, w) to (B, h, w)


class PlainForeground(nn.Sequential):
    """The control of Table 2: three 1x1 convolutions in place of the memory, about as many parameters."""

    def __init__(self, channels: int) -> None:
        width = max(1, channels // REDUCTION)
        super().__init__(
            nn.Conv2d(channels, width, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(width, 1, kernel_size=1),
            nn.Flatten(1, 2),
        )


def sparsity(foreground: Tensor) -> Tensor:
    """L_spa: the mean of the maps `(B, h, w)`, in [0, 1] (Eq. 4)."""
    return foreground.abs().mean()


def pool_parts(x: Tensor, attention: Tensor) -> Tensor:
    """Part features P `(B, K, C)`: the mean of `x (B, C, h, w)` times each map of `attention (B, K, h, w)` (Eq. 7)."""
    return torch.einsum("bchw,bkhw->bkc", x, attention) / attention[0, 0].numel()  # (B, K, C)


def diversity(parts: Tensor) -> Tensor:
    """L_div: the mean cosine between different parts of `parts (B, K, C)`, mean over images (Eq. 8); 0 for one part.

    The cosine with a part of length 0 is 0.
    """
    count = parts.shape[1]
    direction = functional.normalize(parts, dim=2, eps=EPSILON)
    cosines = direction @ direction.mT  # (B, K, K)
    others = cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)
    return others.mean() / max(1, count * (count - 1))


def weigh_parts(parts: Tensor, scores: Tensor) -> Tensor:
    """The object feature o `(B, C)`: parts `(B, K, C)` weighted by the softmax of their scores `(B, K, 1)` (Eq. 9)."""
    return (scores.softmax(1) * parts).sum(1)


class Fam(NamedTuple):
    """What the network says of B images."""

    foreground: Tensor
    """M `(B, h, w)` in [0, 1] (Eq. 3)"""
    attention: Tensor
    """A `(B, K, h, w)` in [0, 1], the part-aware activation maps (Eq. 6)"""
    parts: Tensor
    """P `(B, K, C)`, the part-aware features (Eq. 7)"""
    logits: Tensor
    """of the classes, `(B, L)`"""


class FamNet(OnBackbone):
    """A backbone under both attention modules: images `(B, 3, H, W)` to a `Fam`, float32.

    Args:
        backbone: its feature map `params.level` is X.
        params: of the modules.
        classes: L.
    """

    def __init__(self, backbone: Backbone, params: FamParams, classes: int) -> None:
        super().__init__(backbone)
        channels = backbone.channels[params.level]
        self.level, self.pooled = params.level, params.pooled
        self.centre = nn.BatchNorm2d(channels, affine=False)
        memory = ForegroundMemory(channels, params.templates, params.normalisation)
        self.locate: nn.Module = memory if params.memory else PlainForeground(channels)
        self.discover = nn.Conv2d(channels, params.parts, kernel_size=1)
        nn.init.normal_(self.discover.weight, std=PART_SPREAD / channels**0.5)
        self.importance = nn.Linear(channels, 1) if params.importance else None
        self.classify = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Fam:
        """Foreground, parts and class."""
        x = self.backbone(images)[self.level].float()
        with torch.autocast(x.device.type, enabled=False):
            return self.attend(x)

    def attend(self, x: Tensor) -> Fam:
        """Both modules on features `(B, C, h, w)`: Eqs. 3, 5 to 7 and 9, and the classifier."""
        foreground = torch.sigmoid(self.locate(self.centre(x)))
        masked = x * foreground[:, None]  # (B, C, h, w)
        attention = torch.sigmoid(self.discover(masked))
        parts = pool_parts(x if self.pooled == "features" else masked, attention)
        scores = parts.new_zeros(*parts.shape[:2], 1) if self.importance is None else self.importance(parts)
        return Fam(foreground, attention, parts, self.classify(weigh_parts(parts, scores)))


def build(params: FamParams, classes: int) -> FamNet:
    """The untrained network on its pretrained backbone."""
    return FamNet(params.create_backbone(params.output_stride), params, classes)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights `(L,)` inverse to the frequency of the `labels (N,)`, of mean 1 over them; 0 for a class without any.

    Raises:
        InputError: the labels are of one class, so that nothing holds the foreground against sparsity.
    """
    counts = labels.bincount(minlength=classes).float()
    present = counts > 0
    if present.sum() < 2:
        raise InputError("training images of one class only; FAM learns by telling classes apart, give it two or more")
    return present * len(labels) / (present.sum() * counts.clamp(min=1))


def balanced_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """L_cla (Eq. 10), each image by the weight of its class `weights (L,)`, mean over images."""
    return (weights[labels] * functional.cross_entropy(logits, labels, reduction="none")).mean()


def joint_loss(model: nn.Module, batch: Batch, weights: Tensor, params: FamParams) -> Tensor:
    """L_final from `batch.targets (B,)`, the labels (Eq. 11)."""
    found = model(batch.inputs)
    l_cla = balanced_cross_entropy(found.logits, batch.targets, weights.to(found.logits.device))
    return l_cla + params.lambda_spa * sparsity(found.foreground) + params.lambda_div * diversity(found.parts)


def foreground_maps(model: FamNet, images: Tensor, _: Tensor) -> Tensor:
    """Foreground maps `(B, 1, h, w)` in [0, 1]; the images' labels play no part."""
    return model.forward(images).foreground[:, None]


def part_maps(model: FamNet, images: Tensor, _: Tensor) -> Tensor:
    """Part-aware activation maps on the foreground, `(B, K, h, w)` in [0, 1] (Fig. 5): off it all of them are alike."""
    found = model.forward(images)
    return found.attention * found.foreground[:, None]


def class_probabilities(model: FamNet, images: Tensor, _: Tensor) -> Tensor:
    """Probabilities of the classes `(B, L)`."""
    return model.forward(images).logits.softmax(1)
