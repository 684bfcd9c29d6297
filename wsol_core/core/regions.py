"""From score maps to boxes: upsample, rescale, threshold, find components, bound them. Pure functions on arrays.

A pixel is foreground where its score is strictly greater than the threshold, both compared as float32.
"""

from typing import Any, Literal, TypeGuard, get_args

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.core.boxes import Boxes

FloatArray = npt.NDArray[np.floating]
GridBox = tuple[int, int, int, int]
OtsuScale = Literal["otsu", "otsu_root", "otsu_logit"]
"""Those whose threshold .5 is each map's own."""
Scale = Literal["value", "maximum", "percentile", OtsuScale]

LEAST = np.float32(1e-3)
"""A score's distance from 0 and 1 at the least, where its logit is taken."""
ROUNDING = 1e-6
"""Share of the highest score by which the pixels of a constant map may differ once it is upsampled."""
ABOVE_HALF = np.nextafter(np.float32(0.5), np.float32(1))

PIXELS_FOR_16_BITS = 1 << 17
"""Fewer pixels than this hold fewer than 2**16 8-connected components, so 16-bit labels do (twice as fast)."""


def upsample(score_map: FloatArray, height: int, width: int) -> npt.NDArray[np.float32]:
    """Bilinear resize of a map `(h, w)` to `(height, width)` float32, pixel centres aligned (corners not).

    The same as `torch.nn.functional.interpolate(..., mode="bilinear", align_corners=False)`, smaller targets included
    (no averaging).

    Example:
        >>> upsample(np.array([[0.0, 1.0]]), 1, 4).tolist()
        [[0.0, 0.25, 0.75, 1.0]]
    """
    source = np.ascontiguousarray(score_map, dtype=np.float32)
    return np.asarray(cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def is_otsu(scale: str) -> TypeGuard[OtsuScale]:
    """Whether a scale is one of Otsu's.

    Example:
        >>> is_otsu("otsu_root"), is_otsu("value")
        (True, False)
    """
    return scale in get_args(OtsuScale)


def rescale(grid: npt.NDArray[np.float32], scale: Scale) -> npt.NDArray[np.float32]:
    """Scores `(h, w)`, none negative, on the scale of the thresholds, [0, 1].

    `value`: as they are. `maximum`: as shares of the largest one; zeros where it is 0. `percentile`: as the share of
    the pixels whose score is lower; so at a threshold t the highest 1 - t of the pixels are above it, fewer where
    scores are equal, and of a constant map none. `otsu`: linearly from the lowest score, 0, to the map's own
    `otsu_threshold`, .5, and from there to the highest score, 1; zeros where the map is constant. `otsu_root`: the same
    of the square roots of the scores, which lowers the threshold of maps that are products. `otsu_logit`: the same of
    their logits, scores nearer than `LEAST` to 0 or 1 standing for it.

    Example:
        >>> grid = np.array([[0, 0.25, 0.375, 0.5]], dtype=np.float32)
        >>> rescale(grid, "maximum").tolist()
        [[0.0, 0.5, 0.75, 1.0]]
        >>> rescale(grid, "percentile").tolist()
        [[0.0, 0.25, 0.5, 0.75]]
    """
    if scale == "value":
        return grid
    if scale == "maximum":
        return grid / (grid.max() or np.float32(1))
    if scale == "otsu":
        return _around_otsu(grid)
    if scale == "otsu_root":
        return _around_otsu(np.sqrt(grid))
    if scale == "otsu_logit":
        inner = np.clip(grid, LEAST, 1 - LEAST)
        return _around_otsu(np.log(inner / (1 - inner)) - np.log(LEAST / (1 - LEAST)))  # none negative
    order = np.argsort(grid, axis=None)
    ascending = grid.ravel()[order]
    ranks = np.empty(grid.size, dtype=np.float32)
    ranks[order] = np.searchsorted(ascending, ascending, side="left")
    return ranks.reshape(grid.shape) / np.float32(grid.size)


def otsu_threshold(grid: npt.NDArray[np.float32]) -> float:
    """The threshold that leaves the largest variance between the scores on its two sides (Otsu 1979), exact.

    It lies halfway between the two scores that it parts; of several equally good ones it is the lowest. Of a constant
    map it is the score itself. There is no histogram, so that scores need no range.

    Example:
        >>> otsu_threshold(np.array([[0, 0.25], [0.75, 1]], dtype=np.float32))
        0.5
    """
    values = np.sort(grid, axis=None).astype(np.float64)
    if values[0] == values[-1]:
        return float(values[0])
    below = np.arange(1, values.size)
    above = values.size - below
    lower = np.cumsum(values)
    between = (lower[:-1] / below - (lower[-1] - lower[:-1]) / above) ** 2 * below * above
    best = int(between.argmax())
    return float(values[best] + values[best + 1]) / 2


def _around_otsu(grid: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    threshold, low, high = otsu_threshold(grid), grid.min(), grid.max()
    if high - low <= ROUNDING * high:
        return np.zeros_like(grid)
    scores = np.interp(grid, [low, threshold, high], [0, 0.5, 1]).astype(np.float32)
    # A score a hair above the threshold must not round to .5, which is not foreground.
    return np.where(grid > threshold, np.maximum(scores, ABOVE_HALF), np.minimum(scores, np.float32(0.5)))


def find_components(binary: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
    """The 8-connected components of `(h, w)`: the number of each pixel's, from 1, and a row of OpenCV's for each.

    A row is `left, top, width, height, pixels`; 0 stands for the pixels that are not set and has no row.

    Example:
        >>> numbers, rows = find_components(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]], dtype=bool))
        >>> numbers.tolist()
        [[1, 0, 0], [0, 1, 0], [0, 0, 0], [2, 2, 2]]
        >>> rows.tolist()
        [[0, 0, 2, 2, 2], [0, 3, 3, 1, 3]]
    """
    label_type = cv2.CV_16U if binary.size < PIXELS_FOR_16_BITS else cv2.CV_32S
    pixels = np.ascontiguousarray(binary).view(np.uint8)
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8, ltype=label_type)
    return np.asarray(numbers), np.asarray(stats[1:], dtype=np.int32)


def largest_component_box(binary: npt.NDArray[np.bool_]) -> GridBox | None:
    """The half-open box `x0, y0, x1, y1` of the 8-connected component of `(h, w)` with the most pixels.

    Between components of one size the box that starts highest wins, then leftmost, then the lower, then the narrower
    one. None where nothing is set.

    Example:
        >>> largest_component_box(np.array([[1, 0, 0], [0, 0, 1], [0, 1, 1]], dtype=bool))
        (1, 1, 3, 3)
    """
    _, components = find_components(binary)
    if len(components) == 0:
        return None
    left, top, width, height, _ = components[_largest(components)].tolist()
    return left, top, left + width, top + height


def largest_component(binary: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels `(h, w)` of the component whose box is `largest_component_box`; none where nothing is set.

    Example:
        >>> largest_component(np.array([[1, 0, 0], [0, 0, 1], [0, 1, 1]], dtype=bool)).astype(int).tolist()
        [[0, 0, 0], [0, 0, 1], [0, 1, 1]]
    """
    numbers, components = find_components(binary)
    return numbers == _largest(components) + 1 if len(components) else np.zeros(binary.shape, dtype=bool)


def _largest(components: npt.NDArray[np.int32]) -> int:
    """The row of the component with the most pixels, of equal ones the one that starts highest, then leftmost."""
    left, top, width, height, area = components.T
    return int(np.lexsort((width, height, left, top, -area))[0])


def boxes_at_thresholds(
    score_map: FloatArray, thresholds: FloatArray, width: int, height: int, resolution: int, scale: Scale = "value"
) -> Boxes:
    """Boxes `(T, 4)` of one map at many thresholds: row t equals `map_box(score_map, thresholds[t], ...)`.

    The map is upsampled once and turned into levels (how many thresholds lie below each pixel); `component_sweep` finds
    the largest component of each in one pass.

    Args:
        score_map: `(h, w)`, the whole image.
        thresholds: `(T,)`, ascending.
        width: of the original image, pixels.
        height: of the original image, pixels.
        resolution: side of the square grid on which components are found.
        scale: what the thresholds are held against, see `rescale`.

    Example:
        >>> score_map = np.array([[0.0, 0.0], [0.4, 0.8]])
        >>> boxes_at_thresholds(score_map, np.array([0.2, 0.6]), 100, 50, 2).tolist()
        [[0.0, 25.0, 100.0, 50.0], [50.0, 25.0, 100.0, 50.0]]
    """
    grid = rescale(upsample(score_map, resolution, resolution), scale)
    if len(thresholds) == 1:
        box = largest_component_box(grid > np.float32(thresholds[0]))
        found = np.array([box or (0, 0, resolution, resolution)], dtype=np.int32)
    else:
        from wsol_core.core.component_sweep import largest_boxes  # numba takes a second to import

        below = np.searchsorted(np.asarray(thresholds, dtype=np.float32), grid.ravel(), side="left")
        levels = below.astype(np.uint16).reshape(resolution, resolution)
        found = largest_boxes(levels, len(thresholds))
    return _to_image(found.astype(np.float32), width, height, resolution)


def _to_image(boxes: Boxes, width: int, height: int, resolution: int) -> Boxes:
    return boxes * np.array([width, height, width, height], dtype=np.float32) / np.float32(resolution)


def map_box(
    score_map: FloatArray, threshold: float, width: int, height: int, resolution: int, scale: Scale = "value"
) -> Boxes:
    """The box `(4,)` float32 of a score map, in pixels of the original `width x height` image.

    The map `(h, w)` is upsampled to `resolution x resolution` and rescaled; the box is that of the largest component of
    its pixels above `threshold`, scaled to the image. Where no pixel is above it (an empty map), or every pixel is (a
    constant map), the box is the whole image.

    Example:
        >>> map_box(np.array([[0.0, 0.0], [0.4, 0.8]]), 0.6, 100, 50, 2).tolist()
        [50.0, 25.0, 100.0, 50.0]
    """
    box: Boxes = boxes_at_thresholds(score_map, np.array([threshold]), width, height, resolution, scale)[0]
    return box


def map_boxes(
    score_map: FloatArray,
    threshold: float,
    width: int,
    height: int,
    resolution: int,
    scale: Scale = "value",
    min_area: float = 0.0,
) -> tuple[Boxes, npt.NDArray[np.float32]]:
    """The boxes `(C, 4)` of all components of a score map, best first, and their scores `(C,)` in [0, 1].

    A component's score is the sum of its pixels' scores (before rescaling) as a share of the pixels of the map: a large
    and sure component comes before a small one with a high peak. Equal ones stand in the order of
    `largest_component_box`. Components smaller than `min_area`, a share of the map, are left out unless all are; then
    the largest ones stay. Where no pixel is above the threshold, the whole image is the one box, so C is never 0.

    Example:
        >>> score_map = np.array([[1.0, 0.0, 0.5, 0.0], [0.0] * 4, [0.0] * 4, [0.0] * 4])
        >>> boxes, scores = map_boxes(score_map, 0.25, 40, 40, 4)
        >>> boxes.tolist()
        [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]]
        >>> scores.tolist()
        [0.0625, 0.03125]
    """
    grid = upsample(score_map, resolution, resolution)
    numbers, components = find_components(rescale(grid, scale) > np.float32(threshold))
    if len(components) == 0:
        return np.array([[0, 0, width, height]], dtype=np.float32), grid.mean(keepdims=True).reshape(1)
    left, top, wide, high, areas = components.T
    scores = np.bincount(numbers.ravel(), grid.ravel())[1:].astype(np.float32) / np.float32(grid.size)
    order = np.lexsort((wide, high, left, top, -scores))
    order = order[areas[order] >= min(min_area * grid.size, areas.max())]
    boxes = np.stack([left, top, left + wide, top + high], axis=1).astype(np.float32)
    return _to_image(boxes, width, height, resolution)[order], scores[order]
