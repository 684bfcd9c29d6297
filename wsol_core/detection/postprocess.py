"""Non-maximum suppression: a detector's detections are the best boxes of each class, few of them overlapping."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from torchvision.ops import nms

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.params import Block
from wsol_core.data.index import ImageIndex
from wsol_core.detection.box_tensors import solid


class PostprocessParams(Block):
    """Which boxes a detector keeps."""

    overlap: float = Field(default=0.3, gt=0, le=1)
    """IoU with a better box of its class above which a box is left out"""
    detections: int = Field(default=100, gt=0)
    """best boxes kept of a picture, over all classes; the best box of each class stays in any case"""


def table_of(found: Iterable[Tensor], index: ImageIndex, params: PostprocessParams) -> pd.DataFrame | None:
    """The detections of images in the index's order, in pixels; none where no image has a proposal.

    Args:
        found: for each image `(P, C, 5)` from `scored_boxes`; rows of proposals without area may be among them.
        index: the images.
        params: overlap and number.
    """
    columns = (index.table[name] for name in ("image_id", "width", "height"))
    tables = []
    for own, image_id, width, height in zip(found, *columns, strict=True):
        table = picture_detections(own, params)
        table[list(BOX_COLUMNS)] *= np.array([width, height, width, height], np.float32)
        table.insert(0, "image_id", image_id)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else None


def picture_detections(found: Tensor, params: PostprocessParams) -> pd.DataFrame:
    """The detections of one picture, best first: `x0, y0, x1, y1` as shares, `score` and `label`.

    In each class, boxes that overlap a better one that is kept are left out; of what remains the best are taken, and of
    each class the best one.

    Args:
        found: `(P, C, 5)` from `scored_boxes`.
        params: overlap and number.
    """
    kept = []
    for label in range(found.shape[1]):
        own = found[:, label][solid(found[:, label, :4])]
        own = own[nms(own[:, :4], own[:, 4], params.overlap)]
        labels, places = own.new_full((len(own), 1), label), torch.arange(len(own))[:, None].to(own.dtype)
        kept.append(torch.cat([own, labels, places], dim=1))
    rows = torch.cat(kept).numpy()
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    rows = rows[(np.arange(len(rows)) < params.detections) | (rows[:, 6] == 0)]
    table = pd.DataFrame(rows[:, :5], columns=[*BOX_COLUMNS, "score"])
    return table.assign(label=rows[:, 5].astype(np.int32))
