"""COCO's three ways to write down an object's mask: polygons, run lengths, packed run lengths."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.datasets.listing import VOID, InstanceMask

MAX_INSTANCES = VOID - 1
SUBPIXELS = 5
FARTHEST = 1e6
"""Pixels from the image's corner within which polygons have their corners."""
LONGEST_RUN_BITS = 40


def instance_mask(height: int, width: int, segmentations: Sequence[Any]) -> InstanceMask:
    """Paint objects with their place in `segmentations`, from 1, into uint8 `(height, width)`.

    Where objects overlap the smaller one lies on top, of two of one size the later. One mask is held at a time.

    Raises:
        ValueError: a segmentation is malformed or of another size.
    """
    painted = np.zeros((height, width), dtype=np.uint8)
    areas = np.full(len(segmentations) + 1, height * width)
    for number, segmentation in enumerate(segmentations, start=1):
        mask = _mask(height, width, segmentation)
        below = painted[mask]  # (area,)
        areas[number] = len(below)
        painted[mask] = np.where((areas >= areas[number])[below], number, below)
    return painted


def _mask(height: int, width: int, segmentation: Any) -> npt.NDArray[np.bool_]:
    if isinstance(segmentation, list):
        return polygons_mask(height, width, segmentation)
    if list(segmentation["size"]) != [height, width]:
        raise ValueError("run lengths of another size")
    counts = segmentation["counts"]
    return runs_mask(height, width, unpack(counts) if isinstance(counts, str) else counts)


def polygons_mask(height: int, width: int, polygons: Sequence[Sequence[float]]) -> npt.NDArray[np.bool_]:
    """Pixels `(height, width)` whose centre lies in one of the polygons `[x, y, x, y, ...]`, to a fifth of a pixel.

    Raises:
        ValueError: a corner is no number, or far outside the image.
    """
    mask = np.zeros((height, width), dtype=np.bool_)
    for polygon in polygons:
        corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
        if not (np.abs(corners) <= FARTHEST).all():  # false for NaN
            raise ValueError("a polygon with a corner far outside the image")
        if len(corners):
            _fill(mask, np.round(corners * SUBPIXELS).astype(np.int32))
    return mask


def _fill(mask: npt.NDArray[np.bool_], corners: npt.NDArray[np.int32]) -> None:
    """Set the pixels of one polygon, corners `(N, 2)` in fifths of a pixel, on a canvas as large as the polygon."""
    limits = mask.shape[::-1]
    x0, y0 = np.clip(corners.min(axis=0) // SUBPIXELS, 0, limits).tolist()
    x1, y1 = np.clip(corners.max(axis=0) // SUBPIXELS + 1, 0, limits).tolist()
    if x1 <= x0 or y1 <= y0:
        return
    canvas = np.zeros(((y1 - y0) * SUBPIXELS, (x1 - x0) * SUBPIXELS), dtype=np.uint8)
    cv2.fillPoly(canvas, [corners - np.array([x0, y0], dtype=np.int32) * SUBPIXELS], 1)
    centre = SUBPIXELS // 2
    mask[y0:y1, x0:x1] |= canvas[centre::SUBPIXELS, centre::SUBPIXELS] > 0


def runs_mask(height: int, width: int, counts: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Pixels `(height, width)` from run lengths, column by column, the first run outside the object.

    Raises:
        ValueError: the runs do not add up to the image.
    """
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError("run lengths that do not add up to the image")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def unpack(text: str) -> list[int]:
    """Run lengths from COCO's string: five bits a character, low bits first, from the fourth on as differences.

    Each character is its value plus 48; bit 5 says that more follow, bit 4 of the last one is the sign. A difference
    is to the run two places before.

    Raises:
        ValueError: the string is malformed.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > LONGEST_RUN_BITS:
            raise ValueError("packed run lengths with a character out of range, or a run without end")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
