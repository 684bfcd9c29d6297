"""Proposals: boxes that may hold an object, all that a source has, and of these the ones that detectors get.

Sources are `wsol_core.proposals.selective_search`, `wsol_core.proposals.files` and `wsol_core.proposals.map_proposals`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pydantic import Field

from wsol_core.core.boxes import BOX_COLUMNS, Boxes, clip
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.core.params import Block
from wsol_core.data.index import ImageIndex


class ProposalParams(Block):
    """Which proposals are kept."""

    source: str = "selective-search"
    """NAME of an entry of `selective_search`, `proposal_files` or `map_proposals`"""
    min_side: float = Field(default=20.0, ge=0)
    """pixels of the original picture; boxes with a shorter side are left out"""
    max_proposals: int = Field(default=2000, ge=1)
    """per picture, the first in rank"""


def distinct(boxes: Boxes, width: int, height: int) -> Boxes:
    """Boxes clipped to the picture, without empty ones and duplicates (the first stays); if none is left, the whole."""
    boxes = clip(boxes, width, height)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)] if len(boxes) else np.array([[0, 0, width, height]], dtype=np.float32)


def proposal_rows(image_id: str, boxes: Boxes) -> pd.DataFrame:
    """The table of one image's boxes, best first: `score` float32 = 1 - rank / n in (0, 1], `label` int32 = -1."""
    rows = pd.DataFrame(boxes, columns=list(BOX_COLUMNS))
    rows.insert(0, "image_id", image_id)
    rows["score"] = (1 - np.arange(len(boxes)) / len(boxes)).astype(np.float32)
    rows["label"] = np.int32(CLASS_AGNOSTIC)
    return rows


def join(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of `proposal_rows` one below the other.

    Raises:
        InputError: there is none, because the index has no image.
    """
    if not parts:
        raise InputError("the image index has no image, so there are no proposals; look at what `prepare` wrote")
    return pd.concat(parts, ignore_index=True)


def choose(found: pd.DataFrame, index: ImageIndex, min_side: float, max_proposals: int) -> pd.DataFrame:
    """The first proposals of each image that are large enough; the whole image where none is.

    Args:
        found: all proposals of a source, as `proposal_rows` makes them.
        index: the images, in the same order.
        min_side: see `ProposalParams`.
        max_proposals: see `ProposalParams`.

    Returns:
        A table as `proposal_rows` makes it, in the order of the index.

    Raises:
        InputError: an image of the index has no proposal, or there are proposals of an image that it lacks.
    """
    table = index.table
    strange = set(table["image_id"]) ^ set(found["image_id"].unique())
    if strange:
        raise InputError(f"image {min(strange)!r} is in the index or has proposals, not both; make the proposals again")
    kept = found[(found["x1"] - found["x0"] >= min_side) & (found["y1"] - found["y0"] >= min_side)]
    kept = kept[kept.groupby("image_id", sort=False).cumcount() < max_proposals]
    empty = table[~table["image_id"].isin(kept["image_id"])]
    whole = pd.DataFrame({"image_id": empty["image_id"], "x0": 0, "y0": 0, "x1": empty["width"], "y1": empty["height"]})
    chosen = pd.concat([kept, whole.astype(dict.fromkeys(BOX_COLUMNS, np.float32))]) if len(whole) else kept
    chosen = chosen.sort_values("image_id", kind="stable", ignore_index=True)
    groups = chosen.groupby("image_id", sort=False)["x0"]
    share = groups.cumcount() / groups.transform("size")
    return chosen.assign(score=(1 - share).astype(np.float32), label=np.int32(CLASS_AGNOSTIC))
