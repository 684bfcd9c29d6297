"""A detector of linear heads on stored features of proposals: OICR and MIST on a frozen network.

Deviation from the papers: nothing before the heads learns, so pictures are neither mirrored nor seen at other scales.
"""

from typing import Self

import pandas as pd
import torch
from pydantic import model_validator
from torch import Tensor, nn

from wsol_core.data.loading import pack
from wsol_core.detection.box_tensors import solid
from wsol_core.detection.heads import Answers, DetectionHeads, HeadParams
from wsol_core.detection.proposal_features import ProposalFeatureStore
from wsol_core.detection.proposal_targets import ProposalTargets
from wsol_core.engine.training_params import LearningParams


class LinearDetectorParams(LearningParams, HeadParams):
    """A detector on features of proposals and its training."""

    @model_validator(mode="after")
    def _nothing_to_drop(self) -> Self:
        if self.mist.drop_block:
            raise ValueError("mist: drop_block hides cells, and stored features have none: null here")
        return self


class LinearDetector(nn.Module):
    """The heads, behind dropout."""

    def __init__(self, params: LinearDetectorParams, width: int, classes: int) -> None:
        super().__init__()
        self.params = params
        self.dropout = nn.Dropout(params.dropout)
        self.heads = DetectionHeads(params, width, classes)

    def forward(self, features: Tensor, boxes: Tensor) -> Answers:
        """Answers for the boxes of images.

        Args:
            features: `(B, P, D)`.
            boxes: `(B, P, 4)` shares of the images' sides, as the bits of float32; those without area are passed over.
        """
        rows = solid(boxes.view(torch.float32))
        answers: Answers = self.heads(self.dropout(features[rows].float()))
        return answers


class ProposalPairs:
    """Training pairs of an image's features `(P, D)` float16, filled up with zeros, and its packed proposals.

    Args:
        store: of the features.
        rows: of the index.
        targets: of these images.
    """

    def __init__(self, store: ProposalFeatureStore, rows: pd.DataFrame, targets: ProposalTargets) -> None:
        self._store, self._ids, self._targets = store, rows["image_id"].tolist(), targets

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        position = key[1]
        target = self._targets[position]
        boxes = torch.from_numpy(target.boxes)
        return features_of(self._store, self._ids[position], boxes), pack(target, boxes)


def features_of(store: ProposalFeatureStore, image_id: str, boxes: Tensor) -> Tensor:
    """Features `(P, D)` float16 of an image's boxes `(P, 4)`; 0 for those without area."""
    rows = solid(boxes)
    table = torch.zeros(len(boxes), store.width, dtype=torch.float16)
    table[rows] = torch.from_numpy(store.find(image_id, int(rows.sum())))
    return table
