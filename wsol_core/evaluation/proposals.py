"""Recall of proposals: which share of the objects some proposal of their image overlaps, whatever the class."""

from typing import Any

import numpy as np
import pandas as pd

from wsol_core.data.index import SPLITS, ImageIndex
from wsol_core.evaluation.figures import rounded
from wsol_core.metrics.detection import proposal_recall

COUNTS = (100, 300, 500, 2000)
IOUS = tuple(np.arange(50, 100, 5) / 100)
"""Of the average recall: .5, .55, ... .95 (COCO)."""


def evaluate(proposals: pd.DataFrame, index: ImageIndex, annotations: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Recall of one source on every split whose images have annotations; images without objects do not matter.

    Args:
        proposals: of all images, ranked by score.
        index: the images.
        annotations: their objects; difficult ones are left out.

    Returns:
        By split, for N of `COUNTS`: `recall_N`, at IoU .5 with the N first proposals of each image, and
        `average_recall_N`, the mean over IoU .5 to .95; `proposals`, their mean number in an image; `objects`.
    """
    figures = {}
    for split in SPLITS:
        names = index.table.loc[index.table["split"] == split, "image_id"]
        objects = annotations[annotations["image_id"].isin(names) & ~annotations["difficult"].to_numpy(bool)]
        if not len(objects):
            continue
        own = proposals[proposals["image_id"].isin(names)]
        table = proposal_recall(own, objects, COUNTS, IOUS).pivot_table(index="count", columns="iou", values="recall")
        recall, mean = table[IOUS[0]], table.mean(axis=1)
        found: dict[str, Any] = {f"recall_{count}": float(recall[count]) for count in COUNTS}
        found |= {f"average_recall_{count}": float(mean[count]) for count in COUNTS}
        figures[split] = rounded(found | {"proposals": len(own) / len(names), "objects": len(objects)})
    return figures
