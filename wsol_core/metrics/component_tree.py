"""Every contour of a map at every threshold, from its component trees instead of one search per threshold.

A map holds levels: a pixel of level `v` is set at the steps `0 <= t < v`. Each row is split into segments that rise and
then fall, so that a segment is one run at every step. Segments are joined where they touch; a join that takes effect as
soon as the lower of both exists makes them one hill, so that a hill is one component at every step. The others are
kept as joints, to be done in descending order (Kruskal).

Per hill and step a table row holds the extent and area; where hills join, their tables are folded into one. A first
pass over the background finds the holes. A hole's contour runs through the pixels around it, so its box is the hole's,
larger by one pixel on each side. A contour's area (the polygon through its pixels' centres) is the number of full 2x2
blocks, and half of those with three pixels, of the component without its holes; so areas are taken from the map whose
holes are filled.

All functions are compiled, and let go of the interpreter's lock. They stand in one file, as the compiler's cache on
disk notices changes of a function's own file alone, not of the files of those that it calls.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

FIRST, BOTTOM, LEFT, RIGHT, AREA = range(5)

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


@compiled
def tabulate(levels: Any, row_start: Any, start: Any, peak: Any, hill: Any, hill_peak: Any, steps: int) -> Any:
    """Table `(hills, 5, steps)`: each hill's first pixel (row, then column) and extent; the area is left at 0."""
    height = len(levels)
    hills = len(hill_peak)
    table = np.zeros((hills, 5, steps), dtype=np.int32)
    columns = np.zeros((hills, levels.shape[1]), dtype=np.uint8)
    covered = np.zeros(hills, dtype=np.int64)
    for y in range(height):
        row = levels[y]
        for segment in range(row_start[y], row_start[y + 1]):
            this, x = hill[segment], start[segment]
            if this < 0:
                continue
            for step in range(covered[this], peak[segment]):
                while row[x] <= step:
                    x += 1
                table[this, FIRST, step] = (y << 16) | x
            covered[this] = max(covered[this], peak[segment])
            x, end = start[segment], start[segment + 1] or len(row)
            raise_to(columns[this, x:end], row[x:end])
    covered[:] = 0
    for y in range(height - 1, -1, -1):
        for segment in range(row_start[y], row_start[y + 1]):
            this = hill[segment]
            if this >= 0 and covered[this] < peak[segment]:
                table[this, BOTTOM, covered[this] : peak[segment]] = y
                covered[this] = peak[segment]
    for this in range(hills):
        reach(columns[this], table[this], hill_peak[this])
    return table


@compiled
def weigh(levels: Any, row_start: Any, start: Any, hill: Any, table: Any) -> None:
    """Fill in the areas, in half pixels."""
    height, width = levels.shape
    third, last = np.empty(width - 1, dtype=np.uint8), np.empty(width - 1, dtype=np.uint8)
    for y in range(height - 1):
        rank_blocks(levels[y], levels[y + 1], third, last)
        for segment in range(row_start[y], row_start[y + 1]):
            if hill[segment] >= 0:
                area = table[hill[segment], AREA]
                for x in range(max(start[segment] - 1, 0), (start[segment + 1] or width) - 1):
                    if third[x]:
                        area[third[x] - 1] += 1
                        if last[x]:
                            area[last[x] - 1] += 1
    for this in range(len(table)):
        for step in range(table.shape[2] - 2, -1, -1):
            table[this, AREA, step] += table[this, AREA, step + 1]


@compiled
def rank_blocks(above: Any, below: Any, third: Any, last: Any) -> None:
    """The third highest and the lowest level of each 2x2 block of two rows."""
    a, b, c, d = above[:-1], above[1:], below[:-1], below[1:]
    for x in range(len(third)):
        low, other = min(a[x], b[x]), min(c[x], d[x])
        last[x] = min(low, other)
        third[x] = min(max(low, other), min(max(a[x], b[x]), max(c[x], d[x])))


@compiled
def raise_to(target: Any, values: Any) -> None:
    """Elementwise maximum, in place."""
    for x in range(len(target)):
        target[x] = max(target[x], values[x])


@compiled
def reach(columns: Any, table: Any, peak: int) -> None:
    """Fill in the leftmost and rightmost column of each step."""
    covered, x = 0, 0
    while covered < peak:
        if columns[x] > covered:
            table[LEFT, covered : columns[x]] = x
            covered = columns[x]
        x += 1
    covered, x = 0, len(columns) - 1
    while covered < peak:
        if columns[x] > covered:
            table[RIGHT, covered : columns[x]] = x
            covered = columns[x]
        x -= 1


@compiled
def fold(into: Any, table: Any, level: int) -> None:
    """Make two components one at the steps below `level`."""
    for step in range(level):
        into[FIRST, step] = min(into[FIRST, step], table[FIRST, step])
        into[BOTTOM, step] = max(into[BOTTOM, step], table[BOTTOM, step])
        into[LEFT, step] = min(into[LEFT, step], table[LEFT, step])
        into[RIGHT, step] = max(into[RIGHT, step], table[RIGHT, step])
        into[AREA, step] += table[AREA, step]


@compiled
def overlap(x0: int, y0: int, x1: int, y1: int, truth: Any) -> float:
    """The best IoU of a box with one of `truth (G, 4)`; the corners belong to the boxes."""
    best = 0.0
    for g in range(len(truth)):
        width = min(x1, truth[g, 2]) - max(x0, truth[g, 0]) + 1
        height = min(y1, truth[g, 3]) - max(y0, truth[g, 1]) + 1
        if width > 0 and height > 0:
            common = width * height
            own = (truth[g, 2] - truth[g, 0] + 1) * (truth[g, 3] - truth[g, 1] + 1)
            best = max(best, common / ((x1 - x0 + 1) * (y1 - y0 + 1) + own - common))
    return best


@compiled
def record(table: Any, low: int, high: int, inset: int, side: int, truth: Any, best: Any, largest: Any) -> None:
    """Hold a component's box at the steps from `low` to `high` (left out) against the best so far."""
    for step in range(low, high):
        x0, y0 = table[LEFT, step] - inset, (table[FIRST, step] >> 16) - inset
        x1, y1 = min(table[RIGHT, step] + 1, side - 1), min(table[BOTTOM, step] + 1, side - 1)
        found = overlap(x0, y0, x1, y1, truth)
        best[step] = max(best[step], found)
        if len(largest) == 0:
            continue
        area, first = table[AREA, step], table[FIRST, step]
        if area > largest[step, 0] or (area == largest[step, 0] and first > largest[step, 1]):
            largest[step, 0], largest[step, 1], largest[step, 2] = area, first, found


@compiled
def in_order(joints: Any, steps: int) -> Any:
    """Positions of the joints, highest level first, in their own order within a level."""
    place = np.zeros(steps + 2, dtype=np.int64)
    for joint in range(len(joints)):
        place[steps - joints[joint, 0] + 1] += 1
    for level in range(1, steps + 2):
        place[level] += place[level - 1]
    order = np.empty(len(joints), dtype=np.int32)
    for joint in range(len(joints)):
        bucket = steps - joints[joint, 0]
        order[place[bucket]] = joint
        place[bucket] += 1
    return order


@compiled
def walk(levels: Any, steps: int, background: bool, truth: Any, best: Any, largest: Any, filled: Any) -> Any:
    """Record every component of `levels (side, side)` at every step; returns their numbers `(steps,)`.

    The foreground's components are connected across corners. The background's are holes: they are not, `levels` has a
    frame of one pixel that is always set, and what touches the frame is no hole. Where `largest` is empty, no areas are
    needed.
    """
    height, width = levels.shape
    row_start = np.empty(height + 1, dtype=np.int32)
    start = np.empty(height * (width // 2 + 1) + 1, dtype=np.int32)
    peak = np.empty(len(start), dtype=np.uint8)
    segments = split_rows(levels, row_start, start, peak)
    parent = np.arange(segments).astype(np.int32)
    joints = np.empty((3 * segments + height * width, 3), dtype=np.int32)
    joints = joints[: join_rows(levels, not background, row_start, start, peak, parent, joints)]
    hill = np.empty(segments, dtype=np.int32)
    hill_peak = number_hills(parent, peak, hill)
    table = tabulate(levels, row_start, start, peak, hill, hill_peak, steps)
    if len(largest) and len(hill_peak) > 1:
        weigh(levels, row_start, start, hill, table)
    for joint in range(len(joints)):
        joints[joint, 1], joints[joint, 2] = hill[joints[joint, 1]], hill[joints[joint, 2]]
    if background:
        outlet, number = join_hills(table, joints, hill_peak, hill[0], 2, height - 2, truth, best, largest)
        fill(levels, row_start, start, peak, hill, outlet, steps, filled)
    else:
        _, number = join_hills(table, joints, hill_peak, -1, 0, height, truth, best, largest)
    return number


@compiled
def join_hills(
    table: Any, joints: Any, peak: Any, outside: int, inset: int, side: int, truth: Any, best: Any, largest: Any
) -> Any:
    """Join hills at `joints (J, 3)` (level, two hills), record each component until it grows into another.

    Returns, per hill, the level below which it is one with the hill `outside`, which is not recorded; and the number of
    components at each step, without the one of `outside`.
    """
    root = np.arange(len(peak)).astype(np.int32)
    opened = peak.astype(np.int32)
    joined = np.empty((len(peak), 3), dtype=np.int32)
    count = 0
    for joint in in_order(joints, table.shape[2]):
        level, one, other = joints[joint, 0], find(root, joints[joint, 1]), find(root, joints[joint, 2])
        if one == other:
            continue
        if other == outside:
            one, other = other, one
        if one != outside:
            record(table[one], level, opened[one], inset, side, truth, best, largest)
        record(table[other], level, opened[other], inset, side, truth, best, largest)
        fold(table[one], table[other], level)
        root[other], opened[one] = one, level
        joined[count, 0], joined[count, 1], joined[count, 2] = level, one, other
        count += 1
    outlet = np.zeros(len(peak), dtype=np.int32)
    for this in range(len(peak)):
        if this == outside:
            outlet[this] = peak[this]
        elif root[this] == this:
            record(table[this], 0, opened[this], inset, side, truth, best, largest)
    for index in range(count - 1, -1, -1):
        outlet[joined[index, 2]] = min(joined[index, 0], outlet[joined[index, 1]])
    number = np.zeros(table.shape[2], dtype=np.int32)
    for this in range(len(peak)):
        number[: peak[this]] += this != outside
    for index in range(count):
        number[: joined[index, 0]] -= 1
    return outlet, number


@compiled
def fill(levels: Any, row_start: Any, start: Any, peak: Any, hill: Any, outlet: Any, steps: int, filled: Any) -> None:
    """Raise the holes in `filled` to the level at which they open to the outside."""
    height, width = levels.shape
    for y in range(1, height - 1):
        for segment in range(row_start[y], row_start[y + 1]):
            if hill[segment] < 0 or outlet[hill[segment]] >= peak[segment]:
                continue
            level = outlet[hill[segment]]
            for x in range(start[segment], start[segment + 1] or width):
                if levels[y, x] > level:
                    filled[y - 1, x - 1] = steps - level


@compiled
def holes_have_islands(levels: Any, filled: Any, holes: Any) -> bool:
    """Whether at some step a component lies inside a hole, by the Euler number of the holes' pixels.

    Pixels less pairs of neighbours plus 2x2 blocks is the number of holes, less that of the islands in them.

    Args:
        levels: `(h, w)`.
        filled: `(h, w)`, the same with the holes raised: a pixel is in a hole at the steps `levels <= t < filled`.
        holes: `(steps,)`, number of holes at each step.
    """
    height, width = levels.shape
    change = np.zeros(len(holes) + 1, dtype=np.int32)
    for y in range(height):
        if not differ(levels[y], filled[y]):
            continue
        for x in range(width):
            if filled[y, x] == levels[y, x]:
                continue
            low, high = levels[y, x], filled[y, x]
            step(change, low, high, 1)
            if x + 1 < width:
                step(change, max(low, levels[y, x + 1]), min(high, filled[y, x + 1]), -1)
            if y + 1 < height:
                low, high = max(low, levels[y + 1, x]), min(high, filled[y + 1, x])
                step(change, low, high, -1)
                if x + 1 < width:
                    low = max(low, max(levels[y, x + 1], levels[y + 1, x + 1]))
                    high = min(high, min(filled[y, x + 1], filled[y + 1, x + 1]))
                    step(change, low, high, 1)
    number = 0
    for index in range(len(holes)):
        number += change[index]
        if number < holes[index]:
            return True
    return False


@compiled
def differ(one: Any, other: Any) -> bool:
    """Whether two rows differ."""
    found = np.uint8(0)
    for x in range(len(one)):
        found |= one[x] ^ other[x]
    return bool(found > 0)


@compiled
def step(change: Any, low: int, high: int, by: int) -> None:
    """Add `by` to the running sum of `change` at the steps from `low` to `high` (left out)."""
    if low < high:
        change[low] += by
        change[high] -= by


@compiled
def quantize(scores: Any) -> Any:
    """The `scores (h, w)` float32 in [0, 1] times 255, cut to whole numbers, uint8."""
    values = np.empty(scores.shape, dtype=np.uint8)
    for y in range(len(scores)):
        for x in range(scores.shape[1]):
            values[y, x] = np.uint8(scores[y, x] * np.float32(255))
    return values


@compiled
def measure(values: Any, taus: Any, truth: Any, best: Any, largest: Any) -> None:
    """IoU of all contours of one map, and of the one of the largest area, at every threshold.

    Args:
        values: `(side, side)` uint8, scores times 255.
        taus: `(T,)`, T < 256, ascending.
        truth: `(G, 4)` int, the corners belong to the boxes.
        best: `(T,)`, result: the best IoU of any contour's box with any box of `truth`.
        largest: `(T,)`, result: that of the contour of the largest area.
    """
    side, steps = len(values), len(taus)
    top = values.max()
    below = np.zeros(256, dtype=np.uint8)
    for tau in taus:
        below[int(tau * top) + 1 :] += np.uint8(1)
    levels = np.empty((side, side), dtype=np.uint8)
    framed = np.full((side + 2, side + 2), np.uint8(steps), dtype=np.uint8)
    for y in range(side):
        for x in range(side):
            levels[y, x] = below[values[y, x]]
            framed[y + 1, x + 1] = np.uint8(steps) - levels[y, x]
    holes = np.full(steps, -1.0)
    nothing = np.empty((0, 3))
    filled = levels.copy()
    number = walk(framed, steps, True, truth, holes, nothing, filled)
    found = np.full((steps, 3), -1.0)
    best[:] = -1.0
    walk(filled, steps, False, truth, best, found, filled)
    if holes_have_islands(levels, filled, number[::-1]):
        walk(levels, steps, False, truth, best, nothing, filled)
    empty = overlap(0, 0, 0, 0, truth)
    for step in range(steps):
        best[step] = max(best[step], holes[steps - 1 - step])
        if best[step] < 0:
            best[step] = empty
        largest[step] = found[step, 2] if found[step, 1] >= 0 else empty
