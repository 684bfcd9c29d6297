"""Localization figures of anybody's score maps: the maps alone, a ground truth, and if wanted ranked classes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.external.checked_boxes import left_out_tables
from wsol_core.external.ground_truth import Truth
from wsol_core.external.maps_pass import MapsPass
from wsol_core.external.report import Outcome
from wsol_core.external.score_maps import ScoreMaps
from wsol_core.localization.localize import check_chosen
from wsol_core.metrics.errors import ERROR_TYPES, SIZE_EDGES, error_types, shares_of_types, size_bins
from wsol_core.metrics.localization import (
    BINS,
    CENTRE_SIDES,
    best_index,
    best_iou,
    bootstrap_interval,
    centre_boxes,
    class_mean,
    gt_known,
    iou_histogram,
    per_group,
    top_k,
)
from wsol_core.metrics.max_box import TAUS

SEED = 0
TOP_KEYS = ("top1_cls", "top5_cls", "top1_loc", "top5_loc", "top1_loc_oracle", "top5_loc_oracle")
BOX_KEYS = ("gt_known", "gt_known_oracle", "max_box_acc", "max_box_acc_v2", "centre_box_oracle", *TOP_KEYS)
PIXEL_KEYS = ("px_ap", "pixel_iou_oracle")
ORACLES = (
    "gt_known_oracle", "max_box_acc", "max_box_acc_v2", "centre_box_oracle", "max_box_acc_centre",
    "max_box_acc_v2_centre", "top1_loc_oracle", "top5_loc_oracle", "pixel_iou_oracle",
)  # fmt: skip

NO_BOXES = "the ground truth has no boxes"
NO_MASKS = "the ground truth has no masks"
NO_THRESHOLD = "give --threshold; the best one on these images is an oracle"
NO_CLASSES = "give --classes"
NOT_ONE_LABEL = "every image must have exactly one label"
NO_FIFTH = "no image has five classes"
ORACLE = "at the best value on these very images: an upper bound"

Figures = dict[str, Any]
Notes = dict[str, str]
Ranked = npt.NDArray[np.int64]


def evaluate_maps(maps: ScoreMaps, truth: Truth, threshold: float | None, ranked: Ranked | None) -> Outcome:
    """Every localization figure that the inputs allow.

    The images are all of `truth`; box figures leave out those without a box, pixel figures those without a mask. An
    image without a map counts as wrong. MaxBoxAcc and PxAP are at 224x224 as their authors have them, `gt_known` and
    Top-k hold boxes against each other in the original image (see `regions.map_box`, `metrics.localization`).

    Args:
        maps: the maps.
        truth: the ground truth.
        threshold: of `gt_known`, `top1_loc` and `top5_loc`; None leaves them out.
        ranked: predicted classes `(I, 5)` of the truth's images, best first, -1 for none; None leaves Top-k out.

    Raises:
        InputError: see `MapsPass`; or the threshold is not in [0, 1).
    """
    check_chosen(threshold)
    run = MapsPass(maps, truth, threshold)
    figures: Figures = {"threshold": threshold} | dict.fromkeys((*BOX_KEYS, *PIXEL_KEYS))
    notes: Notes = dict.fromkeys(ORACLES, ORACLE)
    tables, curves = left_out_tables(objects=truth.left_out), {}
    if len(run.images):
        curves = {
            "thresholds": _gt_known(figures, notes, run, threshold, len(truth.classes)),
            "max_box_acc": _max_box(figures, run),
        }
        tables["classes"] = _class_table(run, truth.classes, threshold)
        if threshold is not None:
            tables |= {
                "iou": _iou_table(run, threshold),
                "errors": _error_table(run),
                "sizes": _size_table(run, threshold),
            }
        _centre(figures, run)
        _top_k(figures, notes, run, len(truth.classes), ranked, threshold)
    else:
        notes |= dict.fromkeys(BOX_KEYS, NO_BOXES)
    if run.masked:
        curves["precision_recall"] = _pixels(figures, run)
    else:
        notes |= dict.fromkeys(PIXEL_KEYS, NO_MASKS)
    counts = {
        "images": len(truth.images),
        "images_with_box": len(run.images),
        "images_with_mask": run.masked,
        "images_without_prediction": run.missing,
        **truth.counts,
    }
    notes = {key: note for key, note in notes.items() if key in figures}
    return Outcome(f"localization in {len(truth.images)} images", figures, counts, notes, tables, curves)


def _gt_known(figures: Figures, notes: Notes, run: MapsPass, threshold: float | None, classes: int) -> pd.DataFrame:
    best = run.best_threshold()
    figures |= {"gt_known_oracle": float(run.at(best).mean()), "threshold_oracle": best}
    if threshold is None:
        notes["gt_known"] = NO_THRESHOLD
    else:
        correct = run.at(threshold)
        low, high = bootstrap_interval(correct, SEED)
        figures |= {"gt_known": float(correct.mean()), "gt_known_low": low, "gt_known_high": high}
        if (run.images["labels"].map(len) == 1).all():
            labels = run.images["labels"].map(lambda row: row[0]).to_numpy(np.int64)
            figures |= {"gt_known_class_mean": class_mean(correct, labels, classes)}
    return pd.DataFrame({"threshold": run.thresholds, "gt_known": gt_known(run.swept)})


def _max_box(figures: Figures, run: MapsPass) -> pd.DataFrame:
    found = run.max_box.figures()
    figures |= {
        "max_box_acc": found.max_box_acc,
        "max_box_acc_threshold": found.tau,
        "max_box_acc_v2": found.max_box_acc_v2,
        "max_box_acc_v2_by_iou": {f"{iou:g}": value for iou, value in found.by_iou.items()},
        "max_box_acc_v2_thresholds": {f"{iou:g}": value for iou, value in found.taus_v2.items()},
        "max_box_acc_centre": found.centre,
        "max_box_acc_v2_centre": found.centre_v2,
    }
    return pd.DataFrame({"threshold": TAUS, **found.curves})


def _centre(figures: Figures, run: MapsPass) -> None:
    """The best box around the centre by GT-known's rules: half-open boxes in the original image."""
    ious = best_iou(centre_boxes(run.images["width"], run.images["height"]), run.truth)
    best = best_index(gt_known(ious))
    figures |= {"centre_box_oracle": float(gt_known(ious)[best]), "centre_box_side": float(CENTRE_SIDES[best])}


def _top_k(
    figures: Figures, notes: Notes, run: MapsPass, classes: int, ranked: Ranked | None, threshold: float | None
) -> None:
    if ranked is None or (run.images["labels"].map(len) != 1).any():
        notes |= dict.fromkeys(TOP_KEYS, NO_CLASSES if ranked is None else NOT_ONE_LABEL)
        return
    own, labels = ranked[run.boxed], run.images["labels"].map(lambda row: row[0]).to_numpy(np.int64)
    oracle = top_k(run.at(run.best_threshold()), own, labels)
    figures |= {(f"{key}_oracle" if "loc" in key else key): float(right.mean()) for key, right in oracle.items()}
    if threshold is None:
        notes |= {"top1_loc": NO_THRESHOLD, "top5_loc": NO_THRESHOLD}
    else:
        honest = top_k(run.at(threshold), own, labels)
        figures |= {key: float(right.mean()) for key, right in honest.items()}
    if classes > own.shape[1] and (own[:, -1] < 0).all():
        short = [key for key in TOP_KEYS if key.startswith("top5")]
        figures |= dict.fromkeys(short)
        notes |= dict.fromkeys(short, NO_FIFTH)


def _pixels(figures: Figures, run: MapsPass) -> pd.DataFrame:
    found = run.pixels.figures()
    figures |= {"px_ap": found.px_ap, "pixel_iou_oracle": found.pixel_iou}
    return pd.DataFrame({"recall": found.recall, "precision": found.precision})


def _class_table(run: MapsPass, classes: tuple[str, ...], threshold: float | None) -> pd.DataFrame:
    """GT-known per class; an image of several labels counts for each."""
    correct = run.at(run.best_threshold() if threshold is None else threshold)
    rows = run.images.assign(correct=correct)[["labels", "correct"]].explode("labels").dropna()
    groups = rows.groupby("labels")["correct"].agg(["size", "mean"])
    table = pd.DataFrame({"class": [classes[int(label)] for label in groups.index], "images": groups["size"].tolist()})
    table["gt_known_oracle" if threshold is None else "gt_known"] = groups["mean"].to_numpy(np.float64)
    return table


def _iou_table(run: MapsPass, threshold: float) -> pd.DataFrame:
    shares = iou_histogram(run.ious(threshold))
    return pd.DataFrame({"iou": (np.arange(BINS) + 0.5) / BINS, "share": shares})


def _error_table(run: MapsPass) -> pd.DataFrame:
    return pd.DataFrame({"error": ERROR_TYPES, "share": shares_of_types(error_types(run.predicted, run.truth))})


def _size_table(run: MapsPass, threshold: float) -> pd.DataFrame:
    """GT-known by the object's share of the image; `size` is a bin's upper edge."""
    bins = size_bins(run.truth, run.images["width"], run.images["height"])
    rows = per_group(run.ious(threshold), bins, len(SIZE_EDGES) - 1)
    table = pd.DataFrame(rows, columns=["images", "gt_known", "mean_iou"]).astype({"images": int})
    table.insert(0, "size", SIZE_EDGES[1:])
    return table[table["images"] > 0]
