"""Why a box is wrong, and which objects are hard: types of error, and bins by the object's share of the image.

The types follow the error analysis of TS-CAM (Gao et al., ICCV 2021: multi-instance, part, more, other), which is built
on two coverage ratios of a predicted box P and a ground-truth box G: IoG, the share of G that P covers, and IoP, the
share of P that lies on G.
"""

import numpy as np
import numpy.typing as npt

from wsol_core.core.boxes import Boxes, area, paired_iou
from wsol_core.metrics.localization import GroundTruth, is_correct

FloatArray = npt.NDArray[np.floating]

ERROR_TYPES = ("correct", "missing", "multi_instance", "too_big", "too_small", "part", "background")
SEVERAL = 0.3
WHOLE = 0.7
INSIDE = 0.5
PART = 0.25

SIZE_EDGES = (0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1)


def error_types(predicted: Boxes, truth: GroundTruth) -> npt.NDArray[np.intp]:
    """The type `(N,)` of N predicted boxes `(N, 4)`, a position in `ERROR_TYPES`: the first that holds.

    Every image has exactly one type, and every wrong one a type other than `correct`. G is the ground-truth box of
    the largest IoU, of equals the first.

    - `correct`: IoU > .5.
    - `missing`: the box is empty; the image has no prediction.
    - `multi_instance`: IoG > .3 for two or more ground-truth boxes: one box for several objects.
    - `too_big`: IoG >= .7: the box holds the object, and much besides.
    - `too_small`: IoP > .5 and .25 <= IoG < .7: most of the box lies on the object, but much of the object outside.
    - `part`: IoP > .5 and IoG < .25: the box lies on a detail of the object.
    - `background`: the rest: half of the box or more lies beside the object, and it does not hold the object either.

    TS-CAM's "part" is `too_small` and `part` together, its "other" is `background`. It asks for "part" before "more";
    here the order is reversed, as a wrong box with IoG >= .7 is always larger than the object.
    """
    iou, covered, inside = _ratios(predicted, truth)
    best = _best_rows(iou, truth)
    covered_boxes = np.bincount(truth.image, covered > SEVERAL, minlength=len(truth))
    iou, covered, inside = iou[best], covered[best], inside[best]
    conditions = [
        is_correct(iou),
        area(predicted) == 0,
        covered_boxes > 1,
        covered >= WHOLE,
        (inside > INSIDE) & (covered >= PART),
        inside > INSIDE,
    ]
    return np.select(conditions, range(len(conditions)), len(conditions)).astype(np.intp)


def _ratios(predicted: Boxes, truth: GroundTruth) -> tuple[FloatArray, FloatArray, FloatArray]:
    """IoU, IoG and IoP `(G,)` of each ground-truth box with the predicted box of its image; 0 for an empty box."""
    found = predicted[truth.image]
    low, high = np.maximum(found[:, :2], truth.boxes[:, :2]), np.minimum(found[:, 2:], truth.boxes[:, 2:])
    overlap = np.maximum(high - low, 0).prod(axis=1)
    covered, inside = (
        np.divide(overlap, whole, out=np.zeros_like(overlap), where=whole > 0)
        for whole in (area(truth.boxes), area(found))
    )
    return paired_iou(found, truth.boxes), covered, inside


def _best_rows(iou: FloatArray, truth: GroundTruth) -> npt.NDArray[np.intp]:
    """The row `(N,)` of each image's ground-truth box of the largest IoU, of equals the first."""
    order = np.lexsort((-iou, truth.image))
    return order[np.flatnonzero(np.diff(truth.image[order], prepend=-1))]


def shares_of_types(types: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Share of images `(7,)` of each of `ERROR_TYPES`; they sum to 1."""
    return np.bincount(types, minlength=len(ERROR_TYPES)) / max(len(types), 1)


def size_bins(truth: GroundTruth, widths: npt.ArrayLike, heights: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """The bin `(N,)` between `SIZE_EDGES` of each image by its largest object's share of the image's area.

    A bin holds its lower edge, the last one both. The share is of the ground-truth box, so it depends on no method.
    """
    starts = np.flatnonzero(np.diff(truth.image, prepend=-1))
    largest = np.maximum.reduceat(area(truth.boxes), starts) if len(starts) else np.zeros(0, np.float32)
    shares = largest / (np.asarray(widths, np.float64) * np.asarray(heights, np.float64))
    return np.clip(np.searchsorted(SIZE_EDGES, shares, side="right") - 1, 0, len(SIZE_EDGES) - 2)
