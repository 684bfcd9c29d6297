"""Pseudo boxes -> low-resolution pseudo masks in HDF5 (WSFL 3.3.2)."""

from pathlib import Path

import numpy as np

from wsol_core.core.boxes import BOX_COLUMNS, rasterize
from wsol_core.core.errors import run_stage
from wsol_core.core.files import read_table
from wsol_core.core.map_store import CLASS_AGNOSTIC, Kind, create
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.methods.wsfl.pseudo_masks import PseudoMaskParams

DATA = Path("data/localization")
WRITE_ROWS = 4096


def main() -> None:
    """Write `targets/pseudo_masks.h5`."""
    resolution = load(PseudoMaskParams, "pseudo_masks").resolution
    boxes = read_table(DATA / "pseudo_boxes.parquet")[0]
    images = read_index(DATA / "index.parquet").table
    table = images[["image_id", "width", "height"]].merge(boxes, on="image_id", validate="one_to_one")
    with create(DATA / "targets/pseudo_masks.h5", Kind.MASK, resolution, resolution) as writer:
        for start in range(0, len(table), WRITE_ROWS):
            rows = table.iloc[start : start + WRITE_ROWS]
            corners = rows[list(BOX_COLUMNS)].to_numpy(np.float32)
            masks = rasterize(corners, rows["width"].to_numpy(), rows["height"].to_numpy(), resolution)
            writer.append(rows["image_id"].tolist(), [CLASS_AGNOSTIC] * len(rows), masks)


if __name__ == "__main__":
    run_stage(main)
