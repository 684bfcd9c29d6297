"""How well each image's boxes fit its reference: ground truth, or pseudo boxes where a set has no annotations."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS, paired_iou
from wsol_core.core.map_store import CLASS_AGNOSTIC

KEYS = ["image_id", "label"]
COLUMNS = list(BOX_COLUMNS)


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of one method.

    Attributes:
        images: a row per image in the index's order: `iou` (float32; not a number without a reference) and `found`
            (whether it has a box).
        boxes: the best box of each image and class: `image_id`, `label`, `x0, y0, x1, y1`, sorted by image.
    """

    images: pd.DataFrame
    boxes: pd.DataFrame


def measure(images: pd.DataFrame, boxes: pd.DataFrame, reference: pd.DataFrame) -> Outcomes:
    """Outcomes of a table of boxes.

    Of each of an image's labels the box of the highest score counts (as `localize.final_boxes` has it), and its best
    IoU with a reference box of that label; an image's IoU is the lowest of its labels'. A label without a box has 0; an
    image none of whose labels has a reference has no IoU. So an image of several classes is right when the best box of
    every class is.

    Args:
        images: columns `image_id` and `labels` (lists).
        boxes: a table of boxes.
        reference: columns of a table of boxes without `score`.
    """
    pairs = images[["image_id", "labels"]].explode("labels").rename(columns={"labels": "label"}).dropna()
    pairs = pairs.astype({"label": np.int64})
    best = _matching(pairs, boxes).sort_values(
        ["image_id", "label", "label_of_box", "score"], ascending=[True, True, False, False], kind="stable"
    )
    best = best.drop_duplicates(KEYS)[[*KEYS, *COLUMNS]].reset_index(drop=True)
    truth = _matching(pairs, reference)[[*KEYS, *COLUMNS]]
    both = truth.merge(best, on=KEYS, how="left", suffixes=("", "_found"))
    predicted = both[[f"{name}_found" for name in COLUMNS]].fillna(0).to_numpy(np.float32)
    both["iou"] = paired_iou(predicted, both[COLUMNS].to_numpy(np.float32))
    lowest = both.groupby(KEYS)["iou"].max().groupby("image_id").min()
    ids = images["image_id"]
    found = ids.isin(best["image_id"])
    return Outcomes(pd.DataFrame({"iou": ids.map(lowest).astype(np.float32), "found": found}), best)


def _matching(pairs: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """The boxes of each (image, label), class-agnostic ones of every label."""
    merged = pairs.merge(boxes, on="image_id", suffixes=("", "_of_box"))
    own = merged["label_of_box"] == merged["label"]
    return merged[own | (merged["label_of_box"] == CLASS_AGNOSTIC)]
