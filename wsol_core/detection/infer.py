"""Detections of a trained detector on images, averaged over views of each."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from wsol_core.data.index import ImageIndex
from wsol_core.detection.box_tensors import bits, mirrored, solid
from wsol_core.detection.detector import Detector
from wsol_core.detection.heads import scored_boxes
from wsol_core.detection.postprocess import PostprocessParams, table_of
from wsol_core.detection.proposal_targets import relative_proposals
from wsol_core.engine.devices import launch
from wsol_core.engine.inference import predictions, resize_images


class DetectParams(PostprocessParams):
    """How a detector is used."""

    scales: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    """multiples of the training's `image_side`; scores and boxes are averaged over them"""
    flip: bool = True
    """average with the mirrored image"""


def detect_in_images(
    model: Detector, index: ImageIndex, proposals: pd.DataFrame, params: DetectParams
) -> pd.DataFrame | None:
    """The table of detections in all images, by image in the index's order, best first; none without proposals.

    Boxes lie inside their image. A score is the mean probability of the class over branches and views. Under `torchrun`
    every process computes its share, and the first one has the table.

    Args:
        model: trained.
        index: the images.
        proposals: a table of boxes.
        params: views and postprocessing.

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
        view = resize_images(images, scale)
        own = mirrored(boxes) if mirror else boxes
        scored = scored_boxes(model.forward(view.flip(3) if mirror else view, bits(own)), own[rows])
        if mirror:
            scored[..., :4] = mirrored(scored[..., :4])
        found += scored
    table = found.new_zeros(*boxes.shape[:2], model.classes, 5)
    table[rows] = found / len(views)
    return table
