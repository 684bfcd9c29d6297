"""Every figure and table of one localization method: its maps and boxes held against the annotations."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wsol_core.boxes import Boxes
from wsol_core.data.index import SPLITS, TRAIN_FULLSUP, ImageIndex
from wsol_core.localize import Targets, final_boxes, find_targets, sweep
from wsol_core.maps import MapStore
from wsol_core.metrics.localization import (
    BINS,
    THRESHOLDS,
    SplitIoU,
    best_iou,
    centre_boxes,
    figures,
    gt_known,
    iou_histogram,
    per_class,
)


@dataclass(frozen=True)
class Evaluation:
    """What is known of one method.

    Attributes:
        figures: by split with annotations, see `metrics.localization.figures`; empty without annotations.
        thresholds: GT-known by threshold: column `threshold`, then a column per split, NaN without annotations.
        histogram: share of images by IoU: column `iou` (the bin's middle), then a column per split.
        classes: columns `split`, `class`, `images`, `gt_known`, `mean_iou`.
    """

    figures: dict[str, dict[str, Any]]
    thresholds: pd.DataFrame
    histogram: pd.DataFrame
    classes: pd.DataFrame


def evaluate(
    store: MapStore,
    boxes: pd.DataFrame,
    index: ImageIndex,
    annotations: pd.DataFrame,
    threshold: float,
    resolution: int,
    seed: int,
) -> Evaluation:
    """Evaluate a method on every split whose images have annotations; the other images do not count.

    Args:
        store: the method's maps, for the curve over the thresholds.
        boxes: the method's table of boxes, made at `threshold`.
        index: the images.
        annotations: ground-truth boxes; those of the image's own label count.
        threshold: the calibrated one.
        resolution: side of the grid on which components are found.
        seed: of the bootstrap.
    """
    targets = {split: find_targets(index, annotations, split) for split in SPLITS}
    targets = {split: found for split, found in targets.items() if len(found.images)}
    ious = {split: _measure(split, store, boxes, found, resolution) for split, found in targets.items()}
    thresholds = pd.DataFrame({"threshold": THRESHOLDS})
    histogram = pd.DataFrame({"iou": (np.arange(BINS) + 0.5) / BINS})
    for split in SPLITS:
        thresholds[split] = gt_known(ious[split].swept) if split in ious else np.nan
        histogram[split] = iou_histogram(ious[split].final) if split in ious else np.nan
    tables = [_class_table(split, found, ious[split], index.classes) for split, found in targets.items()]
    classes = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(CLASS_COLUMNS))
    return Evaluation(figures(ious, threshold, TRAIN_FULLSUP, seed), thresholds, histogram, classes)


CLASS_COLUMNS = ("split", "class", "images", "gt_known", "mean_iou")


def _measure(split: str, store: MapStore, boxes: pd.DataFrame, targets: Targets, resolution: int) -> SplitIoU:
    final: Boxes = final_boxes(boxes, targets.images)[:, None]
    centre = centre_boxes(targets.images["width"], targets.images["height"])
    return SplitIoU(
        final=best_iou(final, targets.truth)[:, 0],
        swept=sweep(store, targets, THRESHOLDS, resolution, split),
        centre=best_iou(centre, targets.truth),
    )


def _class_table(split: str, targets: Targets, ious: SplitIoU, classes: tuple[str, ...]) -> pd.DataFrame:
    rows = per_class(ious.final, targets.images["label"].to_numpy(), len(classes))
    table = pd.DataFrame({"split": split, "class": classes, "images": rows[:, 0].astype(int)})
    table[["gt_known", "mean_iou"]] = rows[:, 1:]
    return table[table["images"] > 0]
