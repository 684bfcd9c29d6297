"""GrabCut (Rother et al. 2004): every map of a store cut out along the edges of its picture."""

from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field
from tqdm import tqdm

from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.core.params import Block
from wsol_core.core.regions import largest_component, upsample
from wsol_core.data.images import decode_squashed
from wsol_core.data.index import ImageIndex
from wsol_core.refinement.refine import in_pictures

OBJECT = 0.5
"""Scores above it are the mask that is refined, once `undecided` lies there."""


class GrabCutParams(Block):
    """How a mask is refined."""

    side: int = Field(default=112, ge=8)
    """side in pixels of the squashed picture and of the masks"""
    iterations: int = Field(default=3, ge=1)
    """rounds of colour models and cut"""
    undecided: float = Field(default=0.5, gt=0, lt=1)
    """score above which a pixel is the object; for maps whose boxes are cut far from .5"""
    background: float = Field(default=0.25, ge=0, le=0.5)
    """pixels are background for certain below this, where scores are stretched so that `undecided` is .5"""
    foreground: float = Field(default=0.75, ge=0.5, le=1)
    """pixels are foreground for certain above this"""
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


def cut_maps(store: MapStore, index: ImageIndex, params: GrabCutParams, path: Path) -> int:
    """Write the masks of a store's maps to the store at `path`: the same rows, `side x side`, squashed.

    Returns:
        How many masks stay unrefined.

    Raises:
        InputError: the store has a map of an image that is not in the index; an image is unreadable.
    """
    found = tqdm(in_pictures(cut_file, store, index, params), "grabcut", len(store), unit="map", disable=None)
    left = 0
    with create(path, Kind.MASK, params.side, params.side) as writer:
        for image_id, label, cut in zip(store.image_ids, store.labels.tolist(), found, strict=True):
            writer.append([image_id], [label], cut.mask[None])
            left += not cut.refined
    return left


def cut_file(path: Path, score_map: npt.NDArray[np.float32], image_id: str, params: GrabCutParams) -> Cut:
    """The mask of an image file, see `grab_cut`."""
    return grab_cut(decode_squashed(path, params.side, params.side, "bilinear"), score_map, image_id, params)


def grab_cut(
    picture: npt.NDArray[np.uint8], scores: npt.NDArray[np.floating], image_id: str, params: GrabCutParams
) -> Cut:
    """The largest component of the cut of a picture, started from its scores.

    OpenCV draws the colour models' starts at random: its generator is seeded from the image's id, so that neither the
    order of images nor the number of processes matters. Where pixels for the foreground or the background are missing,
    or the area changes too much, the scores' own largest component stays.

    Args:
        picture: `(side, side, 3)` uint8, squashed.
        scores: `(h, w)` in [0, 1].
        image_id: of the picture.
        params: how.
    """
    fine = np.interp(upsample(scores, params.side, params.side), (0, params.undecided, 1), (0, OBJECT, 1))
    own = largest_component(fine > OBJECT)
    trimap = np.where(fine > OBJECT, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[fine < params.background] = cv2.GC_BGD
    trimap[fine > params.foreground] = cv2.GC_FGD
    if not own.any() or own.all():
        return Cut(own, False)
    cv2.setRNGSeed(crc32(image_id.encode()) & 0x7FFFFFFF)
    models = np.zeros((2, 1, 65))
    cv2.grabCut(
        np.ascontiguousarray(picture),
        trimap,
        (0, 0, 1, 1),
        models[0],
        models[1],
        params.iterations,
        cv2.GC_INIT_WITH_MASK,
    )
    cut = largest_component(np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)))
    share = cut.sum() / own.sum()
    return Cut(cut, True) if params.shrinks <= share <= params.grows else Cut(own, False)
