"""Objectness of proposals: the mean of a foreground map inside each (WSFL 3.5)."""

import math

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from wsol_core.core.boxes import BOX_COLUMNS, Boxes
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore
from wsol_core.core.params import Block
from wsol_core.data.index import ImageIndex

STEPS = 65535
MAX_PIXELS = 1 << 23


class ObjectnessParams(Block):
    """Which proposals are scored by which maps."""

    sets: tuple[str, ...] = ()
    """data sets whose proposals are scored"""
    methods: tuple[str, ...] = ()
    """NAMES of the outputs whose maps score them"""


def objectness(score_map: npt.NDArray[np.float32], boxes: Boxes, width: int, height: int) -> npt.NDArray[np.float32]:
    """Mean of `score_map` over the pixels of each box.

    As in WSFL 3.5 the map is upsampled bilinearly to the picture and averaged over whole pixels: those whose centres
    lie inside the half-open box. The sums come from an integral image, at a cost that hardly grows with the boxes.

    Deviations: the upsampled map is kept in 16-bit fixed point, so a mean is off by 1.6e-5 at the most (a map store's
    float16 by 2.4e-4); a picture of more than 8 megapixels is averaged on a grid of 8 megapixels.

    Args:
        score_map: `(h, w)` float32 in [0, 1], covering the whole picture.
        boxes: `(N, 4)` float32, pixels of the picture; parts outside it are left out.
        width: of the picture in pixels.
        height: of the picture in pixels.

    Returns:
        `(N,)` float32 in [0, 1]; 0 for a box that covers no pixel.
    """
    shrink = min(1.0, math.sqrt(MAX_PIXELS / (width * height)))
    columns, rows = max(1, int(width * shrink)), max(1, int(height * shrink))
    factors = np.array([columns / width, rows / height] * 2, dtype=np.float32)[:, None]
    limits = np.array([columns, rows] * 2, dtype=np.float32)[:, None]
    edges = np.clip(np.ascontiguousarray(boxes.T) * factors, 0, limits)
    left, top, right, bottom = np.ceil(edges - np.float32(0.5)).astype(np.int64)
    sums = _integral(score_map, columns, rows)
    above, below = top * (columns + 1), bottom * (columns + 1)
    total = sums[below + right] - sums[above + right] - sums[below + left] + sums[above + left]
    steps = (total >> 32) * 256 + (total & 0xFFFFFFFF)
    count = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    means: npt.NDArray[np.float32] = np.zeros(len(boxes), dtype=np.float32)
    np.divide(steps, count * STEPS, out=means, where=count > 0, casting="same_kind")
    return means


def _integral(score_map: npt.NDArray[np.float32], columns: int, rows: int) -> npt.NDArray[np.int64]:
    """Integral image of the upsampled map, flat, of `(rows + 1) * (columns + 1)` entries.

    An entry packs two sums of up to 31 bits, of the pixels' high and low bytes: OpenCV's integral of two channels of
    bytes takes a third of the time of its integral of floats, and is exact.
    """
    upsampled = cv2.resize(np.rint(score_map * STEPS).astype(np.uint16), (columns, rows))
    sums = cv2.integral(upsampled.view(np.uint8).reshape(rows, columns, 2), sdepth=cv2.CV_32S)
    return sums.view(np.int64).ravel()


def score_proposals(proposals: pd.DataFrame, index: ImageIndex, store: MapStore) -> pd.DataFrame:
    """The same rows with `score` = objectness by the maps of `store`.

    An image with a map per label is scored by the pixel-wise maximum of its maps.

    Args:
        proposals: a table of boxes; rows of an image stand together.
        index: the data set's images, for their sizes.
        store: score maps or masks of all these images.

    Raises:
        InputError: the store holds tri-state labels, or an image has no map or is not in the index.
    """
    if store.kind is Kind.TRISTATE:
        raise InputError(f"{store.path}: tri-state labels have ignored pixels; objectness needs score maps or masks")
    firsts, counts = np.unique(store.image_ids.astype(str), return_index=True, return_counts=True)[1:]
    maps = {store.image_ids[first]: slice(first, first + count) for first, count in zip(firsts, counts, strict=True)}
    table = index.table.set_index("image_id")
    sizes = dict(zip(table.index, zip(table["width"], table["height"], strict=True), strict=True))
    boxes = proposals[list(BOX_COLUMNS)].to_numpy(dtype=np.float32)
    scores = np.zeros(len(proposals), dtype=np.float32)
    groups = proposals.groupby("image_id", sort=False).indices
    for image_id, rows in tqdm(groups.items(), desc="objectness", unit="image", disable=None):
        if image_id not in sizes:
            raise InputError(f"image {image_id!r} has proposals but is not in the index; run the proposals stage again")
        if image_id not in maps:
            raise InputError(f"{store.path}: no map of image {image_id!r}; run the stage that makes the maps again")
        scores[rows] = objectness(store[maps[image_id]].max(axis=0), boxes[rows], *sizes[image_id])
    return proposals.assign(score=scores)
