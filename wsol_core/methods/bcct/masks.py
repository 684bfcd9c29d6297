"""Masks from maps: the largest part of what lies above a share of the maximum (BC-CT 3.2, Eq. 2)."""

import numpy as np
import numpy.typing as npt
from pydantic import Field

from wsol_core.core.params import Block
from wsol_core.core.regions import find_components

FloatMaps = npt.NDArray[np.floating]
Masks = npt.NDArray[np.uint8]


class MaskParams(Block):
    """Masks from the maps of a method (Eq. 2)."""

    maps: str
    """the method whose maps become masks: a binary classifier, or any other"""
    delta: float = Field(default=0.8, gt=0, le=1)
    """share of a map's maximum from which on a pixel belongs to the mask; the paper tries .7 to .9"""


def largest_parts(maps: FloatMaps, delta: float) -> Masks:
    """Masks `(B, h, w)`: 1 in the largest part of the pixels from `delta` of their map's maximum on (Eq. 2).

    Parts are 8-connected; between two of one size the first from the top left wins. A constant map, zeros too, gives
    ones everywhere, as in Eq. 2: it says nothing of where the object is.
    """
    above = maps >= delta * maps.max((1, 2), keepdims=True)
    return np.stack([_largest(binary) for binary in above]) if len(maps) else above.astype(np.uint8)


def _largest(binary: npt.NDArray[np.bool_]) -> Masks:
    numbers, parts = find_components(binary)
    return np.asarray(numbers == 1 + parts[:, -1].argmax(), dtype=np.uint8)
