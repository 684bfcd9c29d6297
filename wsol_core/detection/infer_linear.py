"""Detections of a trained detector on stored features of proposals. On the CPU: it is done in a minute."""

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from wsol_core.data.index import ImageIndex
from wsol_core.detection.box_tensors import bits, solid
from wsol_core.detection.heads import scored_boxes
from wsol_core.detection.linear_detector import LinearDetector, features_of
from wsol_core.detection.postprocess import PostprocessParams, table_of
from wsol_core.detection.proposal_features import ProposalFeatureStore
from wsol_core.detection.proposal_targets import relative_proposals


@torch.no_grad()
def detect_by_features(
    model: LinearDetector,
    store: ProposalFeatureStore,
    index: ImageIndex,
    proposals: pd.DataFrame,
    params: PostprocessParams,
) -> pd.DataFrame | None:
    """The table of detections in all images, see `infer.detect_in_images`.

    Args:
        model: trained.
        store: of the proposals' features.
        index: the images.
        proposals: the table of boxes whose features are stored.
        params: overlap and number.

    Raises:
        InputError: no image has a proposal, or the store does not have all.
    """
    model.eval()
    boxes, _ = relative_proposals(proposals, index.table, model.params.max_proposals)
    ids = tqdm(index.table["image_id"], desc="detections", unit="image", disable=None)
    found = (_scored(model, store, *pair) for pair in zip(ids, torch.from_numpy(boxes), strict=True))
    return table_of(found, index, params)


def _scored(model: LinearDetector, store: ProposalFeatureStore, image_id: str, boxes: Tensor) -> Tensor:
    answers = model(features_of(store, image_id, boxes)[None], bits(boxes[None]))
    return scored_boxes(answers, boxes[solid(boxes)])
