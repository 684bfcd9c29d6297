"""What a classifier and the boxes of localization methods come to together: Top-1 and Top-5 (SPOL 4.1, Algorithm 1)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.data.index import SPLITS, ImageIndex
from wsol_core.localization.localize import Targets, final_boxes, find_targets
from wsol_core.metrics.localization import best_iou, bootstrap_interval, class_mean, is_correct, top_k

DIGITS = 6

Figures = dict[str, Any]
Classes = npt.NDArray[np.int64]
Right = npt.NDArray[np.bool_]


def evaluate(
    index: ImageIndex, annotations: pd.DataFrame, ranked: Classes, boxes: Mapping[str, pd.DataFrame], seed: int
) -> dict[str, Figures]:
    """The figures of a classifier, and of each method's boxes with it, on every split that has images.

    `top1_cls` and `top5_cls` are over all images of a split. A method's figures are over those with annotations, where
    a box is right by IoU > .5; without any such image there are none. An image without a class or without a box counts
    as wrong. `..._class_mean` is the mean over classes, as PSOL averages, of what the figure without it is the mean
    over images of. `top1_loc_low` and `top1_loc_high` bound the 95 % bootstrap interval.

    Args:
        index: the images, each with one label.
        annotations: ground-truth boxes; those of the image's own label count.
        ranked: classes `(N, K)` of the index's images, the likeliest first, -1 for none; see `class_scores`.
        boxes: by method its table of boxes, at its calibrated threshold.
        seed: of the bootstrap.

    Returns:
        By split `top1_cls`, `top5_cls`, `top1_cls_class_mean`, `top5_cls_class_mean`, `images` and `methods`: by method
        `top1_loc`, `top1_loc_low`, `top1_loc_high`, `top5_loc`, `gt_known`, each one's `..._class_mean`, and `images`.
        Shares in [0, 1], rounded to six digits.
    """
    table = index.single_label().table
    labels = np.array([own[0] for own in table["labels"]], dtype=np.int64)
    count = len(index.classes)
    figures: dict[str, Figures] = {}
    for split in SPLITS:
        part = (table["split"] == split).to_numpy(bool)
        if part.any():
            targets = find_targets(index, annotations, split)
            own = ranked[table["image_id"].isin(targets.images["image_id"]).to_numpy(bool)]
            methods = boxes if len(targets.images) else {}
            figures[split] = _classified(ranked[part], labels[part], count) | {
                "methods": {name: _localized(found, targets, own, count, seed) for name, found in methods.items()}
            }
    return figures


def _classified(ranked: Classes, labels: Classes, classes: int) -> Figures:
    right = top_k(np.ones(len(labels), dtype=bool), ranked, labels)
    return _means({key: right[key] for key in ("top1_cls", "top5_cls")}, labels, classes) | {"images": len(labels)}


def _localized(boxes: pd.DataFrame, targets: Targets, ranked: Classes, classes: int, seed: int) -> Figures:
    predicted = final_boxes(boxes, targets.images)
    correct = is_correct(best_iou(predicted[:, None], targets.truth)[:, 0])
    labels = targets.images["label"].to_numpy(np.int64)
    right = top_k(correct, ranked, labels)
    low, high = bootstrap_interval(right["top1_loc"], seed)
    named = {"top1_loc": right["top1_loc"], "top5_loc": right["top5_loc"], "gt_known": correct}
    interval = {"top1_loc_low": round(low, DIGITS), "top1_loc_high": round(high, DIGITS)}
    return _means(named, labels, classes) | interval | {"images": len(labels)}


def _means(named: Mapping[str, Right], labels: Classes, classes: int) -> Figures:
    """The mean of each over images, and over classes."""
    over_images = {key: round(float(right.mean()), DIGITS) for key, right in named.items()}
    over_classes = {
        f"{key}_class_mean": round(class_mean(right, labels, classes), DIGITS) for key, right in named.items()
    }
    return over_images | over_classes
