"""The largest component of a map at every threshold, from one pass over its pixels; compiled by numba.

Pixels are added from the highest level down, and joined with their neighbours that are there (union-find), so each
component grows and merges once instead of being sought anew at every threshold.

`metrics.component_tree` finds roots too, by a function of its own: numba's cache on disk would not notice a change of
one that lies in another file.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

X0, Y0, X1, Y1, AREA = range(5)


def largest_boxes(levels: npt.NDArray[np.uint16], steps: int) -> npt.NDArray[np.int32]:
    """Half-open boxes `(steps, 4)` of the largest 8-connected component of `levels > step`, for each step from 0.

    Between components of one size the same one wins as in `regions.largest_component_box`. Where nothing is set the box
    is the whole grid.

    Args:
        levels: `(h, w)`.
        steps: how many.
    """
    boxes = np.empty((steps, 4), dtype=np.int32)
    _sweep(levels, boxes)
    return boxes


@numba.njit(cache=True, nogil=True)
def _sweep(levels: Any, boxes: Any) -> None:  # one function: the cache on disk does not notice changes of those called
    height, width = levels.shape
    steps = len(boxes)
    count = height * width
    flat = levels.ravel()

    start = np.zeros(steps + 2, np.int32)  # pixels by level: those of level v are order[start[v]:start[v + 1]]
    for pixel in range(count):
        start[min(flat[pixel], steps) + 1] += 1
    for level in range(1, steps + 2):
        start[level] += start[level - 1]
    place = start[:-1].copy()
    order = np.empty(count, np.int32)
    for pixel in range(count):
        level = min(flat[pixel], steps)
        order[place[level]] = pixel
        place[level] += 1

    parent = np.full(count, -1, np.int32)  # -1: not there yet
    extent = np.empty((count, 5), np.int32)  # of roots
    best = -1
    for level in range(steps, 0, -1):
        for number in range(start[level], start[level + 1]):
            pixel = order[number]
            y, x = divmod(pixel, width)
            parent[pixel] = pixel
            extent[pixel, X0], extent[pixel, Y0], extent[pixel, X1], extent[pixel, Y1] = x, y, x + 1, y + 1
            extent[pixel, AREA] = 1
            root = pixel
            for down in range(max(0, y - 1), min(height, y + 2)):
                for right in range(max(0, x - 1), min(width, x + 2)):
                    other = down * width + right
                    if parent[other] < 0:
                        continue
                    while parent[other] != other:
                        parent[other] = parent[parent[other]]
                        other = parent[other]
                    if other == root:
                        continue
                    if extent[other, AREA] > extent[root, AREA]:
                        root, other = other, root
                    parent[other] = root
                    extent[root, X0] = min(extent[root, X0], extent[other, X0])
                    extent[root, Y0] = min(extent[root, Y0], extent[other, Y0])
                    extent[root, X1] = max(extent[root, X1], extent[other, X1])
                    extent[root, Y1] = max(extent[root, Y1], extent[other, Y1])
                    extent[root, AREA] += extent[other, AREA]
            if best < 0:
                best = root
                continue
            while parent[best] != best:
                best = parent[best]
            one, two = extent[root], extent[best]
            if one[AREA] != two[AREA]:
                wins = one[AREA] > two[AREA]
            elif one[Y0] != two[Y0]:
                wins = one[Y0] < two[Y0]
            elif one[X0] != two[X0]:
                wins = one[X0] < two[X0]
            elif one[Y1] != two[Y1]:
                wins = one[Y1] < two[Y1]
            else:
                wins = one[X1] < two[X1]
            if wins:
                best = root
        if best < 0:
            boxes[level - 1, X0], boxes[level - 1, Y0], boxes[level - 1, X1], boxes[level - 1, Y1] = 0, 0, width, height
        else:
            boxes[level - 1] = extent[best, :AREA]
