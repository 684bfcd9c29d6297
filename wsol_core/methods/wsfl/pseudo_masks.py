"""Low-resolution pseudo masks from DDT's maps (WSFL 3.3.2).

The paper fills the box of the largest component. By parameter the mask has the component's own shape, or the share of
each cell that the component covers; or cells are ignored that belong to the object at one threshold and not at another.
"""

from functools import lru_cache
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from wsol_core.core.boxes import rasterize
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import IGNORE, Kind, MapStore
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
    margin: float = Field(default=0.0, ge=0, lt=0.5)
    """cells are ignored where the masks of the objects above .5 - margin and above .5 + margin differ; 0 for none"""

    @model_validator(mode="after")
    def _shares_are_of_a_component_and_of_one_threshold(self) -> Self:
        if self.soft and self.shape == "box":
            raise ValueError("soft: of no effect on the shape box; take the shape component, or leave it out")
        if self.soft and self.margin:
            raise ValueError("margin: shares of cells (soft) are of one threshold; leave out one of the two")
        return self

    @property
    def kind(self) -> Kind:
        """What a store of these masks holds."""
        if self.soft:
            return Kind.SCORE
        return Kind.TRISTATE if self.margin else Kind.MASK


def refuse_several(maps: MapStore) -> None:
    """Refuse a store with several maps of an image.

    Raises:
        InputError: one has; it is named.
    """
    ids = maps.image_ids
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        raise InputError(f"{maps.path}: several maps of image {ids[twice[0]]!r}; name a method that gives one of each")


def pseudo_mask(scores: npt.NDArray[np.floating], params: PseudoMaskParams) -> npt.NDArray[np.float32]:
    """The pseudo mask `(resolution, resolution)` float32 of a map `(h, w)`: 0 or 1, shares, or 255 where ignored.

    Cells are those whose centre a box covers, or of which a component covers half; of one that covers half of no cell,
    those that it covers most. With a margin two masks are held against each other, and cells of one alone are ignored.
    Without an object, of a margin's lower threshold, all is foreground.
    """
    if not (scores > OBJECT - params.margin).any():
        return np.ones((params.resolution, params.resolution), dtype=np.float32)
    if not params.margin:
        return _object_mask(scores > OBJECT, params)
    possible, sure = (_object_mask(scores > OBJECT + step, params) for step in (-params.margin, params.margin))
    return np.where(possible == sure, sure, np.float32(IGNORE))


def _object_mask(mask: npt.NDArray[np.bool_], params: PseudoMaskParams) -> npt.NDArray[np.float32]:
    """The object of a mask `(h, w)` on the cells; none of an empty mask."""
    side = params.resolution
    if not mask.any():
        return np.zeros((side, side), dtype=np.float32)
    if params.shape == "box":
        box = np.array([largest_component_box(mask)], dtype=np.float32)
        height, width = (np.array([extent]) for extent in mask.shape)
        return np.asarray(rasterize(box, width, height, side)[0], dtype=np.float32)
    shares = area_shares(largest_component(mask), side)
    return shares if params.soft else np.asarray(shares >= min(0.5, shares.max()), dtype=np.float32)


def area_shares(mask: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.float32]:
    """The share of each of `side x side` cells that a mask `(h, w)` covers, float32 in [0, 1]; of halves exactly .5.

    Example:
        >>> area_shares(np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=bool), 2).round(3).tolist()
        [[0.444, 0.0], [0.0, 0.444]]
    """
    height, width = mask.shape
    covered = _overlaps(height, side) @ mask @ _overlaps(width, side).T  # whole numbers, up to h * w
    return np.asarray(covered / mask.size, dtype=np.float32)


@lru_cache(maxsize=4)
def _overlaps(pixels: int, side: int) -> npt.NDArray[np.float64]:
    """How long the part `(side, pixels)` is that a cell and a pixel of a line share, which is `pixels * side` long."""
    cells, marks = np.arange(side + 1) * pixels, np.arange(pixels + 1) * side
    ends = np.minimum(cells[1:, None], marks[None, 1:])
    starts = np.maximum(cells[:-1, None], marks[None, :-1])
    return np.asarray(np.maximum(ends - starts, 0), dtype=np.float64)
