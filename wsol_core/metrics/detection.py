"""Detection: VOC's and COCO's average precision, CorLoc per class and class-agnostic, recall of proposals.

Detections and proposals are tables with the columns `image_id, x0, y0, x1, y1, score, label`, ground truth has
`image_id, label, x0, y0, x1, y1, difficult`: half-open boxes in pixels, labels from 0 to `classes - 1`. VOC counts the
last pixel as inside, so the IoU of its boxes equals the IoU of these. Scores that are equal are ranked by `image_id`,
then by the order of the rows. All figures lie in [0, 1] and are NaN where nothing could be right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.boxes import iou as iou_of_pairs
from wsol_core.core.errors import InputError
from wsol_core.metrics.matching import (
    DETECTION_COLUMNS,
    TRUTH_COLUMNS,
    best_overlap,
    boxes_of,
    check_labels,
    check_table,
    match,
)

COCO_KEYS = ("ap_coco", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")


@dataclass(frozen=True)
class DetectionFigures:
    """One figure per class and their mean.

    Attributes:
        mean: over the classes with a figure; NaN without any.
        per_class: by label, 0 to `classes - 1`; NaN for a class without ground truth.
    """

    mean: float
    per_class: dict[int, float]

    @classmethod
    def of(cls, values: Sequence[float]) -> "DetectionFigures":
        """The figures of the classes 0, 1, ..."""
        present = [value for value in values if not np.isnan(value)]
        return cls(float(np.mean(present)) if present else float("nan"), dict(enumerate(map(float, values))))


def voc_ap(
    detections: pd.DataFrame, truth: pd.DataFrame, classes: int, points: Literal["11", "all"], iou: float = 0.5
) -> DetectionFigures:
    """Average precision of PASCAL VOC: VOC07's with `points="11"`, VOC10's and later with `points="all"`.

    A detection belongs to the object of its class and image that it overlaps most (the first of equals), whether that
    one is taken or not. With an IoU of at least `iou` it is a true positive if no better-scored detection has the
    object, else a false positive; below `iou` it is a false positive. With a difficult object it counts as neither,
    and difficult objects do not count as missed (VOCdevkit, `VOCevaldet.m`).

    Raises:
        InputError: a column is missing, a label is not a class, a score or a box is not finite.
    """
    matched = match(detections, truth, classes, iou)
    positives = np.bincount(truth["label"].to_numpy(np.int64)[~truth["difficult"].to_numpy(bool)], minlength=classes)
    cuts = np.searchsorted(matched["label"].to_numpy(np.int64), np.arange(1, classes))
    by_class = np.split(matched["hit"].to_numpy(bool), cuts)
    return DetectionFigures.of([average_precision(h, int(p), points) for h, p in zip(by_class, positives, strict=True)])


def average_precision(hits: npt.NDArray[np.bool_], positives: int, points: Literal["11", "all"]) -> float:
    """The area under a precision-recall curve made monotone; NaN without positives.

    The levels of recall 0, .1, ... 1 are compared as whole numbers. VOCdevkit compares floats, so that 3 of 10 does not
    reach its level .3; here it does.

    Args:
        hits: `(N,)`, where a detection is a true positive, best score first.
        positives: number of objects that could be found.
        points: `"11"` the mean over eleven levels of recall, `"all"` the exact area.
    """
    if positives == 0:
        return float("nan")
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    if points == "all":
        return float(envelope[:-1][hits].sum() / positives)
    return float(envelope[np.searchsorted(found * 10, np.arange(11) * positives)].mean())


def coco_ap(detections: pd.DataFrame, truth: pd.DataFrame, sizes: pd.DataFrame, classes: int) -> dict[str, float]:
    """COCO's average precision and recall of boxes, by `faster-coco-eval`: `COCO_KEYS`, NaN where undefined.

    Precision is integrated over 101 levels of recall, IoU .5 to .95 by .05, at most 100 detections per image and class.
    `ap_small`, `ap_medium`, `ap_large` go by the area of the box, where COCO's own go by that of the object's mask.
    A difficult object is taken as COCO's crowd: what lies inside it counts as neither right nor wrong.

    Args:
        detections: see the module.
        truth: see the module.
        sizes: a row per evaluated image, with or without objects: `image_id, width, height`.
        classes: number of classes.

    Raises:
        InputError: as `voc_ap`; or a table names an image that is not in `sizes`.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    check_table(detections, DETECTION_COLUMNS, classes)
    check_table(truth, TRUTH_COLUMNS, classes)
    numbers = {name: number for number, name in enumerate(sorted(sizes["image_id"].unique()), start=1)}
    objects = _coco_records(truth, numbers)
    for record, difficult in zip(objects, truth["difficult"], strict=True):
        record["iscrowd"] = int(difficult)
    found = _coco_records(detections, numbers)
    for record, score in zip(found, detections["score"], strict=True):
        record["score"] = float(score)
    images = [{"id": number} for number in numbers.values()]
    categories = [{"id": label + 1, "name": str(label)} for label in range(classes)]
    reference = COCO({"images": images, "annotations": objects, "categories": categories})
    evaluator = COCOeval_faster(reference, reference.loadRes(found), "bbox")
    evaluator.run()
    stats = evaluator.stats[: len(COCO_KEYS)]
    return {key: float(value) if value >= 0 else float("nan") for key, value in zip(COCO_KEYS, stats, strict=True)}


def _coco_records(table: pd.DataFrame, numbers: Mapping[str, int]) -> list[dict[str, object]]:
    unknown = table["image_id"][~table["image_id"].isin(numbers.keys())]
    if len(unknown):
        raise InputError(f"image {unknown.iloc[0]!r} has boxes but is not among the evaluated images; leave it out")
    low, high = np.split(boxes_of(table).astype(np.float64), 2, axis=1)
    rows = zip(table["image_id"], table["label"], np.hstack([low, high - low]).tolist(), strict=True)
    return [
        {"id": row, "image_id": numbers[name], "category_id": int(label) + 1, "bbox": box, "area": box[2] * box[3]}
        for row, (name, label, box) in enumerate(rows, start=1)
    ]


def corloc(
    detections: pd.DataFrame, truth: pd.DataFrame, labels: Mapping[str, Sequence[int]], classes: int, iou: float = 0.5
) -> DetectionFigures:
    """CorLoc of weakly supervised detection: does the best box of each class stand on an object of that class?

    Per class, the share of the images that carry its label whose one best-scored box of the class overlaps an object of
    the class with an IoU of at least `iou`; an image without such a box counts as wrong. Difficult objects count.
    Detections of classes that an image does not carry are not looked at.

    Args:
        detections: see the module.
        truth: see the module.
        labels: the classes of each evaluated image.
        classes: number of classes.
        iou: the least overlap.

    Raises:
        InputError: as `voc_ap`; or an image's label is not a class.
    """
    wanted = best_of_class(detections, truth, labels, classes, iou)
    own, right = wanted["label"].to_numpy(np.int64), wanted["right"].to_numpy(float)
    images, hits = (np.bincount(own, weights, classes) for weights in (None, right))
    return DetectionFigures.of(np.divide(hits, images, out=np.full(classes, np.nan), where=images > 0).tolist())


def best_of_class(
    detections: pd.DataFrame, truth: pd.DataFrame, labels: Mapping[str, Sequence[int]], classes: int, iou: float = 0.5
) -> pd.DataFrame:
    """For each image and class that it carries (`image_id`, `label`) whether its best box is `right`, see `corloc`."""
    check_table(detections, DETECTION_COLUMNS, classes)
    check_table(truth, TRUTH_COLUMNS, classes)
    wanted = pd.DataFrame([(name, label) for name, own in labels.items() for label in sorted(set(own))])
    wanted = wanted.reindex(columns=range(2)).set_axis(["image_id", "label"], axis=1)
    check_labels(wanted, classes)
    correct = _correct_best(detections, truth, ["image_id", "label"], iou)
    return wanted.assign(right=pd.MultiIndex.from_frame(wanted).isin(pd.MultiIndex.from_frame(correct)))


def corloc_class_agnostic(
    boxes: pd.DataFrame, truth: pd.DataFrame, image_ids: Sequence[str], iou: float = 0.5
) -> float:
    """CorLoc of unsupervised localization, which knows no classes: another number than `corloc`.

    The share of the images `image_ids` whose one best-scored box overlaps any object, of whatever class, difficult or
    not, with an IoU of at least `iou`. An image without a box counts as wrong. `label` is not looked at.

    Raises:
        InputError: a column is missing, a score or a box is not finite.
    """
    check_table(boxes, DETECTION_COLUMNS)
    check_table(truth, TRUTH_COLUMNS)
    evaluated = pd.Series(list(image_ids), dtype=object).drop_duplicates()
    correct = _correct_best(boxes, truth, ["image_id"], iou)
    return float(evaluated.isin(correct["image_id"]).mean()) if len(evaluated) else float("nan")


def _correct_best(boxes: pd.DataFrame, truth: pd.DataFrame, by: list[str], iou: float) -> pd.DataFrame:
    """The groups `by` whose best-scored box overlaps an object of the same group."""
    best = boxes.sort_values("score", ascending=False, kind="stable").drop_duplicates(by)
    return best.loc[best_overlap(best, truth, by)[0] >= np.float32(iou), by]


def proposal_recall(
    proposals: pd.DataFrame,
    truth: pd.DataFrame,
    counts: Sequence[int] = (1, 10, 100, 300, 1000, 2000),
    ious: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9),
) -> pd.DataFrame:
    """Share of the objects that one of their image's first proposals overlaps, whatever the class.

    Objects of all images are pooled; difficult ones are left out, as in VOC's average precision. A proposal may serve
    several objects.

    Returns:
        Columns `count` (that many proposals per image, best score first), `iou` (at least) and `recall`.

    Raises:
        InputError: a column is missing, a score or a box is not finite.
    """
    check_table(proposals, DETECTION_COLUMNS)
    check_table(truth, TRUTH_COLUMNS)
    ranked = proposals.sort_values("score", ascending=False, kind="stable")
    rows_of = ranked.groupby("image_id", sort=False).indices
    boxes, objects = boxes_of(ranked), truth[~truth["difficult"].to_numpy(bool)]
    limits = np.asarray(counts)
    best = np.zeros((len(objects), len(limits)), dtype=np.float32)
    truth_boxes = boxes_of(objects)
    for name, own in objects.groupby("image_id", sort=False).indices.items():
        rows = rows_of.get(name, np.zeros(0, dtype=np.intp))[: limits.max()]
        if len(rows):
            running = np.maximum.accumulate(iou_of_pairs(truth_boxes[own], boxes[rows]), axis=1)
            best[own] = running[:, np.minimum(limits, len(rows)) - 1]
    least = np.asarray(ious, dtype=np.float32)
    recall = (best[:, :, None] >= least).mean(axis=0) if len(objects) else np.full((len(limits), len(least)), np.nan)
    grid = pd.MultiIndex.from_product([counts, ious], names=["count", "iou"])
    return pd.DataFrame({"recall": recall.ravel()}, index=grid).reset_index()
