"""Bootstrap intervals of VOC's mean average precision and of CorLoc: images are drawn again, with replacement.

An image that is drawn twice counts twice, with its detections and its objects; all classes share the draws. Intervals
are between the 2.5 % and the 97.5 % quantile of 1,000 draws, and NaN where nothing could be right. Draws depend on the
seed and the number of images alone, so two detectors are held against each other on the same ones (paired bootstrap).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.metrics.detection import best_of_class
from wsol_core.metrics.localization import CONFIDENCE
from wsol_core.metrics.matching import match

ROUNDS, AT_ONCE = 1_000, 50

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def voc_ap_interval(
    detections: pd.DataFrame, truth: pd.DataFrame, classes: int, image_ids: Sequence[str], seed: int
) -> tuple[float, float]:
    """Of the mean over classes of VOC07's average precision (`voc_ap` with 11 points, IoU .5).

    Args:
        detections: see `metrics.detection`.
        truth: see there.
        classes: number of classes.
        image_ids: the evaluated images, with or without objects.
        seed: of the draws.
    """
    return interval(_mean_precisions(detections, truth, classes, image_ids, seed))


def voc_ap_gain_interval(
    detections: Sequence[pd.DataFrame],
    others: Sequence[pd.DataFrame],
    truth: pd.DataFrame,
    classes: int,
    image_ids: Sequence[str],
    seed: int,
) -> tuple[float, float]:
    """Of how far `detections` pass `others` in `voc_ap_interval`'s figure, means over runs, on the same draws.

    Args:
        detections: see `metrics.detection`; a table for each run of a detector, as with other seeds.
        others: the same of another detector.
        truth: see there.
        classes: number of classes.
        image_ids: the evaluated images, with or without objects.
        seed: of the draws.
    """
    first, second = (
        np.mean([_mean_precisions(each, truth, classes, image_ids, seed) for each in runs], axis=0)
        for runs in (detections, others)
    )
    return interval(first - second)


def corloc_interval(
    detections: pd.DataFrame, truth: pd.DataFrame, classes: int, labels: Mapping[str, Sequence[int]], seed: int
) -> tuple[float, float]:
    """Of the mean over classes of CorLoc; the arguments are those of `corloc`."""
    wanted, places = best_of_class(detections, truth, labels, classes), pd.Index(list(labels))
    wanted = wanted.rename(columns={"right": "hit"})
    own = [_of_class(wanted, places, label) for label in range(classes)]
    draws = []
    for w in resampled(len(places), seed):
        shares = [(w[:, images] @ hits.astype(float), w[:, images].sum(axis=1)) for images, hits in own]
        draws.append(means(np.stack([_divide(right, count) for right, count in shares])))
    return interval(np.concatenate(draws))


def resampled(images: int, seed: int) -> Iterator[Counts]:
    """How often each image is drawn, `(AT_ONCE, images)` at a time, `ROUNDS` in all."""
    generator = np.random.default_rng(seed)
    for _ in range(ROUNDS // AT_ONCE):
        draws = generator.integers(0, images, (AT_ONCE, images)) + np.arange(AT_ONCE)[:, None] * images
        yield np.bincount(draws.ravel(), minlength=AT_ONCE * images).reshape(AT_ONCE, images)


def interval(draws: Floats) -> tuple[float, float]:
    """The interval of a figure that was drawn again and again; NaN stands for a draw without it."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def means(figures: Floats) -> Floats:
    """The mean over classes of figures `(classes, rounds)`, NaN for a class without a figure."""
    return _divide(np.nansum(figures, axis=0), (~np.isnan(figures)).sum(axis=0))


def _mean_precisions(
    detections: pd.DataFrame, truth: pd.DataFrame, classes: int, image_ids: Sequence[str], seed: int
) -> Floats:
    """The mean average precision of each draw."""
    matched, places = match(detections, truth, classes), pd.Index(image_ids)
    objects = truth[~truth["difficult"].to_numpy(bool)]
    found = [_of_class(matched, places, label) for label in range(classes)]
    own = [_of_class(objects, places, label)[0] for label in range(classes)]
    draws = [
        np.stack([_precisions(w, *ranked, mine) for ranked, mine in zip(found, own, strict=True)])
        for w in resampled(len(places), seed)
    ]
    return means(np.concatenate(draws, axis=1))


def _of_class(table: pd.DataFrame, places: pd.Index, label: int) -> tuple[Counts, npt.NDArray[np.bool_]]:
    """The rows of a class: each one's position among the images, and whether it is a hit (if that is known)."""
    own = table[table["label"] == label]
    hits = own["hit"].to_numpy(bool) if "hit" in own else np.zeros(0, dtype=bool)
    return places.get_indexer(pd.Index(own["image_id"])).astype(np.int64), hits


def _precisions(weights: Counts, images: Counts, hits: npt.NDArray[np.bool_], objects: Counts) -> Floats:
    """VOC07's average precision of a class for each row of `weights`.

    Only at a hit does the precision-recall curve reach a new recall, so the curve is known from its hits.
    """
    positives = weights[:, objects].sum(axis=1)
    total = weights[:, images].cumsum(axis=1)[:, hits]
    found = weights[:, images[hits]].cumsum(axis=1)
    envelope = np.maximum.accumulate(_divide(found, total, 0.0)[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))
    levels = [(found * 10 < level * positives[:, None]).sum(axis=1) for level in range(11)]
    means = np.take_along_axis(envelope, np.stack(levels, axis=1), axis=1).mean(axis=1)
    return np.where(positives > 0, means, np.nan)


def _divide(share: npt.NDArray[np.number], whole: npt.NDArray[np.number], otherwise: float = np.nan) -> Floats:
    return np.asarray(np.divide(share, whole, out=np.full(np.shape(share), otherwise), where=whole > 0))
