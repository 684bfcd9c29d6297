"""What a trained detector finds in all images of a data set: scored boxes of every class, few of them overlapping."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from torchvision.ops import nms
from tqdm import tqdm

from wsol_core.boxes import BOX_COLUMNS
from wsol_core.data.index import ImageIndex
from wsol_core.detection_heads import bits, scored_boxes, solid
from wsol_core.detector import Detector
from wsol_core.devices import launch
from wsol_core.inference import predictions, rescale
from wsol_core.params import Block
from wsol_core.proposal_targets import relative_proposals


class SelectionParams(Block):
    """Which boxes a detector keeps."""

    overlap: float = Field(default=0.3, gt=0, le=1)
    """IoU with a better box of its class above which a box is left out"""
    detections: int = Field(default=100, gt=0)
    """best boxes kept of a picture, over all classes; the best box of each class stays in any case"""


class DetectParams(SelectionParams):
    """How a detector is used."""

    scales: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    """multiples of the training's `image_side`; scores and boxes are averaged over them"""
    flip: bool = True
    """average with the mirrored image"""


def detect(model: Detector, index: ImageIndex, proposals: pd.DataFrame, params: DetectParams) -> pd.DataFrame | None:
    """The table of detections in all images, by image in the index's order, best first; none without proposals.

    Boxes lie inside their image. A score is the mean probability of the class over branches and views. Under `torchrun`
    every process computes its share, and the first one has the table.

    Args:
        model: trained.
        index: the images.
        proposals: a table of boxes.
        params: views and selection.

    Raises:
        InputError: no image has a proposal.
    """
    fabric = launch(model.params.training.precision)
    boxes, _ = relative_proposals(proposals, index.table, model.params.max_proposals)
    told = torch.from_numpy(boxes)

    def predict(model: Detector, images: Tensor, boxes: Tensor) -> Tensor:
        return average_views(model, images, boxes, params)

    outputs = predictions(fabric, model, predict, index, model.params.training, told)
    with tqdm(total=len(index.table), desc="detections", unit="image", disable=None) as progress:
        found = _one_by_one(outputs, progress)
        if fabric.is_global_zero:
            return table_of(found, index, params)
        for _ in found:
            pass
    return None


def _one_by_one(batches: Iterator[Tensor], progress: "tqdm[Any]") -> Iterator[Tensor]:
    for batch in batches:
        yield from batch
        progress.update(len(batch))


def table_of(found: Iterable[Tensor], index: ImageIndex, params: SelectionParams) -> pd.DataFrame | None:
    """The detections of images in the index's order, in pixels; none where no image has a proposal.

    Args:
        found: for each image `(P, C, 5)` from `scored_boxes`; rows of proposals without area may be among them.
        index: the images.
        params: selection.
    """
    columns = (index.table[name] for name in ("image_id", "width", "height"))
    tables = []
    for own, image_id, width, height in zip(found, *columns, strict=True):
        table = picture_detections(own, params)
        table[list(BOX_COLUMNS)] *= np.array([width, height, width, height], np.float32)
        table.insert(0, "image_id", image_id)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else None


def average_views(model: Detector, images: Tensor, boxes: Tensor, params: DetectParams) -> Tensor:
    """Boxes and scores of each class, `(B, P, C, 5)`, see `scored_boxes`; rows of proposals without area are 0.

    Args:
        model: in evaluation.
        images: `(B, 3, H, W)` uint8.
        boxes: `(B, P, 4)` shares.
        params: scales and flip, over which everything is averaged.
    """
    views = [(scale, mirror) for scale in params.scales for mirror in ((False, True) if params.flip else (False,))]
    rows = solid(boxes)
    found = torch.zeros(int(rows.sum()), model.classes, 5, device=boxes.device)
    for scale, mirror in views:
        view = rescale(images, scale)
        own = mirrored(boxes) if mirror else boxes
        scored = scored_boxes(model.forward(view.flip(3) if mirror else view, bits(own)), own[rows])
        if mirror:
            scored[..., :4] = mirrored(scored[..., :4])
        found += scored
    table = found.new_zeros(*boxes.shape[:2], model.classes, 5)
    table[rows] = found / len(views)
    return table


def mirrored(boxes: Tensor) -> Tensor:
    """Boxes `(..., 4)`, shares of the image's sides, in the mirrored image."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([1 - x1, y0, 1 - x0, y1], dim=-1)


def picture_detections(found: Tensor, params: SelectionParams) -> pd.DataFrame:
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
