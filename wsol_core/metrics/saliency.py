"""Per-class saliency maps against masks, and points against boxes (Two-Phase, sections 5 and 6)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.metrics.detection import DetectionFigures, average_precision
from wsol_core.metrics.matching import TRUTH_COLUMNS, check_table
from wsol_core.metrics.max_box import as_scores

IGNORED = 255
LEVELS = 2**14
POINT_COLUMNS = ("image_id", "x", "y", "score", "label")
TOLERANCE = 18


@dataclass(frozen=True)
class SaliencyFigures:
    """Average precision of pixels; NaN without a pixel of an object.

    Attributes:
        saliency_ap: over the pixels of all pairs of map and mask together, the paper's figure.
        per_class: over the pixels of each label's pairs, by label; labels without a pair are absent.
        pairs: number of pairs of map and mask.
    """

    saliency_ap: float
    per_class: dict[int, float]
    pairs: int


class SaliencyAP:
    """Average precision of per-class saliency maps (Two-Phase 5.1), one pair of map and mask at a time.

    Only maps of classes that are present in their image belong here; a pixel of an image counts once per such class.
    The area is the sum of precision times the step in recall, without interpolation. Scores are rounded to 1/16383, so
    that a histogram per class (256 KiB) holds everything: exact for what has 8 bits; on smooth maps the figure
    moved by 2.4e-5 against the floats, which the paper keeps.
    """

    def __init__(self) -> None:
        self._counts: dict[int, npt.NDArray[np.int64]] = {}
        self._pairs = 0

    def add(
        self, score_map: npt.NDArray[np.floating], mask: npt.NDArray[np.integer | np.bool_], label: int, name: str
    ) -> None:
        """Count the pixels of one pair.

        Args:
            score_map: `(h, w)` in [0, 1]; resized to the mask, bilinear.
            mask: `(H, W)`, 1 on the class, 0 elsewhere, 255 not counted.
            label: the class.
            name: the image, for errors.

        Raises:
            InputError: the map is not finite or leaves [0, 1], the mask holds another value, or either is not a plane.
        """
        scores = as_scores(score_map, name, mask.shape)
        if not np.isin(mask, (0, 1, IGNORED)).all():
            raise InputError(f"{name}: the mask holds values other than 0, 1 and {IGNORED} (ignored)")
        levels = np.rint(scores * (LEVELS - 1)).astype(np.int64)
        cells = (levels + LEVELS * mask.astype(np.int64))[mask != IGNORED]
        counts = np.bincount(cells, minlength=2 * LEVELS).reshape(2, LEVELS)
        self._counts[label] = self._counts.get(label, 0) + counts
        self._pairs += 1

    def figures(self) -> SaliencyFigures:
        """The figures of what was added so far."""
        pooled = sum(self._counts.values(), start=np.zeros((2, LEVELS), dtype=np.int64))
        per_class = {label: _pixel_ap(counts) for label, counts in sorted(self._counts.items())}
        return SaliencyFigures(_pixel_ap(pooled), per_class, self._pairs)


def _pixel_ap(counts: npt.NDArray[np.int64]) -> float:
    """From the number `(2, LEVELS)` of background and object pixels at each score, lowest score first."""
    negatives, positives = counts[:, ::-1]
    selected = np.cumsum(positives + negatives)
    if not positives.any():
        return float("nan")
    return float((np.cumsum(positives) / np.maximum(selected, 1) * positives).sum() / positives.sum())


def peak(score_map: npt.NDArray[np.floating], width: int, height: int, name: str) -> tuple[int, int, float]:
    """The pixel of the greatest response at the picture's own size, and the response (Two-Phase 6.1).

    Returns:
        `x, y, score`: the first such pixel in rows, in pixels of the original image.

    Raises:
        InputError: as `max_box.as_scores`.
    """
    scores = as_scores(score_map, name, (height, width))
    y, x = np.unravel_index(np.argmax(scores), scores.shape)
    return int(x), int(y), float(scores[y, x])


def point_map(
    points: pd.DataFrame, truth: pd.DataFrame, classes: int, tolerance: float = TOLERANCE
) -> DetectionFigures:
    """Mean average precision of locations (Two-Phase 6.1): does the peak of a class's map stand on such an object?

    A point is right if it lies in a box of its class grown by `tolerance` pixels on every side; every image with an
    object of the class should have one. The papers leave difficult objects and the rule for the area open: as in VOC
    2012, an image with no other than difficult objects of a class need not have a point, a point on none but difficult
    ones counts as neither right nor wrong, and the area is the all-point one.

    Args:
        points: at most one per image and class: `image_id, x, y, score, label`, pixels of the original image.
        truth: boxes, see `metrics.detection`.
        classes: number of classes.
        tolerance: pixels.

    Raises:
        InputError: a column is missing, a label is not a class, a number is not finite, or an image has two points of
            one class.
    """
    by = ["image_id", "label"]
    check_table(points, POINT_COLUMNS, classes)
    check_table(truth, TRUTH_COLUMNS, classes)
    twice = points[points.duplicated(by)]
    if len(twice):
        raise InputError(f"image {twice['image_id'].iloc[0]!r} has two points of label {twice['label'].iloc[0]}")
    ranked = points.sort_values(["label", "score", "image_id"], ascending=[True, False, True]).reset_index(drop=True)
    pairs = ranked.reset_index(names="point").merge(truth, on=by)
    x0, y0, x1, y1 = (pairs[column].to_numpy(np.float64) for column in BOX_COLUMNS)
    x, y = (pairs[column].to_numpy(np.float64) for column in ("x", "y"))
    inside = (x0 - tolerance <= x) & (x < x1 + tolerance) & (y0 - tolerance <= y) & (y < y1 + tolerance)
    difficult = pairs["difficult"].to_numpy(bool)
    hits = np.isin(ranked.index, pairs["point"][inside & ~difficult])
    counted = hits | ~np.isin(ranked.index, pairs["point"][inside & difficult])
    wanted = truth[~truth["difficult"].to_numpy(bool)].drop_duplicates(by)
    positives = np.bincount(wanted["label"].to_numpy(np.int64), minlength=classes)
    cuts = np.searchsorted(ranked["label"].to_numpy(np.int64)[counted], np.arange(1, classes))
    by_class = zip(np.split(hits[counted], cuts), positives, strict=True)
    return DetectionFigures.of([average_precision(own, int(count), "all") for own, count in by_class])


def centre_points(points: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """The baseline of `point_map` (Two-Phase, Table 3): the same points moved to the centres of their images.

    The paper leaves the centre's confidence open; here each keeps its score, so that the location alone differs.

    Args:
        points: as `point_map`'s.
        sizes: `image_id, width, height` of these images.

    Raises:
        InputError: an image is not in `sizes`.
    """
    own = _sizes_of(points, sizes)
    return points.assign(x=(own["width"].to_numpy() - 1) // 2, y=(own["height"].to_numpy() - 1) // 2)


@dataclass(frozen=True)
class PeakDistance:
    """How far apart two methods' peaks are; NaN without a pair.

    Attributes:
        pixels: mean Euclidean distance, pixels of the original image.
        diagonals: the same, each distance as a share of its image's diagonal.
        pairs: number of pairs of points, one for an image and class.
    """

    pixels: float
    diagonals: float
    pairs: int


def peak_distance(first: pd.DataFrame, second: pd.DataFrame, sizes: pd.DataFrame) -> PeakDistance:
    """The distance between the points of two methods, over the images and classes that both have (Two-Phase 6.2).

    Args:
        first: as `point_map`'s.
        second: the same of the other method.
        sizes: `image_id, width, height` of the images.

    Raises:
        InputError: a column is missing, a number is not finite, or an image is not in `sizes`.
    """
    check_table(first, POINT_COLUMNS)
    check_table(second, POINT_COLUMNS)
    pairs = first.merge(second, on=["image_id", "label"], suffixes=("", "_second"))
    own = _sizes_of(pairs, sizes)
    if not len(pairs):
        return PeakDistance(float("nan"), float("nan"), 0)
    x, y, other_x, other_y = pairs[["x", "y", "x_second", "y_second"]].to_numpy(np.float64).T
    distance = np.hypot(x - other_x, y - other_y)
    diagonal = np.hypot(*own.to_numpy(np.float64).T)
    return PeakDistance(float(distance.mean()), float((distance / diagonal).mean()), len(distance))


def _sizes_of(points: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """`width` and `height` of each point's image."""
    known = sizes.drop_duplicates("image_id").set_index("image_id")[["width", "height"]]
    unknown = points.loc[~points["image_id"].isin(known.index), "image_id"]
    if len(unknown):
        raise InputError(f"image {unknown.iloc[0]!r} has a point, but its size is not known")
    return known.loc[points["image_id"]].reset_index(drop=True)
