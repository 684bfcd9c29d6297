"""Label masks of a method held against the true ones: mean IoU (Two-Phase 4.5, the protocol of VOC 2012)."""

from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.data.class_masks import ClassMasks
from wsol_core.data.index import SPLITS, ImageIndex
from wsol_core.data.label_masks import LabelMasks
from wsol_core.evaluation.figures import rounded
from wsol_core.metrics.segmentation import Confusion

BACKGROUND_NAME = "background"


def evaluate(
    predicted: LabelMasks, truth: ClassMasks, index: ImageIndex, seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Mean IoU and IoU by class on every split with true masks and predictions.

    Images without a true mask do not count. Where only some images of a split are predicted, every pixel of the others
    is wrong, background too.

    Args:
        predicted: `<image_id>.png`, the size of the image, 0 background and 1 + label elsewhere.
        truth: the true masks.
        index: the images.
        seed: of the bootstrap.

    Returns:
        By split `miou`, the mean over the classes that truth or prediction shows, background among them, and its 95 %
        bootstrap interval over the images from `miou_low` to `miou_high`; `classes_absent`, how many others there are,
        which the mean leaves out; `images`; `images_without_prediction`.
        And a row per split and class: `split`, `class`, `iou` (NaN for an absent one).

    Raises:
        InputError: a predicted mask is damaged, belongs to no image, has another size or an unknown class.
    """
    unknown = sorted(set(predicted.image_ids) - set(index.table["image_id"]))
    if unknown:
        raise InputError(f"{predicted.path(unknown[0])}: no image {unknown[0]!r} in the index; make the masks again")
    figures: dict[str, Any] = {}
    tables = [pd.DataFrame(columns=["split", "class", "iou"])]
    for split in SPLITS:
        names = truth.images.loc[truth.images["split"] == split, "image_id"].tolist()
        missing = sum(name not in predicted for name in names)
        if missing == len(names):
            continue
        confusion = _count(predicted, truth, names, len(index.classes), split)
        per_class = confusion.figures().per_class
        ious = np.array([per_class[number] for number in range(1 + len(index.classes))])
        low, high = confusion.interval(len(ious), seed)
        absent = np.isnan(ious)
        figures[split] = rounded({
            "miou": float(ious[~absent].mean()) if not absent.all() else float("nan"),
            "miou_low": low,
            "miou_high": high,
            "classes_absent": int(absent.sum()),
            "images": len(names),
            "images_without_prediction": missing,
        })  # fmt: skip
        tables.append(pd.DataFrame({"split": split, "class": (BACKGROUND_NAME, *index.classes), "iou": ious}))
    return figures, pd.concat(tables[min(1, len(tables) - 1) :], ignore_index=True)


def _count(predicted: LabelMasks, truth: ClassMasks, names: list[str], classes: int, split: str) -> Confusion:
    """One class more than background and `classes`, which the truth never shows, for pixels without a prediction."""
    nothing = classes + 1
    confusion = Confusion(nothing + 1)
    for name in tqdm(names, split, unit="mask", disable=None):
        own = truth.read(name)
        found = _fitting(predicted, name, own.shape, classes) if name in predicted else np.full(own.shape, nothing)
        confusion.add(found.astype(np.int64), own, name)
    return confusion


def _fitting(predicted: LabelMasks, name: str, shape: tuple[int, ...], classes: int) -> np.ndarray[Any, Any]:
    labels, path = predicted.read(name), predicted.path(name)
    if labels.shape != shape:
        height, width = labels.shape
        raise InputError(f"{path}: {width} x {height} pixels, not the image's {shape[1]} x {shape[0]}")
    if labels.max() > classes:
        raise InputError(f"{path}: holds class {labels.max()}, but there are {classes} and the background, 0")
    return labels
