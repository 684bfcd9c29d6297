"""Boxes of an evaluation held against their images: cut off at the border, and those that are no boxes left out."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.datasets.validate import BOX_OUTSIDE, EMPTY_BOX, NO_NUMBERS, TOLERANCE

MAX_OVERHANG = 0.01
"""Largest share of boxes, or one box, that may reach outside their image, as a few published ones do."""
MAX_OUTSIDE = 0.25
"""Largest share of boxes, or one box, that may lie outside their image or be inside out: more are of another
convention."""


class CheckedBoxes(NamedTuple):
    """Boxes that lie inside their images.

    Attributes:
        boxes: those that stay, cut off at the border.
        cut: how many of them reached more than a pixel outside.
        left_out: those that do not stay: `image_id`, `x0, y0, x1, y1` as given, `reason`.
    """

    boxes: pd.DataFrame
    cut: int
    left_out: pd.DataFrame

    @property
    def image_ids(self) -> set[str]:
        """Of all images that were given a box, good or bad."""
        return {*self.boxes["image_id"], *self.left_out["image_id"]}


def check_boxes(boxes: pd.DataFrame, images: pd.DataFrame, place: object) -> CheckedBoxes:
    """Cut off what reaches outside, and leave out boxes of no area, of no finite numbers, and outside their image.

    Args:
        boxes: `image_id`, `x0, y0, x1, y1`, and more.
        images: `image_id`, `width`, `height` of all their images.
        place: for messages.

    Raises:
        InputError: every box is bad, or so many lie or reach outside that they are probably of another convention (x,
            y, width, height for corners, shares for pixels, a resized image).
    """
    values = boxes[list(BOX_COLUMNS)].to_numpy(np.float32)
    sizes = images.set_index("image_id").loc[boxes["image_id"], ["width", "height", "width", "height"]]
    limits = sizes.to_numpy(np.float32)
    finite = np.isfinite(values).all(axis=1)
    flat = finite & np.any(values[:, 2:] == values[:, :2], axis=1)
    inside = np.all((values >= -TOLERANCE) & (values <= limits + TOLERANCE), axis=1)
    clipped = np.clip(values, 0, limits)
    gone = finite & ~flat & ~np.all(clipped[:, 2:] > clipped[:, :2], axis=1)
    overhang = finite & ~flat & ~inside & ~gone
    many = overhang.sum() > max(1, MAX_OVERHANG * len(boxes)) or gone.sum() > max(1, MAX_OUTSIDE * len(boxes))
    bad = ~finite | flat | gone
    if len(boxes) and (many or (bad | overhang).all()):
        row = int(np.flatnonzero(gone | overhang)[0]) if (gone | overhang).any() else 0
        size = "x".join(f"{side:g}" for side in limits[row, :2])
        raise InputError(
            f"{place}: image {boxes['image_id'].iloc[row]!r} ({size}) has a box {values[row].tolist()} "
            f"(x0, y0, x1, y1 from 0) that is empty, not finite or reaches outside, and {int((bad | overhang).sum())} "
            f"of {len(boxes)} boxes are so; is it of another convention of coordinates?"
        )
    reason = np.where(~finite, NO_NUMBERS, np.where(flat, EMPTY_BOX, BOX_OUTSIDE))
    left_out = boxes.loc[bad, ["image_id", *BOX_COLUMNS]].assign(reason=reason[bad]).reset_index(drop=True)
    kept = boxes.copy()
    kept[list(BOX_COLUMNS)] = clipped
    return CheckedBoxes(kept[~bad].reset_index(drop=True), int(overhang.sum()), left_out)


def left_out_tables(**tables: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The table `left_out` of an outcome: what was left out, with its side first; nothing where nothing was."""
    sides = [table.assign(of=side)[["of", *table.columns]] for side, table in tables.items() if len(table)]
    return {"left_out": pd.concat(sides, ignore_index=True)} if sides else {}
