"""Proposals from our own maps: the regions above many thresholds, which make a tree, each with its objectness."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from wsol_core.core.boxes import Boxes, from_xywh
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore
from wsol_core.core.params import Block
from wsol_core.core.regions import find_components, upsample
from wsol_core.data.index import ImageIndex
from wsol_core.proposals.objectness import objectness
from wsol_core.proposals.selection import distinct, join, proposal_rows


class MapProposalParams(Block):
    """Whose maps, and how finely they are cut."""

    maps: str
    """NAME of the outputs of the detection set whose maps are cut"""
    resolution: int = Field(default=112, ge=1)
    """side of the square grid on which regions are found"""
    step: float = Field(default=0.05, gt=0, lt=1)
    """distance between thresholds, from 0 up to 1"""


def propose(index: ImageIndex, store: MapStore, params: MapProposalParams) -> pd.DataFrame:
    """The boxes of all regions of each image's maps.

    They are ranked by objectness, the mean of the map inside the box (WSFL 3.5), so that sure and tight ones come
    first. On the demo's pixel classifier this finds more objects with ten boxes than a rank by area or by the contrast
    with the box's surroundings. Of an image with a map per label all maps are cut, each box scored by its own map.

    Returns:
        A table of boxes by `image_id` and rank, see `proposal_rows`.

    Raises:
        InputError: the store holds labels, not scores or masks, or an image has no map.
    """
    if store.kind not in (Kind.SCORE, Kind.MASK):
        raise InputError(f"{store.path}: holds labels; proposals need score maps or masks")
    starts = np.searchsorted(store.image_ids, index.table["image_id"].to_numpy(), side="left")
    stops = np.searchsorted(store.image_ids, index.table["image_id"].to_numpy(), side="right")
    columns = (index.table[name].tolist() for name in ("image_id", "width", "height"))
    images = tqdm(zip(*columns, starts, stops, strict=True), "regions", len(starts), unit="image", disable=None)
    tables = []
    for image_id, width, height, start, stop in images:
        if start == stop:
            raise InputError(f"{store.path}: no map of image {image_id!r}; run the stage that makes the maps again")
        boxes = ranked_regions(store[slice(start, stop)], width, height, params)
        tables.append(proposal_rows(image_id, boxes))
    return join(tables)


def ranked_regions(maps: npt.NDArray[np.float32], width: int, height: int, params: MapProposalParams) -> Boxes:
    """The boxes `(R, 4)` of the regions of an image's maps, best first, without duplicates; the whole image if none.

    Args:
        maps: `(M, h, w)` in [0, 1].
        width: of the image, pixels.
        height: of the image, pixels.
        params: resolution and step.
    """
    found = [regions(each, params) * np.array([width, height] * 2, np.float32) for each in maps]
    scores = [objectness(each, boxes, width, height) for each, boxes in zip(maps, found, strict=True)]
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return distinct(np.concatenate(found)[order], width, height)


def regions(score_map: npt.NDArray[np.float32], params: MapProposalParams) -> Boxes:
    """The boxes `(R, 4)`, as shares of the image, of the 8-connected components above each threshold, lowest first."""
    grid = upsample(score_map, params.resolution, params.resolution)
    thresholds = np.arange(0, 1, params.step, dtype=np.float32)
    rows = np.concatenate([find_components(grid > threshold)[1] for threshold in thresholds])
    boxes: Boxes = from_xywh(rows[:, :4]) / np.float32(params.resolution)
    return boxes
