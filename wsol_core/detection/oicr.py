"""OICR: classifiers of proposals that refine each other online (Online Instance Classifier Refinement).

WSDDN is content with an object's most telling part. So K classifiers of single proposals, with the background as one
class more, learn beside it. The labels of branch k come from the scores of branch k-1, WSDDN's for the first: for each
class of the image the best proposal is the seed, and what overlaps a seed enough gets its class, the rest is
background. As neighbours are taken along, the best proposal moves from part to whole, branch by branch.

Each proposal counts by the score of the seed that it overlaps most, so that early, uncertain labels count little.

Classes keep their numbers 0 to C-1; the background is C, the last. So WSDDN's C scores and a branch's C + 1 are read
alike. What the paper leaves open: of equal scores the first proposal is the seed, and of equal overlaps the first seed
counts, so that a proposal that is the seed of two classes has the class that is named first.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou

OVERLAP = 0.5
"""I_t, the least overlap with a seed of its class."""


class Assignment(NamedTuple):
    """What a branch learns of R proposals."""

    labels: Tensor
    """`(R,)` int64, 0 to C-1, C for background"""
    weights: Tensor
    """`(R,)`, the score of the seed that is overlapped most"""
    seeds: Tensor
    """`(R,)` int64, the proposal that is this seed"""


def top_seeds(scores: Tensor, present: Tensor) -> Tensor:
    """The best proposal of each class present: pairs `(S, 2)` int64 of proposal and class (Algorithm 1, line 5).

    Args:
        scores: `(R, C)` or `(R, C + 1)`, R > 0.
        present: classes of the image, int64, in the order of the seeds.
    """
    return torch.stack([scores[:, present].argmax(0), present], dim=1)


def assign(boxes: Tensor, scores: Tensor, seeds: Tensor, classes: int) -> Assignment:
    """Labels of all proposals by their overlap with the seeds (Algorithm 1, lines 6 to 13).

    Without seeds, in an image of no class, all is background of weight 0.

    Args:
        boxes: `(R, 4)` corners, in any unit.
        scores: that the seeds were found by.
        seeds: `(S, 2)`, proposal and class.
        classes: C.
    """
    if not len(seeds):
        nothing = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return Assignment(nothing + classes, boxes.new_zeros(len(boxes)), nothing)
    overlap, nearest = box_iou(boxes, boxes[seeds[:, 0]]).max(1)
    proposal, label = seeds[nearest].unbind(1)
    return Assignment(torch.where(overlap >= OVERLAP, label, classes), scores[proposal, label], proposal)


def refinement_loss(logits: Tensor, assignment: Assignment) -> Tensor:
    """L_r: the weighted cross entropy of one branch, mean over an image's proposals (Eq. 4); 0 without proposals.

    Args:
        logits: `(R, C + 1)`.
        assignment: of the R proposals.
    """
    losses = functional.cross_entropy(logits, assignment.labels, reduction="none")
    return (assignment.weights * losses).sum() / max(1, len(losses))
