"""Pseudo boxes -> low-resolution pseudo masks (WSFL 3.3.2)."""

import numpy as np
import numpy.typing as npt
from pydantic import Field

from wsol_core.core.boxes import Boxes
from wsol_core.core.params import Block


class PseudoMaskParams(Block):
    """How pseudo masks are made."""

    resolution: int = Field(default=14, gt=0)
    """side of the square masks, in cells"""


def rasterize(boxes: Boxes, widths: npt.ArrayLike, heights: npt.ArrayLike, resolution: int) -> npt.NDArray[np.uint8]:
    """Masks of boxes on a coarse grid that covers the image: 1 where a cell's centre lies inside the box.

    The paper asks for the box to be resized to the grid and leaves rounding open: the centre rule rounds each side to
    the nearest cell border. A box that holds no centre marks the one cell that its own centre lies in.

    Args:
        boxes: `(N, 4)`, one per image, in its pixels.
        widths: `(N,)` of the images, in pixels.
        heights: `(N,)` of the images, in pixels.
        resolution: side of the masks.

    Returns:
        `(N, resolution, resolution)` uint8.
    """
    extent = np.stack([widths, heights, widths, heights], axis=1).astype(np.float64)
    x0, y0, x1, y1 = (boxes.astype(np.float64) / extent * resolution).T
    centres = np.arange(resolution) + 0.5

    def inside(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        hit = (centres >= low[:, None]) & (centres < high[:, None])
        middle = np.clip(((low + high) / 2).astype(int), 0, resolution - 1)
        none = ~hit.any(axis=1)
        hit[none, middle[none]] = True
        return hit

    return (inside(y0, y1)[:, :, None] & inside(x0, x1)[:, None, :]).astype(np.uint8)
