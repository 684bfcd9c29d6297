"""What every detector learns from image labels: WSDDN on features of proposals, and branches that refine it.

`wsddn.py`, `oicr.py` and `mist.py` hold the papers' rules, `proposal_filter.py` that of WSFL 3.5. Features come from
layers that are trained along (`detector.py`) or from a store (`linear_detector.py`).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from wsol_core.core.params import Block
from wsol_core.data.loading import Batch, unpack
from wsol_core.detection import oicr, wsddn
from wsol_core.detection.box_tensors import bits, solid
from wsol_core.detection.mist import MistParams, decode, encode, regression_loss, spread_seeds
from wsol_core.detection.proposal_filter import FilterParams, ProposalFilter


class HeadParams(Block):
    """The heads of a detector."""

    method: Literal["oicr", "mist"]
    """how the branches find their seeds; mist has box regression too"""
    max_proposals: int = Field(default=2000, gt=0)
    """per picture, the first in rank"""
    filter: FilterParams | None = None
    """of proposals of low objectness (WSFL 3.5); null for none"""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """behind each fully connected layer, or of the features of a store"""
    branches: int = Field(default=3, ge=1)
    """K, refinements"""
    mist: MistParams = MistParams()
    """for the method mist"""


class Answers(NamedTuple):
    """What the network says of all R proposals of a batch, one picture after another, float32."""

    classification: Tensor
    """`(R, C)` logits of WSDDN"""
    detection: Tensor
    """`(R, C)` logits of WSDDN"""
    refinements: Tensor
    """`(R, K, C + 1)` logits of the branches"""
    moves: Tensor | None
    """`(R, K, C, 4)` of the boxes (MIST)"""


class DetectionHeads(nn.Module):
    """Features of proposals `(R, D)` to `Answers`, in float32 whatever the precision around."""

    def __init__(self, params: HeadParams, width: int, classes: int) -> None:
        super().__init__()
        self.branches, self.classes = params.branches, classes
        self.wsddn = wsddn.WsddnHead(width, classes)
        self.refine = wsddn.small_linear(width, params.branches * (classes + 1))
        regress = params.method == "mist"
        self.regress = wsddn.small_linear(width, params.branches * classes * 4) if regress else None

    def forward(self, features: Tensor) -> Answers:
        """What the streams and the branches say."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            refinements = self.refine(features).unflatten(1, (self.branches, self.classes + 1))  # (R, K, C + 1)
            moves = None
            if self.regress is not None:
                moves = self.regress(features).unflatten(1, (self.branches, self.classes, 4))  # (R, K, C, 4)
            classification, detection = self.wsddn(features)
            return Answers(classification, detection, refinements, moves)


def scored_boxes(answers: Answers, boxes: Tensor) -> Tensor:
    """Boxes and scores of each class, `(R, C, 5)`: shares of the image's sides, inside it, and a score in [0, 1].

    A score is the mean probability of the class over branches, and so is the box that MIST moves.

    Args:
        answers: for the R proposals.
        boxes: `(R, 4)` shares.
    """
    scores = answers.refinements.float().softmax(2)[:, :, :-1].mean(1)
    if answers.moves is None:
        moved = boxes[:, None].expand(-1, scores.shape[1], -1)
    else:
        moved = decode(boxes, answers.moves.float().mean(1))
    return torch.cat([moved.clamp(0, 1), scores[:, :, None]], dim=2)


def split_pictures(answers: Answers, counts: Sequence[int]) -> list[Answers]:
    """The answers for each picture, of `counts` proposals."""
    parts = [[None] * len(counts) if part is None else torch.split(part, list(counts)) for part in answers]
    return [Answers(*own) for own in zip(*parts, strict=True)]


class DetectorLoss:
    """L_b + sum_k L_r^k (OICR, Eq. 5), for MIST with box regression in L_r; mean over pictures.

    A batch's targets are packed proposals, see `loading.unpack`. A picture without proposals counts 0.

    Args:
        params: of the detector.
        classes: names, in order of their numbers.

    Raises:
        InputError: the filter exempts an unknown class.
    """

    def __init__(self, params: HeadParams, classes: Sequence[str]) -> None:
        self._params, self._classes = params, len(classes)
        self._filter = ProposalFilter(params.filter, classes)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch; the model gets its inputs and the `bits` of its boxes."""
        labels, objectness, boxes = unpack(batch.targets, self._classes)
        boxes = boxes.contiguous()
        answers = model(batch.inputs, bits(boxes))
        rows = solid(boxes)
        pictures = split_pictures(answers, rows.sum(1).tolist())
        losses = [
            self.of_picture(own, labels[i], objectness[i, rows[i]], boxes[i, rows[i]]) for i, own in enumerate(pictures)
        ]
        return torch.stack(losses).mean()

    def of_picture(self, answers: Answers, labels: Tensor, objectness: Tensor, boxes: Tensor) -> Tensor:
        """The loss of one picture with R proposals.

        Args:
            answers: for the R proposals.
            labels: `(C,)`, 0 or 1.
            objectness: `(R,)`.
            boxes: `(R, 4)`.
        """
        if not len(boxes):
            return torch.stack([part.sum() for part in answers if part is not None]).sum()
        scores = wsddn.proposal_scores(answers.classification, answers.detection)
        loss = wsddn.image_loss(scores, labels)
        present = self._filter.ordered(labels.nonzero().squeeze(1))
        for branch in range(self._params.branches):
            logits = answers.refinements[:, branch]
            learnt = self._assign(scores.detach(), present, objectness, boxes)
            loss = loss + oicr.refinement_loss(logits, learnt)
            if answers.moves is not None:
                wanted = encode(boxes, boxes[learnt.seeds])
                loss = loss + regression_loss(answers.moves[:, branch], wanted, learnt.labels, learnt.weights)
            scores = logits.softmax(1)
        return loss

    def _assign(self, scores: Tensor, present: Tensor, objectness: Tensor, boxes: Tensor) -> oicr.Assignment:
        """What a branch learns from the scores of the one before."""
        if self._params.method == "mist":
            seeds = spread_seeds(scores, boxes, present, self._params.mist)
        else:
            seeds = oicr.top_seeds(scores, present)
        learnt = oicr.assign(boxes, scores, seeds, self._classes)
        return learnt._replace(labels=self._filter.apply(learnt.labels, objectness))
