"""Detections held against the truth: VOC07's mAP and CorLoc, beside two baselines that no detector may lose to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.data.index import SPLITS, ImageIndex
from wsol_core.evaluation.figures import rounded
from wsol_core.metrics.detection import DetectionFigures, corloc, voc_ap
from wsol_core.metrics.detection_intervals import corloc_interval, voc_ap_interval

BASELINES = ("whole_image", "best_proposal")
BY_CLASS = (
    "ap_voc07", "ap_voc10", "corloc", *(f"{name}_{kind}" for name in BASELINES for kind in ("ap_voc07", "corloc")),
)  # fmt: skip


def evaluate(
    detections: pd.DataFrame, scored: pd.DataFrame, index: ImageIndex, annotations: pd.DataFrame, seed: int
) -> tuple[dict[str, dict[str, Any]], pd.DataFrame]:
    """Every figure on every split with annotations, of the detector and of its baselines.

    The paper's figures are mAP on `test` and CorLoc on `train-weaksup`. A baseline puts one box on each image, the
    whole image or the proposal of the highest objectness (the first of equals). For mAP it has seen what the detector
    has: a box for each class that the detector finds in the image, with the detector's best score for it. For CorLoc
    it has seen the true image labels, as the detector's CorLoc does.

    Args:
        detections: a table of boxes with labels, of all images.
        scored: proposals of all images, `score` their objectness.
        index: the images.
        annotations: ground-truth boxes. Difficult ones count for CorLoc alone.
        seed: of the bootstrap.

    Returns:
        By split the mean over classes of each of `BY_CLASS`: `ap_voc07` (11 points) and `corloc` with the bounds of
        their 95 % intervals (`_low`, `_high`), `ap_voc10` (all points), `whole_image_...` and `best_proposal_...`; and
        `images`, `objects`, `detections`, `images_without_detection`. And a row per split and class: `split`, `class`,
        `objects` and `BY_CLASS` (NaN for a class without objects or images).

    Raises:
        InputError: a table names an image that is not in the index, a class that is none, or a number that is not
            finite.
    """
    for name, table in (("detections", detections), ("proposals", scored)):
        unknown = table.loc[~table["image_id"].isin(index.table["image_id"]), "image_id"]
        if len(unknown):
            raise InputError(f"{name} of image {unknown.iloc[0]!r}, which is not in the index; make them again")
    figures = {}
    tables = [pd.DataFrame(columns=["split", "class", "objects", *BY_CLASS])]
    for split in SPLITS:
        images = index.split(split)
        objects, own, best = (t[t["image_id"].isin(images["image_id"])] for t in (annotations, detections, scored))
        if len(objects):
            found = _by_class(own, best, images, objects, len(index.classes))
            figures[split] = rounded(_figures(found, own, images, objects, len(index.classes), seed))
            tables.append(_table(found, objects, index.classes).assign(split=split)[tables[0].columns])
    return figures, pd.concat(tables[min(1, len(tables) - 1) :], ignore_index=True)


def _by_class(
    detections: pd.DataFrame, scored: pd.DataFrame, images: pd.DataFrame, truth: pd.DataFrame, classes: int
) -> dict[str, DetectionFigures]:
    """The figures of `BY_CLASS`."""
    labels = _labels(images)
    found = {
        "ap_voc07": voc_ap(detections, truth, classes, "11"),
        "ap_voc10": voc_ap(detections, truth, classes, "all"),
        "corloc": corloc(detections, truth, labels, classes),
    }
    pairs = [(name, label, 1.0) for name, own in labels.items() for label in own]
    given = pd.DataFrame(pairs, columns=["image_id", "label", "score"])
    claimed = detections.groupby(["image_id", "label"], as_index=False)["score"].max()
    for name, boxes in zip(BASELINES, (whole_images(images), best_proposals(scored)), strict=True):
        found[f"{name}_ap_voc07"] = voc_ap(claimed.merge(boxes, on="image_id"), truth, classes, "11")
        found[f"{name}_corloc"] = corloc(given.merge(boxes, on="image_id"), truth, labels, classes)
    return found


def whole_images(images: pd.DataFrame) -> pd.DataFrame:
    """One box per image, all of it: `image_id, x0, y0, x1, y1`."""
    boxes = images[["image_id"]].assign(x0=0, y0=0, x1=images["width"], y1=images["height"])
    return boxes.astype(dict.fromkeys(BOX_COLUMNS, np.float32))


def best_proposals(scored: pd.DataFrame) -> pd.DataFrame:
    """One box per image, that of the highest score, the first of equals: `image_id, x0, y0, x1, y1`."""
    best = scored.sort_values("score", ascending=False, kind="stable").drop_duplicates("image_id")
    return best[["image_id", *BOX_COLUMNS]]


def _figures(
    found: dict[str, DetectionFigures],
    detections: pd.DataFrame,
    images: pd.DataFrame,
    truth: pd.DataFrame,
    classes: int,
    seed: int,
) -> dict[str, Any]:
    names = images["image_id"].tolist()
    ap = voc_ap_interval(detections, truth, classes, names, seed)
    correct = corloc_interval(detections, truth, classes, _labels(images), seed)
    return {name: each.mean for name, each in found.items()} | {
        "ap_voc07_low": ap[0],
        "ap_voc07_high": ap[1],
        "corloc_low": correct[0],
        "corloc_high": correct[1],
        "images": len(names),
        "objects": len(truth),
        "detections": len(detections),
        "images_without_detection": len(set(names) - set(detections["image_id"])),
    }


def _labels(images: pd.DataFrame) -> dict[str, Sequence[int]]:
    return {name: [int(label) for label in own] for name, own in zip(images["image_id"], images["labels"], strict=True)}


def _table(found: dict[str, DetectionFigures], truth: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    objects = np.bincount(truth["label"].to_numpy(np.int64), minlength=len(classes))
    columns = {name: [each.per_class[label] for label in range(len(classes))] for name, each in found.items()}
    return pd.DataFrame({"class": list(classes), "objects": objects} | columns)
