"""Every figure and table of one localization method: its maps and boxes held against the annotations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.boxes import Boxes
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import SPLITS, TRAIN_FULLSUP, ImageIndex
from wsol_core.evaluation.map_scores import MapFigures, MapScores, TruthMasks, map_figures
from wsol_core.localization.localize import Targets, Threshold, final_boxes, find_targets, sweep
from wsol_core.metrics.errors import ERROR_TYPES, SIZE_EDGES, error_types, shares_of_types, size_bins
from wsol_core.metrics.localization import (
    BINS,
    THRESHOLDS,
    FloatArray,
    SplitIoU,
    best_iou,
    centre_boxes,
    figures,
    gt_known,
    iou_histogram,
    per_group,
)
from wsol_core.metrics.max_box import TAUS

MISSING = ERROR_TYPES.index("missing")
IOU_MIDDLES = (np.arange(BINS) + 0.5) / BINS
GROUP_COLUMNS = ("images", "gt_known", "mean_iou")


@dataclass(frozen=True)
class Evaluation:
    """What is known of one method.

    Attributes:
        figures: by split with annotations: those of `metrics.localization.figures` and of `map_scores.map_figures`, and
            `missing`, the number of images without a box, and `calibrated_by`; empty without annotations.
        tables: CSV tables by name. Those with a column per split hold NaN for a split without annotations:
            `thresholds`: GT-known by `threshold`; `max-box`: MaxBoxAcc by `tau`; `iou`: share of images by IoU (a bin's
            middle); `errors`: share of images by type of `error`, see `metrics.errors`.
            With a row per split and group that has images, columns `images`, `gt_known`, `mean_iou`:
            `classes`: by `class`; `sizes`: by `size`, the upper edge of a bin of the object's share of the image.
    """

    figures: dict[str, dict[str, Any]]
    tables: dict[str, pd.DataFrame]


@dataclass(frozen=True)
class _Measured:
    """What the figures and tables of one split are made of; `types` `(N,)` are positions in `ERROR_TYPES`."""

    targets: Targets
    ious: SplitIoU
    types: npt.NDArray[np.intp]
    maps: MapFigures


def evaluate(
    store: MapStore,
    boxes: pd.DataFrame,
    index: ImageIndex,
    annotations: pd.DataFrame,
    masks: Path,
    threshold: Threshold,
    resolution: int,
    seed: int,
) -> Evaluation:
    """Evaluate a method on every split whose images have annotations; the other images do not count.

    Each map is read once.

    Args:
        store: the method's maps, for the curves over the thresholds and the figures of pixels.
        boxes: the method's table of boxes, made at `threshold`.
        index: the images.
        annotations: ground-truth boxes; those of the image's own label count.
        masks: folder of the objects' masks, see `TruthMasks`; images without one do not count for pixels.
        threshold: the calibrated one.
        resolution: side of the grid on which maps become boxes.
        seed: of the bootstrap.
    """
    targets = {split: find_targets(index, annotations, split) for split in SPLITS}
    splits: dict[str, _Measured] = {}
    for split, found in targets.items():
        if len(found.images):
            scores = MapScores(found, TruthMasks(masks, annotations, found))
            swept = sweep(store, found, THRESHOLDS, resolution, split, scores, threshold.scale)
            splits[split] = _measure(boxes, found, scores, swept)
    return Evaluation(_figures(splits, threshold, seed), _tables(splits, index.classes))


def _measure(boxes: pd.DataFrame, targets: Targets, scores: MapScores, swept: npt.NDArray[np.float32]) -> _Measured:
    images, truth = targets.images, targets.truth
    predicted: Boxes = final_boxes(boxes, images)
    ious = SplitIoU(
        final=best_iou(predicted[:, None], truth)[:, 0],
        swept=swept,
        centre=best_iou(centre_boxes(images["width"], images["height"]), truth),
        labels=images["label"].to_numpy(),
    )
    return _Measured(targets, ious, error_types(predicted, truth), scores.figures())


def _figures(splits: Mapping[str, _Measured], cut: Threshold, seed: int) -> dict[str, dict[str, Any]]:
    boxes = figures({split: found.ious for split, found in splits.items()}, cut.value, TRAIN_FULLSUP, seed)
    maps = map_figures({split: found.maps for split, found in splits.items()}, cut.value, TRAIN_FULLSUP)
    missing = {split: int((found.types == MISSING).sum()) for split, found in splits.items()}
    by = {"calibrated_by": cut.calibrated_by}
    return {split: boxes[split] | maps[split] | {"missing": missing[split]} | by for split in splits}


def _tables(splits: Mapping[str, _Measured], classes: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    return {
        "thresholds": _by_split("threshold", THRESHOLDS, splits, lambda found: gt_known(found.ious.swept)),
        "max-box": _by_split("tau", TAUS, splits, lambda found: found.maps.boxes.curves["v1@50"]),
        "iou": _by_split("iou", IOU_MIDDLES, splits, lambda found: iou_histogram(found.ious.final)),
        "errors": _by_split("error", ERROR_TYPES, splits, lambda found: shares_of_types(found.types)),
        "classes": _by_group("class", classes, splits, lambda found: found.ious.labels),
        "sizes": _by_group("size", SIZE_EDGES[1:], splits, _size_bins),
    }


def _by_split(
    name: str, values: Sequence[Any] | FloatArray, splits: Mapping[str, _Measured], column: Callable[[_Measured], Any]
) -> pd.DataFrame:
    table = pd.DataFrame({name: values})
    return table.assign(**{split: column(splits[split]) if split in splits else np.nan for split in SPLITS})


def _by_group(
    name: str, names: Sequence[Any], splits: Mapping[str, _Measured], group: Callable[[_Measured], Any]
) -> pd.DataFrame:
    tables = [pd.DataFrame(columns=["split", name, *GROUP_COLUMNS])]
    for split, found in splits.items():
        rows = per_group(found.ious.final, group(found), len(names))
        table = pd.DataFrame(rows, columns=GROUP_COLUMNS).astype({"images": int})
        table.insert(0, name, names)
        table.insert(0, "split", split)
        tables.append(table[table["images"] > 0])
    return pd.concat(tables[min(1, len(splits)) :], ignore_index=True)


def _size_bins(found: _Measured) -> npt.NDArray[np.intp]:
    images = found.targets.images
    return size_bins(found.targets.truth, images["width"], images["height"])
