"""CSV: a row per box, half-open `x0, y0, x1, y1` in pixels, three digits; a row without a box for an image without."""

from pathlib import Path

import numpy as np

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.export.place import CSV_COLUMNS
from wsol_core.export.results import BoxResults


def write_boxes(results: BoxResults, path: Path) -> None:
    """Write one table; `label` is the class's name."""
    names = np.array([*results.classes, ""], dtype=object)
    boxes = results.boxes.assign(label=names[results.boxes["label"].to_numpy(int)])
    table = results.images.merge(boxes, on="image_id", how="left")
    table[list(BOX_COLUMNS)] = table[list(BOX_COLUMNS)].astype(np.float64).round(3)
    table["score"] = table["score"].astype(np.float64).round(6)
    table[list(CSV_COLUMNS)].to_csv(path, index=False, lineterminator="\n")
