"""MIST: several instances for each class, boxes that are corrected, and parts that are hidden from the detector.

Instance-aware, Context-focused, and Memory-efficient Weakly Supervised Object Detection. Onto OICR's branches it puts

- multiple instance self-training: not one seed for each class of the image but every good proposal that none better
  overlaps (Algorithm 1);
- class-specific box regression: each branch also learns to move a proposal onto its seed;
- Concrete DropBlock: a generator learns which cells of a proposal's features to hide so that the losses grow, so that
  the detector has to use the context instead of the most telling part.

What is ours: two 3x3 convolutions make the generator, which starts at half of its highest probability; a draw of the
binary concrete distribution is rounded in the forward pass and smooth in the backward pass; as in DropBlock, a block's
probability is spread over its cells; the generator learns by a reversed gradient, in the same step and at the same rate
as the detector. Regression targets have Faster R-CNN's divisors, and the smooth L1 loss turns linear at 1.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou

from wsol_core.core.params import Block

DIVISORS = (0.1, 0.1, 0.2, 0.2)
"""Of the regression targets, which brings them to about the same spread."""
LARGEST_GROWTH = math.log(1000 / 16)
"""A side grows by a factor of 62.5 at the most, so that no box becomes infinite."""


class DropBlockParams(Block):
    """Concrete DropBlock."""

    largest: float = Field(default=0.3, gt=0, lt=1)
    """tau, the highest probability that a cell is hidden"""
    block: Literal[1, 3, 5, 7] = 3
    """side of a hidden block, in cells"""
    temperature: float = Field(default=0.3, gt=0)
    """of the concrete distribution: the lower, the steeper the gradient near a draw"""


class MistParams(Block):
    """Multiple instance self-training."""

    share: float = Field(default=0.15, gt=0, le=1)
    """p, the share of an image's proposals, best first, among which a class's seeds are sought"""
    overlap: float = Field(default=0.2, gt=0, le=1)
    """tau, the overlap with any better proposal from which one is no seed"""
    drop_block: DropBlockParams | None = None
    """null for none"""


def spread_seeds(scores: Tensor, boxes: Tensor, present: Tensor, params: MistParams) -> Tensor:
    """Seeds of each class present: pairs `(S, 2)` int64 of proposal and class, best first in a class (Algorithm 1).

    A seed overlaps none of *all* better proposals, be they seeds or not. Greedy suppression would ask only after better
    seeds, and so take every second proposal of a chain of overlapping ones.

    Args:
        scores: `(R, C)` or `(R, C + 1)`, R > 0.
        boxes: `(R, 4)`.
        present: classes of the image, int64, in the order of the seeds.
        params: how many to look at, and which overlap is too much.
    """
    best = max(1, int(params.share * len(boxes)))
    seeds = [present.new_empty(0, 2)]
    for label in present:
        ranked = scores[:, label].argsort(descending=True, stable=True)[:best]
        better = box_iou(boxes[ranked], boxes[ranked]).tril(-1)
        kept = ranked[better.amax(1) < params.overlap]
        seeds.append(torch.stack([kept, label.expand_as(kept)], dim=1))
    return torch.cat(seeds)


def encode(boxes: Tensor, targets: Tensor) -> Tensor:
    """How to move `boxes (R, 4)` onto `targets (R, 4)`: shift of the centre in sides, logarithm of growth `(R, 4)`."""
    centre, sides = _centre(boxes)
    wanted, wanted_sides = _centre(targets)
    moves = torch.cat([(wanted - centre) / sides, (wanted_sides / sides).log()], dim=1)
    return moves / moves.new_tensor(DIVISORS)


def decode(boxes: Tensor, moves: Tensor) -> Tensor:
    """The boxes `(R, C, 4)` that `boxes (R, 4)` become by the moves `(R, C, 4)` of each class."""
    centre, sides = (part[:, None] for part in _centre(boxes))
    shift, growth = torch.split(moves * moves.new_tensor(DIVISORS), 2, dim=2)
    half = sides * growth.clamp(max=LARGEST_GROWTH).exp() / 2
    middle = centre + shift * sides
    return torch.cat([middle - half, middle + half], dim=2)


def _centre(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[:, :2], boxes[:, 2:]
    return (low + high) / 2, high - low


def regression_loss(moves: Tensor, wanted: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted smooth L1 loss of the proposals that are no background, summed over coordinates, mean over all.

    Of a proposal's moves those of its own class alone learn.

    Args:
        moves: `(R, C, 4)`, for each class; the background has none.
        wanted: `(R, 4)` from `encode`.
        labels: `(R,)` int64, C for background.
        weights: `(R,)`.
    """
    rows = (labels < moves.shape[1]).nonzero().squeeze(1)
    losses = functional.smooth_l1_loss(moves[rows, labels[rows]], wanted[rows], reduction="none").sum(1)
    return (weights[rows] * losses).sum() / max(1, len(labels))


class ReversedGradient(torch.autograd.Function):
    """The identity, whose gradient has the opposite sign: what stands before it learns to raise the loss."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        """The same values."""
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        """The gradient's opposite."""
        return -gradient


class ConcreteDropBlock(nn.Module):
    """Hides blocks of the features `(R, C, h, w)` of proposals while training; the others grow to keep the mean."""

    def __init__(self, channels: int, params: DropBlockParams) -> None:
        super().__init__()
        self.params = params
        width = max(1, channels // 4)
        self.generate = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 1, kernel_size=3, padding=1),
        )
        last = self.generate[-1].bias
        assert isinstance(last, Tensor)
        nn.init.constant_(last, torch.tensor(params.largest / 2).logit().item())

    def forward(self, features: Tensor) -> Tensor:
        """The features with blocks hidden, the same in all channels; in evaluation as they are."""
        if not self.training or not len(features):
            return features
        logits = self.generate(features.detach()).float()
        hidden = ReversedGradient.apply(draw_blocks(torch.sigmoid(logits), self.params))
        kept = 1 - hidden
        cells = kept[0].numel()
        scaled: Tensor = features * (kept * cells / kept.sum((1, 2, 3), keepdim=True).clamp(min=1)).to(features.dtype)
        return scaled


def draw_blocks(probabilities: Tensor, params: DropBlockParams) -> Tensor:
    """Cells that are hidden, `(R, 1, h, w)`, 0 or 1, with the gradient of their concrete relaxation.

    Each cell is the centre of a hidden block with probability min(p, tau) over the block's cells, independently: the
    logit plus logistic noise is positive so often. A cell is hidden by any block that reaches it, so about as often as
    min(p, tau) says.

    Args:
        probabilities: p `(R, 1, h, w)` in [0, 1].
        params: tau, block and temperature.
    """
    logits = (probabilities.clamp(max=params.largest) / params.block**2).clamp(min=1e-6).logit()
    noise = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6).logit()
    soft = torch.sigmoid((logits + noise) / params.temperature)
    hard = (soft > 0.5).to(soft.dtype) + (soft - soft.detach())
    hidden: Tensor = functional.max_pool2d(hard, params.block, stride=1, padding=params.block // 2)
    return hidden
