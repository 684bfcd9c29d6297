"""Localization with one object class per image: GT-known, Top-k, honest thresholds, interval, centre box.

Everything here works on arrays of IoU. An image without a prediction has an empty box, so its IoU is 0 and it counts
as wrong; it never leaves the denominator. All figures lie in [0, 1].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsol_core.core.boxes import Boxes, paired_iou

FloatArray = npt.NDArray[np.floating]

CENTRE_SIDES = np.arange(6, 21) / 20
IOU = 0.5
BINS = 20
CONFIDENCE = 0.95
ROUNDS = 10_000
TOP = (1, 5)


def threshold_grid(step: float) -> npt.NDArray[np.float64]:
    """Thresholds in [0, 1): 0, five halves of halves of `step`, and every `step`.

    The fine ones are for maps that are products, most of whose values are far below a hundredth of their maximum:
    MFF-Net's on VGG16 had 45 GT-known at the best hundredth and 69 at .0005 (CUB, 30 classes).
    """
    fine = step / 2.0 ** np.arange(5, 0, -1)
    return np.round(np.concatenate([[0.0], fine, np.arange(step, 1 - 1e-9, step)]), 6)


THRESHOLDS = threshold_grid(0.01)


@dataclass(frozen=True)
class GroundTruth:
    """The boxes that predictions for N images are held against.

    Attributes:
        boxes: `(G, 4)`.
        image: `(G,)` int, ascending: the position (0 to N - 1) of each box's image. Every image has at least one box.
    """

    boxes: Boxes
    image: npt.NDArray[np.intp]

    def __post_init__(self) -> None:
        steps = np.diff(self.image, prepend=-1)
        if len(self.image) != len(self.boxes) or not np.isin(steps, (0, 1)).all():
            raise ValueError("ground truth must list at least one box for every image, in the images' order")

    def __len__(self) -> int:
        """Number of images N."""
        return int(self.image[-1]) + 1 if len(self.image) else 0


def best_iou(predicted: Boxes, truth: GroundTruth) -> npt.NDArray[np.float32]:
    """IoU `(N, T)` of T boxes per image `(N, T, 4)`, each with the image's best-overlapping ground-truth box."""
    images, count = predicted.shape[:2]
    if images != len(truth):
        raise ValueError(f"predictions for {images} images, ground truth for {len(truth)}")
    if images == 0:
        return np.zeros((0, count), dtype=np.float32)
    pairs = paired_iou(predicted[truth.image].reshape(-1, 4), np.repeat(truth.boxes, count, axis=0))
    starts = np.flatnonzero(np.diff(truth.image, prepend=-1))
    return np.maximum.reduceat(pairs.reshape(-1, count), starts, axis=0)


def is_correct(ious: FloatArray) -> npt.NDArray[np.bool_]:
    """Where the IoU is strictly greater than .5 (PSOL, SPOL and BC-CT; MaxBoxAcc counts .5 as correct)."""
    return ious > IOU


def gt_known(ious: FloatArray) -> npt.NDArray[np.float64]:
    """Share of correct images, mean over the first axis: `(N,)` gives a scalar, `(N, T)` gives `(T,)`."""
    return np.asarray(is_correct(ious).mean(axis=0, dtype=np.float64))


def mean_iou(ious: FloatArray) -> npt.NDArray[np.float64]:
    """Mean over the first axis, in float64."""
    return np.asarray(ious.mean(axis=0, dtype=np.float64))


def best_index(curve: FloatArray) -> int:
    """Position of the maximum of `(T,)`; on a plateau its middle (the lower one of two), of several the first plateau.

    The middle is the choice that a small change of the maps disturbs least.
    """
    first = int(np.argmax(curve))
    lower = np.flatnonzero(curve[first:] < curve[first])
    length = int(lower[0]) if len(lower) else len(curve) - first
    return first + (length - 1) // 2


def bootstrap_interval(correct: npt.NDArray[np.bool_], seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `correct (N,)`, over 10,000 resamples of the images.

    N draws with replacement from N zeros and ones hold a binomial number of ones, so the number is drawn instead.
    """
    draws = np.random.default_rng(seed).binomial(len(correct), correct.mean(), ROUNDS) / len(correct)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def centre_boxes(widths: npt.ArrayLike, heights: npt.ArrayLike) -> Boxes:
    """Boxes `(N, F, 4)` around the centre of N images, both sides the same share of the image's (`CENTRE_SIDES`)."""
    sizes = np.stack([np.asarray(widths), np.asarray(heights)], axis=1)[:, None, :]
    low = sizes * ((1 - CENTRE_SIDES) / 2)[None, :, None]
    return np.concatenate([low, sizes - low], axis=2).astype(np.float32)


def iou_histogram(ious: FloatArray) -> npt.NDArray[np.float64]:
    """Share of images `(20,)` in IoU bins of .05; a bin holds its lower edge, the last one both edges."""
    return np.histogram(ious, bins=BINS, range=(0, 1))[0] / max(len(ious), 1)


def per_group(ious: FloatArray, groups: npt.NDArray[np.integer], count: int) -> npt.NDArray[np.float64]:
    """A row `(images, GT-known, mean IoU)` per group, `(count, 3)`; NaN where a group has no image.

    `groups (N,)` in [0, count) are the images' labels, or their bins of size.
    """
    images = np.bincount(groups, minlength=count)
    hits, total = (np.bincount(groups, w, minlength=count) for w in (is_correct(ious).astype(float), ious))
    with np.errstate(invalid="ignore"):
        return np.stack([images, hits / images, total / images], axis=1)


def class_mean(correct: npt.NDArray[np.bool_], labels: npt.NDArray[np.integer], classes: int) -> float:
    """Mean over classes of each one's share of `correct (N,)`, as PSOL averages; a class without image is left out.

    NaN without images. It equals the mean over images where all classes have equally many.
    """
    images = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels, correct, minlength=classes)
    return float((hits[images > 0] / images[images > 0]).mean()) if len(labels) else float("nan")


def top_k(
    correct_box: npt.NDArray[np.bool_], ranked: npt.NDArray[np.integer], labels: npt.NDArray[np.integer]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Which images `(N,)` are right by Top-1 and Top-5: keys `top1_cls`, `top5_cls`, `top1_loc`, `top5_loc`.

    Classification is right where the label is among the first k classes, localization where the box is right too
    (ILSVRC; PSOL, SPOL and BC-CT, which classify and localize apart). The mean of a value is the figure; `class_mean`
    of it is PSOL's.

    Args:
        correct_box: `(N,)`, see `is_correct`.
        ranked: `(N, K)` predicted classes, the likeliest first; K is 5 at least, or the number of classes. An image
            without a prediction has -1.
        labels: `(N,)`, 0 or greater.

    Raises:
        ValueError: the three differ in length.
    """
    if not len(correct_box) == len(ranked) == len(labels):
        raise ValueError(f"{len(correct_box)} boxes, {len(ranked)} predicted and {len(labels)} true classes")
    classified = {k: (ranked[:, :k] == labels[:, None]).any(axis=1) for k in TOP}
    localized = {f"top{k}_loc": right & correct_box for k, right in classified.items()}
    return {f"top{k}_cls": right for k, right in classified.items()} | localized


@dataclass(frozen=True)
class SplitIoU:
    """All that the figures of one split with annotations are made of.

    Attributes:
        final: IoU `(N,)` of the boxes at the calibrated threshold.
        swept: IoU `(N, T)` of the boxes at each of `THRESHOLDS`.
        centre: IoU `(N, F)` of the centre box of each of `CENTRE_SIDES`.
        labels: class `(N,)` of each image, 0 or greater.
    """

    final: FloatArray
    swept: FloatArray
    centre: FloatArray
    labels: npt.NDArray[np.integer]


def figures(splits: Mapping[str, SplitIoU], threshold: float, fullsup: str, seed: int) -> dict[str, dict[str, Any]]:
    """The localization figures of each split.

    `gt_known` stands at `threshold`, which has seen no ground truth; `gt_known_fullsup` at the best threshold of the
    split named `fullsup`; `gt_known_oracle` at the best threshold of the split itself, an upper bound. So with the
    centre box: `centre_box` has the side that is best on `fullsup`, `centre_box_oracle` the best on the split.
    Where `fullsup` is not among the splits, its figures are None. `gt_known_low` and `gt_known_high` bound the 95 %
    interval of `gt_known`. `gt_known_class_mean` is the mean over classes of what `gt_known` is the mean over images
    of.
    """
    chosen = splits.get(fullsup)
    best = None if chosen is None else (best_index(gt_known(chosen.swept)), best_index(gt_known(chosen.centre)))
    return {name: _figures(split, threshold, best, seed) for name, split in splits.items()}


def _figures(split: SplitIoU, threshold: float, best: tuple[int, int] | None, seed: int) -> dict[str, Any]:
    curve, centre = gt_known(split.swept), gt_known(split.centre)
    oracle, centre_oracle = best_index(curve), best_index(centre)
    low, high = bootstrap_interval(is_correct(split.final), seed)
    return {
        "gt_known": float(gt_known(split.final)),
        "gt_known_low": low,
        "gt_known_high": high,
        "gt_known_fullsup": None if best is None else float(curve[best[0]]),
        "gt_known_oracle": float(curve[oracle]),
        "gt_known_class_mean": class_mean(is_correct(split.final), split.labels, int(split.labels.max()) + 1),
        "centre_box": None if best is None else float(centre[best[1]]),
        "centre_box_oracle": float(centre[centre_oracle]),
        "threshold": threshold,
        "threshold_fullsup": None if best is None else float(THRESHOLDS[best[0]]),
        "threshold_oracle": float(THRESHOLDS[oracle]),
        "mean_iou": float(mean_iou(split.final)),
        "images": len(split.final),
    }
