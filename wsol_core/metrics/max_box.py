"""MaxBoxAcc and MaxBoxAccV2 (Choe et al., Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020).

A map is brought to 224x224, multiplied by 255 and cut to whole numbers; at each tau the pixels strictly above
`int(tau * maximum)` are set. V1 takes the box of the contour that encloses the largest area (on a tie the one whose
first pixel comes last, as OpenCV's order has it), V2 the best box of any contour, those of holes included; where no
pixel is set, the box is 0, 0, 0, 0. A contour's box is `x, y, x + w, y + h`, at most 223. Ground truth is scaled to 224
and cut to whole numbers, not clipped. In the IoU both corners belong to a box, and an image is correct where the best
IoU with any ground-truth box is at least the wanted one. The best tau is chosen on the measured images: an upper bound.
Beside it stands the best box around the centre (both sides the same share of the image's) by the same rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.core.boxes import Boxes
from wsol_core.core.errors import InputError
from wsol_core.metrics.localization import CENTRE_SIDES, best_index

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Correct = npt.NDArray[np.bool_]
"""`(1 + I, T + F)`: whether an image is correct by V1 and by V2 at each of I IoUs, at T taus and for F centre boxes."""

TAUS: Floats = np.arange(100) / 100
IOUS = (0.3, 0.5, 0.7)
SIDE = 224
V1_IOU = 0.5
CENTRE_LOW = np.trunc(SIDE * (1 - CENTRE_SIDES) / 2).astype(np.int64)
CENTRE_HIGH = np.minimum(SIDE - CENTRE_LOW, SIDE - 1)


@dataclass(frozen=True)
class MaxBoxFigures:
    """Figures in [0, 1], NaN where no image was added.

    Attributes:
        max_box_acc: V1, at IoU .5 and its best tau.
        max_box_acc_v2: mean of `by_iou`.
        by_iou: V2 at each IoU, each at its own best tau.
        tau: V1's best; the middle one where several are.
        taus_v2: V2's best at each IoU.
        curves: accuracy `(T,)` by tau: `v1@50`, `v2@30`, `v2@50`, `v2@70`.
        centre: V1 of the centre box, at its best side.
        centre_v2: mean over the IoUs of the centre box's accuracy, each at its own best side.
    """

    max_box_acc: float
    max_box_acc_v2: float
    by_iou: dict[float, float]
    tau: float
    taus_v2: dict[float, float]
    curves: dict[str, Floats]
    centre: float
    centre_v2: float


class MaxBoxAcc:
    """Adds up maps one by one; no map is kept.

    To measure in several threads, call `measure` from them, which compiled code does most of, and `count` from one.

    Args:
        taus: `(T,)` in [0, 1), ascending, at most 255.
        ious: V2's; V1's is .5.
    """

    def __init__(self, taus: Floats = TAUS, ious: Sequence[float] = IOUS) -> None:
        self._taus, self._ious = np.asarray(taus, dtype=np.float64), tuple(ious)
        if not 0 < len(self._taus) < 256:
            raise ValueError(f"{len(self._taus)} taus; 1 to 255 can be measured")
        self._images = 0
        self._correct = np.zeros((1 + len(self._ious), len(self._taus) + len(CENTRE_SIDES)), dtype=np.int64)

    def add(self, score_map: npt.NDArray[np.floating], truth: Boxes, width: int, height: int, name: str) -> None:
        """Measure an image and count it; see `measure`."""
        self.count(self.measure(score_map, truth, width, height, name))

    def measure(self, score_map: npt.NDArray[np.floating], truth: Boxes, width: int, height: int, name: str) -> Correct:
        """Whether an image is correct, at each tau.

        Args:
            score_map: `(h, w)` in [0, 1], the whole image.
            truth: `(G, 4)`, at least one box, in pixels of the original image.
            width: of the original image.
            height: of the original image.
            name: of the image, for messages.

        Raises:
            InputError: the map is no map or has a value that is not in [0, 1], or there is no box.
        """
        if truth.ndim != 2 or truth.shape[1] != 4 or len(truth) == 0 or min(width, height) < 1:
            raise InputError(
                f"{name}: ground truth {truth.shape} in {width}x{height}; give one box of 4 numbers or more"
            )
        from wsol_core.metrics.component_tree import quantize

        values = quantize(as_scores(score_map, name))
        scale = np.array([width, height, width, height])
        scaled = np.trunc(truth.astype(np.float64) * SIDE / scale).astype(np.int64)
        largest, best = map_ious(values, scaled, self._taus)
        centre = _centre_ious(scaled)
        first = np.concatenate([largest, centre]) >= V1_IOU
        return np.vstack([first, np.concatenate([best, centre]) >= np.array(self._ious)[:, None]])

    def count(self, correct: Correct) -> None:
        """Count an image that was measured."""
        self._images += 1
        self._correct += correct

    def figures(self) -> MaxBoxFigures:
        """The figures of all images added so far."""
        by_tau, by_side = np.split(self._correct, [len(self._taus)], axis=1)
        with np.errstate(invalid="ignore"):
            v1, *v2 = by_tau / np.float64(self._images)
            centre, *centre_v2 = by_side.max(axis=1) / np.float64(self._images)
        best = {iou: best_index(curve) for iou, curve in zip(self._ious, v2, strict=True)}
        by_iou = {iou: float(curve[best[iou]]) for iou, curve in zip(self._ious, v2, strict=True)}
        names = [f"v2@{round(100 * iou)}" for iou in self._ious]
        return MaxBoxFigures(
            max_box_acc=float(v1[best_index(v1)]),
            max_box_acc_v2=float(np.mean(list(by_iou.values()))),
            by_iou=by_iou,
            tau=float(self._taus[best_index(v1)]),
            taus_v2={iou: float(self._taus[index]) for iou, index in best.items()},
            curves={f"v1@{round(100 * V1_IOU)}": v1, **dict(zip(names, v2, strict=True))},
            centre=float(centre),
            centre_v2=float(np.mean(centre_v2)),
        )


def as_scores(score_map: npt.NDArray[np.floating], name: str, shape: tuple[int, ...] = (SIDE, SIDE)) -> Scores:
    """A map at another `shape` (height, width), bilinear, float32 in [0, 1].

    Raises:
        InputError: either is not a plane with pixels, or the map has a value that is not in [0, 1].
    """
    if score_map.ndim != 2 or len(shape) != 2 or 0 in (*score_map.shape, *shape):
        raise InputError(
            f"{name}: a map of shape {score_map.shape} for a picture of {shape}; both must be (height, width)"
        )
    scores = np.ascontiguousarray(score_map, dtype=np.float32)
    if not (scores.min() >= 0 and scores.max() <= 1):
        raise InputError(f"{name}: the map has a value that is NaN or outside [0, 1]; scale it to [0, 1]")
    if scores.shape != shape:
        resized = cv2.resize(scores, shape[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(np.clip(resized, 0, 1), dtype=np.float32)
    return scores


def map_ious(values: Bytes, truth: npt.NDArray[np.int64], taus: Floats) -> tuple[Floats, Floats]:
    """IoU by tau `(T,)` of V1's box, and the best of V2's, with any box of `truth (G, 4)`, all at 224x224.

    `values` are scores times 255.
    """
    from wsol_core.metrics.component_tree import measure

    best, largest = np.empty(len(taus)), np.empty(len(taus))
    measure(values, taus, truth, best, largest)
    return largest, best


def _centre_ious(truth: npt.NDArray[np.int64]) -> Floats:
    """Best IoU `(F,)` of the box around the centre of each side with any box of `truth (G, 4)`, at 224x224."""
    low, high = np.split(truth[:, :, None], 2, axis=1)
    overlap = np.maximum(np.minimum(high, CENTRE_HIGH) - np.maximum(low, CENTRE_LOW) + 1, 0).prod(axis=1)
    union = (high - low + 1).prod(axis=1) + (CENTRE_HIGH - CENTRE_LOW + 1) ** 2 - overlap
    ious: Floats = (overlap / union).max(axis=0)
    return ious
