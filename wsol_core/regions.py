"""From score maps to boxes: upsample, threshold, largest component, its bounding box. Pure functions on arrays.

A pixel is foreground where its score is strictly greater than the threshold, both compared as float32.
"""

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.boxes import Boxes

FloatArray = npt.NDArray[np.floating]
GridBox = tuple[int, int, int, int]

PIXELS_FOR_16_BITS = 1 << 17
"""Fewer pixels than this hold fewer than 2**16 8-connected components, so 16-bit labels do (twice as fast)."""


def upsample(score_map: FloatArray, height: int, width: int) -> npt.NDArray[np.float32]:
    """Bilinear resize of a map `(h, w)` to `(height, width)` float32, pixel centres aligned (corners not).

    The same as `torch.nn.functional.interpolate(..., mode="bilinear", align_corners=False)`, smaller targets included
    (no averaging).
    """
    source = np.ascontiguousarray(score_map, dtype=np.float32)
    return np.asarray(cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def largest_component_box(binary: npt.NDArray[np.bool_]) -> GridBox | None:
    """The half-open box `x0, y0, x1, y1` of the 8-connected component of `(h, w)` with the most pixels.

    Between components of one size the box that starts highest wins, then leftmost, then the lower, then the narrower
    one. None where nothing is set.
    """
    label_type = cv2.CV_16U if binary.size < PIXELS_FOR_16_BITS else cv2.CV_32S
    pixels = np.ascontiguousarray(binary).view(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8, ltype=label_type)
    components = stats[1:]
    if len(components) == 0:
        return None
    areas = components[:, cv2.CC_STAT_AREA]
    left, top, width, height, _ = min(
        components[areas == areas.max()].tolist(), key=lambda row: (row[1], row[0], row[3], row[2])
    )
    return left, top, left + width, top + height


def boxes_at_thresholds(
    score_map: FloatArray, thresholds: FloatArray, width: int, height: int, resolution: int
) -> Boxes:
    """Boxes `(T, 4)` of one map at many thresholds: row t equals `map_box(score_map, thresholds[t], ...)`.

    The map is upsampled once and turned into levels (how many thresholds lie below each pixel). A threshold that no
    pixel separates from the one before keeps its box, and components are sought only inside the bounds of what is left.

    Args:
        score_map: `(h, w)`, the whole image.
        thresholds: `(T,)`, ascending.
        width: of the original image, pixels.
        height: of the original image, pixels.
        resolution: side of the square grid on which components are found.
    """
    grid = upsample(score_map, resolution, resolution)
    below = np.searchsorted(np.asarray(thresholds, dtype=np.float32), grid.ravel(), side="left")
    levels = below.astype(np.uint16).reshape(resolution, resolution)
    occupied = np.bincount(levels.ravel(), minlength=len(thresholds) + 1) > 0
    row_levels, column_levels = levels.max(axis=1), levels.max(axis=0)
    boxes = np.empty((len(thresholds), 4), dtype=np.float32)
    box: GridBox = (0, 0, resolution, resolution)
    for index in range(len(thresholds)):
        if occupied[index]:
            rows, columns = np.flatnonzero(row_levels > index), np.flatnonzero(column_levels > index)
            box = _box_within(levels, index, rows, columns)
        boxes[index] = box
    return boxes * np.array([width, height, width, height], dtype=np.float32) / np.float32(resolution)


def _box_within(
    levels: npt.NDArray[np.uint16], index: int, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> GridBox:
    """The largest component of `levels > index`, which is empty outside the ascending `rows` and `columns`."""
    if len(rows) == 0:
        return 0, 0, levels.shape[1], levels.shape[0]
    top, left = int(rows[0]), int(columns[0])
    found = largest_component_box(levels[top : rows[-1] + 1, left : columns[-1] + 1] > index)
    assert found is not None
    x0, y0, x1, y1 = found
    return left + x0, top + y0, left + x1, top + y1


def map_box(score_map: FloatArray, threshold: float, width: int, height: int, resolution: int) -> Boxes:
    """The box `(4,)` float32 of a score map, in pixels of the original `width x height` image.

    The map `(h, w)` is upsampled to `resolution x resolution`; the box is that of the largest component of its pixels
    above `threshold`, scaled to the image. Where no pixel is above it (an empty map), or every pixel is (a constant
    map), the box is the whole image.
    """
    box: Boxes = boxes_at_thresholds(score_map, np.array([threshold]), width, height, resolution)[0]
    return box
