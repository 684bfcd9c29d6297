"""Detection figures of anybody's boxes, and of the peaks of anybody's per-class maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.external.checked_boxes import CheckedBoxes, left_out_tables
from wsol_core.external.ground_truth import Truth
from wsol_core.external.maps_pass import truth_boxes
from wsol_core.external.report import Outcome
from wsol_core.external.score_maps import ScoreMaps, refuse_transposed
from wsol_core.metrics.detection import coco_ap, corloc, corloc_class_agnostic, proposal_recall, voc_ap
from wsol_core.metrics.detection_intervals import voc_ap_gain_interval, voc_ap_interval
from wsol_core.metrics.localization import best_iou, centre_boxes
from wsol_core.metrics.saliency import peak, point_map

CLASS_KEYS = ("ap_voc07", "ap_voc10", "ap_coco", "corloc")
BOX_KEYS = (*CLASS_KEYS, "corloc_class_agnostic", "proposal_recall")
IOU = 0.5
NO_CLASSES = "the boxes are class-agnostic"
SEED = 0
CENTRE = "the best centred box on these very images, held against corloc_class_agnostic"


def evaluate_boxes(given: CheckedBoxes | None, truth: Truth, maps: ScoreMaps | None) -> Outcome:
    """Every detection figure that the inputs allow.

    All images of `truth` count; one without a box has missed its objects. CorLoc is meant for training images (VOC's
    `trainval`), average precision for test images: the caller chooses the ground truth.

    Args:
        given: as `predicted_boxes.read_boxes` gives them; None leaves the figures of boxes out.
        truth: the ground truth.
        maps: per-class maps, whose peaks are held against the boxes (`point_map`); None leaves it out.

    Raises:
        InputError: boxes with and without a class are mixed, or a map is bad or of an unknown image or class.
    """
    figures: dict[str, Any] = dict.fromkeys((*BOX_KEYS, "point_map"))
    notes = dict.fromkeys(BOX_KEYS, "give --boxes") if given is None else {}
    predicted = pd.DataFrame() if given is None else given.left_out
    tables = left_out_tables(objects=truth.left_out, boxes=predicted)
    curves: dict[str, pd.DataFrame] = {}
    counts = {"images": len(truth.images), "objects": len(truth.boxes), **truth.counts}
    if given is not None:
        boxes = given.boxes
        figures["corloc_class_agnostic"] = corloc_class_agnostic(boxes, truth.boxes, truth.images["image_id"].tolist())
        recall = proposal_recall(boxes, truth.boxes).pivot_table(index="iou", columns="count", values="recall")
        figures["proposal_recall"] = {f"iou {iou:g}": row.to_dict() for iou, row in recall.iterrows()}
        curves["proposal_recall"] = recall.rename(columns=lambda count: f"{count} boxes").reset_index()
        missing = len(truth.images) - boxes["image_id"].nunique()
        counts |= {"boxes": len(boxes), "boxes_cut": given.cut, "boxes_left_out": len(given.left_out)}
        counts["images_without_prediction"] = missing
        if len(boxes) and (boxes["label"] == CLASS_AGNOSTIC).all():
            notes |= dict.fromkeys(CLASS_KEYS, NO_CLASSES)
        elif (boxes["label"] == CLASS_AGNOSTIC).any():
            raise InputError("some boxes have a class and some have none (label -1); evaluate them apart")
        else:
            tables["classes"] = _add_class_figures(figures, boxes, truth)
    if maps is None:
        notes["point_map"] = "give --maps"
    else:
        figures["point_map"] = point_map(peaks(maps, truth), truth.boxes, len(truth.classes)).mean
    figures["centre_box_corloc_class_agnostic"] = _centre(truth)
    notes["centre_box_corloc_class_agnostic"] = CENTRE
    return Outcome(f"detection in {len(truth.images)} images", figures, counts, notes, tables, curves)


def evaluate_gain(boxes: Sequence[pd.DataFrame], others: Sequence[pd.DataFrame], truth: Truth) -> dict[str, float]:
    """By how much `boxes` pass `others` in VOC07's mAP, with the 95 % interval of the paired bootstrap over images.

    Both are means over runs; the interval is that of the images that these very runs are measured on.

    Args:
        boxes: as `predicted_boxes.read_boxes` gives them, a table for each run of a detector.
        others: the same of another detector.
        truth: the ground truth of both.

    Raises:
        InputError: boxes of either have no class.
    """
    for table in (*boxes, *others):
        if (table["label"] == CLASS_AGNOSTIC).any():
            raise InputError("a gain in mAP needs boxes with classes on both sides; some have none (label -1)")
    classes, names = len(truth.classes), truth.images["image_id"].tolist()
    first, second = (
        float(np.mean([voc_ap(table, truth.boxes, classes, "11").mean for table in runs])) for runs in (boxes, others)
    )
    low, high = voc_ap_gain_interval(boxes, others, truth.boxes, classes, names, SEED)
    return {"baseline_ap_voc07": second, "gain": first - second, "gain_low": low, "gain_high": high}


def _add_class_figures(figures: dict[str, Any], boxes: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    classes = len(truth.classes)
    labels = dict(zip(truth.images["image_id"], truth.images["labels"], strict=True))
    by_class = {
        "ap_voc07": voc_ap(boxes, truth.boxes, classes, "11"),
        "ap_voc10": voc_ap(boxes, truth.boxes, classes, "all"),
        "corloc": corloc(boxes, truth.boxes, labels, classes),
    }
    figures |= {key: found.mean for key, found in by_class.items()}
    names = truth.images["image_id"].tolist()
    low, high = voc_ap_interval(boxes, truth.boxes, classes, names, SEED)
    figures |= {"ap_voc07_low": low, "ap_voc07_high": high}
    figures |= coco_ap(boxes, truth.boxes, truth.images[["image_id", "width", "height"]], classes)
    objects = np.bincount(truth.boxes["label"].to_numpy(np.int64), minlength=classes)
    table = pd.DataFrame({"class": truth.classes, "objects": objects})
    return table.assign(**{key: [found.per_class[k] for k in range(classes)] for key, found in by_class.items()})


def peaks(maps: ScoreMaps, truth: Truth) -> pd.DataFrame:
    """The greatest response of every per-class map: `image_id, x, y, score, label`.

    Raises:
        InputError: a map is bad, of an unknown image, or of no class.
    """
    table = truth.images
    sizes = dict(zip(table["image_id"], zip(table["width"], table["height"], strict=True), strict=True))
    rows = []
    found = truth.names.find_all(maps.names, maps.place)
    for name, image_id in zip(tqdm(maps.names, "peaks", unit="image", disable=None), found, strict=True):
        if image_id in truth.elsewhere:
            continue
        width, height = sizes[image_id]
        for label in maps.labels(name):
            if not 0 <= label < len(truth.classes):
                raise InputError(f"{maps.place}: image {name!r} has a map for {label}, which is no class number")
            place, score_map = f"{maps.place}: image {name!r}", maps.read(name, label)
            refuse_transposed(score_map, width, height, place)
            rows.append((image_id, *peak(score_map, width, height, place), label))
    return pd.DataFrame(rows, columns=["image_id", "x", "y", "score", "label"])


def _centre(truth: Truth) -> float:
    """The share of all images in which the best fixed centred box overlaps an object with IoU >= .5."""
    images = truth.images[truth.images["image_id"].isin(truth.boxes["image_id"])]
    if not len(images):
        return float("nan")
    ious = best_iou(centre_boxes(images["width"], images["height"]), truth_boxes(truth))
    return float((ious >= np.float32(IOU)).sum(axis=0).max() / len(truth.images))
