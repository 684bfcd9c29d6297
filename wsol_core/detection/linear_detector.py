"""A detector of linear heads on descriptions that a store has: OICR and MIST where the network itself stays as it is.

Deviation from the papers: nothing before the heads learns, so pictures are neither mirrored nor seen at other scales.
"""

from typing import Self

import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from wsol_core.data.loading import pack
from wsol_core.detection.box_tensors import solid
from wsol_core.detection.heads import Answers, DetectionHeads, HeadParams
from wsol_core.detection.proposal_features import DescriptionStore
from wsol_core.detection.proposal_targets import ProposalTargets
from wsol_core.engine.training_params import LearningParams


class LinearDetectorParams(HeadParams, LearningParams):
    """A detector on descriptions and its training."""

    descriptions: str = Field(pattern=r"^[\w-][\w.-]*$")
    """NAME of the store, an entry of `descriptions`"""

    @model_validator(mode="after")
    def _nothing_to_drop(self) -> Self:
        if self.mist.drop_block:
            raise ValueError("mist: drop_block hides cells, and descriptions have none: null here")
        return self


class LinearDetector(nn.Module):
    """The heads, behind dropout."""

    def __init__(self, params: LinearDetectorParams, width: int, classes: int) -> None:
        super().__init__()
        self.params = params
        self.dropout = nn.Dropout(params.dropout)
        self.heads = DetectionHeads(params, width, classes)

    def forward(self, descriptions: Tensor, boxes: Tensor) -> Answers:
        """Answers for the boxes of images.

        Args:
            descriptions: `(B, P, D)`.
            boxes: `(B, P, 4)` shares of the images' sides, as the bits of float32; those without area are passed over.
        """
        rows = solid(boxes.view(torch.float32))
        answers: Answers = self.heads(self.dropout(descriptions[rows].float()))
        return answers


class DescribedPairs:
    """Training pairs of an image's descriptions `(P, D)` float16, filled up with zeros, and its packed proposals.

    Args:
        store: of descriptions.
        rows: of the index.
        targets: of these images.
    """

    def __init__(self, store: DescriptionStore, rows: pd.DataFrame, targets: ProposalTargets) -> None:
        self._store, self._ids, self._targets = store, rows["image_id"].tolist(), targets

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        position = key[1]
        target = self._targets[position]
        boxes = torch.from_numpy(target.boxes)
        return described(self._store, self._ids[position], boxes), pack(target, boxes)


def described(store: DescriptionStore, image_id: str, boxes: Tensor) -> Tensor:
    """Descriptions `(P, D)` float16 of an image's boxes `(P, 4)`; 0 for those without area."""
    rows = solid(boxes)
    table = torch.zeros(len(boxes), store.width, dtype=torch.float16)
    table[rows] = torch.from_numpy(store.find(image_id, int(rows.sum())))
    return table
