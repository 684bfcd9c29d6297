"""COCO's three ways to write down an object's mask: polygons, run lengths, packed run lengths."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.datasets.listing import VOID, InstanceMask

MAX_INSTANCES = VOID - 1
SUBPIXELS = 5


def instance_mask(height: int, width: int, segmentations: Sequence[Any]) -> InstanceMask:
    """Paint objects with their place in `segmentations`, from 1, into uint8 `(height, width)`.

    Where objects overlap the smaller one lies on top.

    Raises:
        ValueError: a segmentation is malformed or of another size.
    """
    masks = [_mask(height, width, segmentation) for segmentation in segmentations]
    order = sorted(range(len(masks)), key=lambda place: -int(masks[place].sum()))
    painted = np.zeros((height, width), dtype=np.uint8)
    for place in order:
        painted[masks[place]] = place + 1
    return painted


def _mask(height: int, width: int, segmentation: Any) -> npt.NDArray[np.bool_]:
    if isinstance(segmentation, list):
        return polygons_mask(height, width, segmentation)
    if list(segmentation["size"]) != [height, width]:
        raise ValueError("run lengths of another size")
    counts = segmentation["counts"]
    return runs_mask(height, width, unpack(counts) if isinstance(counts, str) else counts)


def polygons_mask(height: int, width: int, polygons: Sequence[Sequence[float]]) -> npt.NDArray[np.bool_]:
    """Pixels `(height, width)` whose centre lies in one of the polygons `[x, y, x, y, ...]`, to a fifth of a pixel."""
    canvas = np.zeros((height * SUBPIXELS, width * SUBPIXELS), dtype=np.uint8)
    for polygon in polygons:
        corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
        cv2.fillPoly(canvas, [np.round(corners * SUBPIXELS).astype(np.int32)], 1)
    centre = SUBPIXELS // 2
    return canvas[centre::SUBPIXELS, centre::SUBPIXELS] > 0


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
        if not 0 <= bits < 64:
            raise ValueError("packed run lengths with a character out of range")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
