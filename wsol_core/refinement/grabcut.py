"""GrabCut (Rother et al. 2004): a mask moved to the edges of its picture."""

from typing import NamedTuple
from zlib import crc32

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from wsol_core.core.params import Block
from wsol_core.core.regions import largest_component, upsample

OBJECT = 0.5
"""Scores above it are the mask that is refined."""


class GrabCutParams(Block):
    """How a mask is refined."""

    side: int = Field(default=112, ge=8)
    """side in pixels of the squashed picture"""
    iterations: int = Field(default=3, ge=1)
    """rounds of colour models and cut"""
    background: float = Field(default=0.25, ge=0, le=0.5)
    """pixels with a lower score are background for certain"""
    foreground: float = Field(default=0.75, ge=0.5, le=1)
    """pixels with a higher score are foreground for certain"""
    shrinks: float = Field(default=0.2, ge=0, le=1)
    """least area of the refined mask as a share of its own before; otherwise it stays unrefined"""
    grows: float = Field(default=5.0, ge=1)
    """largest area, likewise"""


class Cut(NamedTuple):
    """A refined mask."""

    mask: npt.NDArray[np.bool_]
    """`(side, side)`"""
    refined: bool
    """whether it is GrabCut's; else it is the scores' own"""


def grab_cut(
    picture: npt.NDArray[np.uint8], scores: npt.NDArray[np.floating], image_id: str, params: GrabCutParams
) -> Cut:
    """The largest component of the cut of a picture, started from its scores.

    OpenCV draws the colour models' starts at random: its generator is seeded from the image's id, so that neither the
    order of images nor the number of processes matters. Where pixels for the foreground or the background are missing,
    or the area changes too much, the scores' own largest component stays.

    Args:
        picture: `(side, side, 3)` uint8, squashed.
        scores: `(h, w)` in [0, 1], the object above .5.
        image_id: of the picture.
        params: how.
    """
    fine = upsample(scores, params.side, params.side)
    own = largest_component(fine > OBJECT)
    trimap = np.where(fine > OBJECT, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[fine < params.background] = cv2.GC_BGD
    trimap[fine > params.foreground] = cv2.GC_FGD
    sides = [np.isin(trimap, kinds).any() for kinds in ((cv2.GC_FGD, cv2.GC_PR_FGD), (cv2.GC_BGD, cv2.GC_PR_BGD))]
    if not all(sides):
        return Cut(own, False)
    cv2.setRNGSeed(crc32(image_id.encode()) & 0x7FFFFFFF)
    models = np.zeros((2, 1, 65))
    cv2.grabCut(
        np.ascontiguousarray(picture), trimap, None, models[0], models[1], params.iterations, cv2.GC_INIT_WITH_MASK
    )
    cut = largest_component(np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)))
    share = cut.sum() / own.sum()
    return Cut(cut, True) if params.shrinks <= share <= params.grows else Cut(own, False)
