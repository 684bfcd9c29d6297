"""A table of proposals as arrays that a detector takes: boxes relative to their image, as many rows for each image."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS, Boxes
from wsol_core.core.errors import InputError
from wsol_core.data.targets import Proposals

MIN_SIDE = 1e-4
"""Shares of an image's side; thinner boxes are none: mirrored, they could vanish in float32."""


def relative_proposals(table: pd.DataFrame, rows: pd.DataFrame, limit: int) -> tuple[Boxes, npt.NDArray[np.float32]]:
    """Boxes `(N, P, 4)` as shares of the image's sides, and scores `(N, P)`, for N rows of an image index.

    P is the largest number of proposals of an image. Images with fewer are filled up with zeros: boxes without area.

    Args:
        table: of boxes, those of an image together and in rank.
        rows: of the index.
        limit: of an image's proposals; the first are taken.

    Raises:
        InputError: none of the images has a proposal.
    """
    image = pd.Index(rows["image_id"]).get_indexer(pd.Index(table["image_id"]))
    rank = table.groupby("image_id", sort=False).cumcount().to_numpy()
    taken = (image >= 0) & (rank < limit)
    if not taken.any():
        raise InputError("no image has proposals; run the stage that makes them again")
    image, rank = image[taken], rank[taken]
    extent = rows[["width", "height", "width", "height"]].to_numpy(np.float32)
    boxes = np.zeros((len(rows), rank.max() + 1, 4), np.float32)
    boxes[image, rank] = np.clip(table.loc[taken, list(BOX_COLUMNS)].to_numpy(np.float32) / extent[image], 0, 1)
    boxes[(boxes[..., 2:] - boxes[..., :2]).min(axis=2) < MIN_SIDE] = 0
    scores = np.zeros(boxes.shape[:2], np.float32)
    scores[image, rank] = table.loc[taken, "score"].to_numpy(np.float32)
    return boxes, scores


class ProposalTargets:
    """What a detector learns from, by position: an image's labels, boxes and objectness.

    Args:
        labels: the classes that each of N images shows.
        classes: C, how many there are.
        boxes: `(N, P, 4)`.
        objectness: `(N, P)`.
    """

    def __init__(
        self, labels: Sequence[Sequence[int]], classes: int, boxes: Boxes, objectness: npt.NDArray[np.float32]
    ) -> None:
        self._labels = np.zeros((len(labels), classes), np.float32)
        for row, own in zip(self._labels, labels, strict=True):
            row[list(own)] = 1
        self._boxes, self._objectness = boxes, objectness

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, position: int) -> Proposals:
        return Proposals(self._labels[position], self._objectness[position], self._boxes[position])


def proposal_targets(table: pd.DataFrame, classes: int, limit: int) -> Callable[[pd.DataFrame], ProposalTargets]:
    """From rows of an image index to their labels and the first `limit` proposals of a table, see `ProposalTargets`."""
    return lambda rows: ProposalTargets(rows["labels"].tolist(), classes, *relative_proposals(table, rows, limit))
