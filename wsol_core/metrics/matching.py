"""Tables of boxes: what they must hold, and which object each box overlaps most."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS, Boxes, paired_iou
from wsol_core.core.errors import InputError

DETECTION_COLUMNS = ("image_id", *BOX_COLUMNS, "score", "label")
TRUTH_COLUMNS = ("image_id", "label", *BOX_COLUMNS, "difficult")


def check_table(table: pd.DataFrame, columns: Sequence[str], classes: int | None = None) -> None:
    """Refuse a table of boxes or points that cannot be measured.

    Raises:
        InputError: a column is missing, a number is not finite, a label is not below `classes`; the image is named.
    """
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"a table of boxes has no column {missing[0]!r}; it needs {', '.join(columns)}")
    numbers = [column for column in columns if column not in ("image_id", "label", "difficult")]
    broken = ~np.isfinite(table[numbers].to_numpy(np.float64)).all(axis=1)
    if broken.any():
        raise InputError(f"image {table['image_id'][broken].iloc[0]!r}: a box or a score is not a finite number")
    if classes is not None:
        check_labels(table, classes)


def check_labels(table: pd.DataFrame, classes: int) -> None:
    """Refuse a label that is not 0 to `classes - 1`.

    Raises:
        InputError: naming the image.
    """
    wrong = table[~table["label"].isin(range(classes))]
    if len(wrong):
        name, label = wrong.iloc[0][["image_id", "label"]]
        raise InputError(f"image {name!r}: label {label} is not one of the {classes} classes, 0 to {classes - 1}")


def boxes_of(table: pd.DataFrame) -> Boxes:
    """The boxes of a table, `(N, 4)`."""
    return table[list(BOX_COLUMNS)].to_numpy(np.float32)


def best_overlap(
    boxes: pd.DataFrame, truth: pd.DataFrame, by: list[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """For each of N boxes the object with equal `by` that it overlaps most, the first of equals.

    Returns:
        IoU `(N,)`, 0 without an object, and the object's row in `truth` `(N,)`, -1 without.
    """
    keys = pd.concat([boxes[by], truth[by]]).groupby(by, sort=False).ngroup().to_numpy()
    wanted, own = keys[: len(boxes)], keys[len(boxes) :]
    order = np.argsort(own, kind="stable")
    starts, stops = (np.searchsorted(own[order], wanted, side=side) for side in ("left", "right"))
    counts = stops - starts
    box = np.repeat(np.arange(len(boxes)), counts)
    candidate = order[np.arange(len(box)) + np.repeat(starts - np.cumsum(counts) + counts, counts)]
    overlap = paired_iou(boxes_of(boxes)[box], boxes_of(truth)[candidate])
    ranked = np.lexsort((-overlap, box))
    has, firsts = counts > 0, (np.cumsum(counts) - counts)[counts > 0]
    best, row = np.zeros(len(boxes), dtype=np.float32), np.full(len(boxes), -1, dtype=np.intp)
    best[has], row[has] = overlap[ranked[firsts]], candidate[ranked[firsts]]
    return best, row


def match(detections: pd.DataFrame, truth: pd.DataFrame, classes: int, iou: float = 0.5) -> pd.DataFrame:
    """Which detections are true positives, by the rule of PASCAL VOC; see `metrics.detection.voc_ap`.

    Returns:
        `image_id`, `label` and `hit` (bool) of every detection that counts, by label, best score first.

    Raises:
        InputError: a column is missing, a label is not a class, a score or a box is not finite.
    """
    check_table(detections, DETECTION_COLUMNS, classes)
    check_table(truth, TRUTH_COLUMNS, classes)
    ranked = detections.sort_values(["label", "score", "image_id"], ascending=[True, False, True], kind="stable")
    overlap, row = best_overlap(ranked, truth, ["image_id", "label"])
    row = np.where(overlap >= np.float32(iou), row, -1)
    counted = ~np.append(truth["difficult"].to_numpy(bool), False)[row]
    taken, first = np.unique(row, return_index=True)
    hits = np.zeros(len(ranked), dtype=bool)
    hits[first[taken >= 0]] = True
    return ranked[["image_id", "label"]].assign(hit=hits)[counted]
