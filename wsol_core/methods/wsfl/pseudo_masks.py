"""Low-resolution pseudo masks from DDT's maps (WSFL 3.3.2).

The paper fills the box of the largest component. By parameter the mask has the component's own shape, or the share of
each cell that the component covers.
"""

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from wsol_core.core.boxes import rasterize
from wsol_core.core.params import Block
from wsol_core.core.regions import largest_component, largest_component_box

OBJECT = 0.5
"""DDT's scores are above it on the object."""


class PseudoMaskParams(Block):
    """How pseudo masks are made."""

    maps: str = "ddt"
    """method whose maps they are made of; the object is where a score exceeds .5"""
    resolution: int = Field(default=14, gt=0)
    """side of the square masks, in cells"""
    shape: Literal["box", "component"] = "box"
    """what is filled: the box of the largest component (the paper), or the component"""
    soft: bool = False
    """whether cells hold the share that is covered, in [0, 1], instead of 0 or 1; with the shape `component` alone"""


def pseudo_mask(scores: npt.NDArray[np.floating], params: PseudoMaskParams) -> npt.NDArray[np.float32]:
    """The pseudo mask `(resolution, resolution)` float32 of a map `(h, w)`; without an object all is foreground.

    Cells are those whose centre a box covers, or of which a component covers half.
    """
    side = params.resolution
    mask = scores > OBJECT
    if not mask.any():
        return np.ones((side, side), dtype=np.float32)
    if params.shape == "box":
        box = np.array([largest_component_box(mask)], dtype=np.float32)
        height, width = (np.array([extent]) for extent in scores.shape)
        return rasterize(box, width, height, side)[0].astype(np.float32)
    shares = area_shares(largest_component(mask), side)
    return shares if params.soft else (shares >= OBJECT).astype(np.float32)


def area_shares(mask: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.float32]:
    """The share of each of `side x side` cells that a mask `(h, w)` covers, float32 in [0, 1]."""
    fine = mask.astype(np.float32)
    if min(mask.shape) < side:
        return np.asarray(cv2.resize(fine, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    return np.clip(cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA), 0, 1, dtype=np.float32)
