"""Semantic segmentation against label masks: mean IoU as VOC, precision and recall of seeds.

A mask holds a class from 0 (VOC: background) to `classes - 1` per pixel; 255 in the truth leaves a pixel out. Counts
are kept per image and class, not per pixel. All figures lie in [0, 1].
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsol_core.core.errors import InputError

IGNORED = 255
CONFIDENCE = 0.95
ROUNDS = 1_000
LabelMask = npt.NDArray[np.integer]


@dataclass(frozen=True)
class SegmentationFigures:
    """IoU of classes.

    Attributes:
        miou: mean over the classes with an IoU; NaN without any.
        per_class: IoU by label, 0 to `classes - 1`; NaN for a class that neither the truth nor a prediction holds.
    """

    miou: float
    per_class: dict[int, float]


class Confusion:
    """IoU per class over a data set: pixels in both over pixels in either, of all images together (VOC).

    Args:
        classes: number of classes, the background among them.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._images: list[npt.NDArray[np.int64]] = []

    def add(self, predicted: LabelMask, truth: LabelMask, name: str) -> None:
        """Count the pixels of one image.

        Args:
            predicted: `(H, W)` int, a class everywhere but where the truth is 255.
            truth: `(H, W)` int, a class or 255.
            name: the image, for errors.

        Raises:
            InputError: the masks are not two planes of one shape, or hold a value that is no class.
        """
        _check_shapes(predicted, truth, name)
        pairs = _pairs(predicted, truth, self._classes, name)
        both = np.diag(pairs)
        self._images.append(np.stack([both, pairs.sum(axis=0) + pairs.sum(axis=1) - both]))

    def figures(self) -> SegmentationFigures:
        """The figures of what was added so far."""
        ious = _ratio(*self._counts().sum(axis=0))
        return SegmentationFigures(_mean(ious), _by_label(ious))

    def interval(self, classes: int, seed: int) -> tuple[float, float]:
        """The 95 % percentile interval of the mean IoU of the first `classes`, over 1,000 resamples of the images.

        A resample's mean is over the classes that its images or their predictions hold. NaN without any.
        """
        counts = self._counts()[:, :, :classes].astype(np.float64)
        images = len(counts)
        rng, means = np.random.default_rng(seed), []
        for _ in range(ROUNDS if images else 0):
            drawn = np.bincount(rng.integers(images, size=images), minlength=images)
            means.append(_mean(_ratio(*np.tensordot(drawn, counts, axes=1))))
        present = np.array(means)[~np.isnan(means)]
        if not len(present):
            return float("nan"), float("nan")
        low, high = np.quantile(present, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(low), float(high)

    def _counts(self) -> npt.NDArray[np.int64]:
        """Pixels of each image in both and in either, `(N, 2, classes)`."""
        return np.array(self._images, dtype=np.int64).reshape(-1, 2, self._classes)


@dataclass(frozen=True)
class SeedFigures:
    """How right and how complete seeds are.

    Attributes:
        precision: mean over the classes that have seeds; NaN without any.
        recall: mean over the classes in the truth; NaN without any.
        precision_per_class: by label, share of the class's seeds that stand on it; NaN without seeds.
        recall_per_class: by label, share of the class's pixels that are its seeds; NaN where the truth has none.
    """

    precision: float
    recall: float
    precision_per_class: dict[int, float]
    recall_per_class: dict[int, float]


class SeedScores:
    """Precision and recall of localization cues, in which most pixels carry no label (Two-Phase 4.2).

    Args:
        classes: number of classes, the background among them.
    """

    def __init__(self, classes: int) -> None:
        self._counts = np.zeros((classes, classes), dtype=np.int64)
        self._truth = np.zeros(classes, dtype=np.int64)

    def add(self, seed: LabelMask, truth: LabelMask, name: str) -> None:
        """Count the pixels of one image.

        Args:
            seed: `(H, W)` int, a class, or 255 where there is no seed.
            truth: `(H, W)` int, a class, or 255 where a pixel is left out.
            name: the image, for errors.

        Raises:
            InputError: the masks are not two planes of one shape, or hold a value that is no class.
        """
        _check_shapes(seed, truth, name)
        self._truth += np.diag(_pairs(truth, truth, len(self._truth), name))
        self._counts += _pairs(seed, np.where(seed == IGNORED, IGNORED, truth), len(self._truth), name)

    def figures(self) -> SeedFigures:
        """The figures of what was added so far."""
        right = np.diag(self._counts)
        precision, recall = _ratio(right, self._counts.sum(axis=0)), _ratio(right, self._truth)
        return SeedFigures(_mean(precision), _mean(recall), _by_label(precision), _by_label(recall))


def _check_shapes(predicted: LabelMask, truth: LabelMask, name: str) -> None:
    if truth.ndim != 2 or predicted.shape != truth.shape:
        raise InputError(
            f"{name}: masks of shape {predicted.shape} and {truth.shape}; both must be one (height, width)"
        )


def _pairs(predicted: LabelMask, truth: LabelMask, classes: int, name: str) -> npt.NDArray[np.int64]:
    """Number of pixels `(classes, classes)` with each pair of true and predicted class, 255 in the truth left out."""
    counted = truth != IGNORED
    own, found = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    for labels, whose in ((own, "true"), (found, "predicted")):
        wrong = labels[(labels < 0) | (labels >= classes)]
        if len(wrong):
            raise InputError(f"{name}: the {whose} mask holds {wrong[0]}, which is not one of the {classes} classes")
    return np.bincount(own * classes + found, minlength=classes**2).reshape(classes, classes)


def _ratio(
    part: npt.NDArray[np.integer | np.floating], whole: npt.NDArray[np.integer | np.floating]
) -> npt.NDArray[np.float64]:
    """`part / whole`, NaN where `whole` is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0), dtype=np.float64)


def _mean(values: npt.NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")


def _by_label(values: npt.NDArray[np.float64]) -> dict[int, float]:
    return dict(enumerate(values.tolist()))
