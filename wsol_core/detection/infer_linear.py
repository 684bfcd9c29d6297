"""What a detector of linear heads finds in all images of a data set. On the CPU: it is done in a minute."""

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from wsol_core.data.index import ImageIndex
from wsol_core.detection.box_tensors import bits, solid
from wsol_core.detection.heads import scored_boxes
from wsol_core.detection.linear_detector import LinearDetector, described
from wsol_core.detection.postprocess import SelectionParams, table_of
from wsol_core.detection.proposal_features import DescriptionStore
from wsol_core.detection.proposal_targets import relative_proposals


@torch.no_grad()
def detect(
    model: LinearDetector, store: DescriptionStore, index: ImageIndex, proposals: pd.DataFrame, params: SelectionParams
) -> pd.DataFrame | None:
    """The table of detections in all images, as `detections.detect` has it.

    Args:
        model: trained.
        store: of descriptions.
        index: the images.
        proposals: the table of boxes that are described.
        params: selection.

    Raises:
        InputError: no image has a proposal, or the store does not have all.
    """
    model.eval()
    boxes, _ = relative_proposals(proposals, index.table, model.params.max_proposals)
    ids = tqdm(index.table["image_id"], desc="detections", unit="image", disable=None)
    found = (_found(model, store, *pair) for pair in zip(ids, torch.from_numpy(boxes), strict=True))
    return table_of(found, index, params)


def _found(model: LinearDetector, store: DescriptionStore, image_id: str, boxes: Tensor) -> Tensor:
    answers = model(described(store, image_id, boxes)[None], bits(boxes[None]))
    return scored_boxes(answers, boxes[solid(boxes)])
