"""The hills of a map of levels, and the levels at which they join: what a component tree is made of.

A map holds levels: a pixel of level `v` is set at the steps `0 <= t < v`. Each row is split into segments that rise and
then fall, so that a segment is one run at every step. Segments are joined where they touch; a join that takes effect as
soon as the lower of both exists makes them one hill, so that a hill is one component at every step. The others are
kept as joints, to be done in descending order (Kruskal).
All functions are compiled, and let go of the interpreter's lock.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on first use, keep the machine code on disk."""
    return cast(F, numba.njit(cache=True, nogil=True)(function))


@compiled
def find(parent: Any, node: int) -> int:
    """The root of `node`, halving the path on the way."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def split_rows(levels: Any, row_start: Any, start: Any, peak: Any) -> int:
    """Split rows into segments that rise, then fall; the lowest pixel between two belongs to the left one.

    `start[segment + 1]` is the end of a segment, except that it is 0 after the last one of a row.
    """
    height, width = levels.shape
    count = 0
    for y in range(height):
        row = levels[y]
        row_start[y] = count
        start[count] = 0
        previous = top = row[0]
        falling = False
        for x in range(1, width):
            value = row[x]
            if falling and value > previous:
                peak[count] = top
                count += 1
                start[count] = x
                top = value
                falling = False
            falling |= value < previous
            top = max(top, value)
            previous = value
        peak[count] = top
        count += 1
    row_start[height] = count
    start[count] = 0
    return count


@compiled
def touch(parent: Any, peak: Any, joints: Any, count: int, one: int, other: int, level: int) -> int:
    """Join two segments that touch at the steps below `level`, or keep the joint; returns the number of joints."""
    one, other = find(parent, one), find(parent, other)
    if one == other or level == 0:
        return count
    if peak[one] < peak[other]:
        one, other = other, one
    if level == peak[other]:
        parent[other] = one
        return count
    joints[count, 0], joints[count, 1], joints[count, 2] = level, one, other
    return count + 1


@compiled
def join_rows(levels: Any, diagonal: bool, row_start: Any, start: Any, peak: Any, parent: Any, joints: Any) -> int:
    """Join all segments that touch, sideways, up and down and, if asked, across a corner."""
    height, width = levels.shape
    count = 0
    for y in range(height):
        row = levels[y]
        for segment in range(row_start[y] + 1, row_start[y + 1]):
            level = row[start[segment] - 1]
            count = touch(parent, peak, joints, count, segment - 1, segment, level)
        if y == 0:
            continue
        above = levels[y - 1]
        upper, lower, x = row_start[y - 1], row_start[y], 0
        while x < width:
            upper_end, lower_end = start[upper + 1] or width, start[lower + 1] or width
            end = min(upper_end, lower_end)
            if find(parent, upper) != find(parent, lower):
                level = highest_common(above[x:end], row[x:end])
                count = touch(parent, peak, joints, count, upper, lower, level)
            upper += end == upper_end
            lower += end == lower_end
            x = end
        if diagonal and has_saddle(above, row):
            count = join_corners(above, row, y, row_start, start, peak, parent, joints, count)
    return count


@compiled
def highest_common(above: Any, below: Any) -> int:
    """The highest level at which one of the columns is set in both rows."""
    level = np.uint8(0)
    for x in range(len(above)):
        level = max(level, min(above[x], below[x]))
    return int(level)


@compiled
def has_saddle(above: Any, below: Any) -> bool:
    """Whether in some 2x2 block both pixels of a diagonal are higher than the other two."""
    found = np.uint8(0)
    a, b, c, d = above[:-1], above[1:], below[:-1], below[1:]
    for x in range(len(a)):
        found |= np.uint8((min(a[x], d[x]) > max(b[x], c[x])) | (min(b[x], c[x]) > max(a[x], d[x])))
    return bool(found > 0)


@compiled
def join_corners(
    above: Any, row: Any, y: int, row_start: Any, start: Any, peak: Any, parent: Any, joints: Any, count: int
) -> int:
    """Join the segments that touch across a corner only."""
    upper, lower = row_start[y - 1], row_start[y]
    for x in range(len(row) - 1):
        upper += start[upper + 1] == x > 0
        lower += start[lower + 1] == x > 0
        next_upper, next_lower = upper + (start[upper + 1] == x + 1), lower + (start[lower + 1] == x + 1)
        if min(above[x], row[x + 1]) > max(above[x + 1], row[x]):
            count = touch(parent, peak, joints, count, upper, next_lower, min(above[x], row[x + 1]))
        elif min(above[x + 1], row[x]) > max(above[x], row[x + 1]):
            count = touch(parent, peak, joints, count, next_upper, lower, min(above[x + 1], row[x]))
    return count


@compiled
def number_hills(parent: Any, peak: Any, hill: Any) -> Any:
    """Give each segment the number of its hill, -1 where nothing is ever set; returns the hills' peaks."""
    hills = 0
    hill_peak = np.empty(len(parent), dtype=np.uint8)
    for segment in range(len(parent)):
        if parent[segment] == segment:
            hill[segment] = hills if peak[segment] else -1
            hill_peak[hills] = peak[segment]
            hills += peak[segment] > 0
    for segment in range(len(parent)):
        hill[segment] = hill[find(parent, segment)]
    return hill_peak[:hills]
