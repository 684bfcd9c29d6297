"""Which images are shown, and in what order."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from wsol_core.core.errors import nearest
from wsol_core.core.params import Block
from wsol_core.data.index import SPLITS
from wsol_core.inspect.catalogue import Catalogue
from wsol_core.inspect.refusals import RefusalError
from wsol_core.metrics.localization import is_correct

Rows = npt.NDArray[np.intp]


class Filter(Block):
    """What images a page shows. Outcomes are those of `method` in the first revision."""

    split: str = ""
    """One of `SPLITS`, or any."""
    label: int | None = None
    """Position of a class, or any."""
    method: str = ""
    """A method with boxes; the first one where none is named."""
    outcome: Literal["", "right", "wrong", "none"] = ""
    """IoU above .5; not above it, or no box; no box."""
    low: float = Field(default=0, ge=0, le=1)
    """Lowest IoU."""
    high: float = Field(default=1, ge=0, le=1)
    """Highest IoU."""
    q: str = Field(default="", max_length=200)
    """Text in the image's id or in the name of its class."""
    sort: Literal["worst", "best", "name", "change"] = "worst"
    """By IoU; by id; or by the difference between the first two revisions, largest loss first."""


def select(catalogues: list[Catalogue], wanted: Filter) -> Rows:
    """Rows of the first catalogue's index, in order.

    Raises:
        RefusalError: there is no such split, class or method.
    """
    first = catalogues[0]
    table = first.index.table
    keep = np.ones(len(table), dtype=bool)
    if wanted.split:
        if wanted.split not in SPLITS:
            raise RefusalError(f"no split {wanted.split!r}{nearest(wanted.split, SPLITS)}")
        keep &= (table["split"] == wanted.split).to_numpy()
    if wanted.label is not None:
        if not 0 <= wanted.label < len(first.index.classes):
            raise RefusalError(f"no class {wanted.label}: they are 0 to {len(first.index.classes) - 1}")
        keep &= _with_labels(table, [wanted.label])
    if wanted.q:
        keep &= _with_text(first, wanted.q)
    iou, found = scores(first, wanted.method)
    keep &= _with_outcome(wanted, iou, found)
    rows = np.flatnonzero(keep)
    if wanted.sort == "name":
        return rows
    if wanted.sort == "change" and len(catalogues) > 1:
        value = _aligned(catalogues[1], table, wanted.method) - iou
    else:
        value = -iou if wanted.sort == "best" else np.where(found, iou, np.where(np.isnan(iou), np.nan, -1))
    return np.asarray(rows[np.argsort(value[rows], kind="stable")])


def scores(catalogue: Catalogue, method: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """IoU `(N,)`, not a number where there is none, and whether an image has a box, of the images of an index.

    Raises:
        RefusalError: a method is named that has no boxes.
    """
    measured = catalogue.measured()
    if method and method not in measured:
        raise RefusalError(f"no boxes of method {method!r}{nearest(method, measured)}")
    outcomes = catalogue.outcomes(method) if method else None
    if outcomes is None:
        count = len(catalogue.index.table)
        return np.full(count, np.nan, np.float32), np.zeros(count, bool)
    return outcomes.images["iou"].to_numpy(np.float32), outcomes.images["found"].to_numpy(bool)


def _with_labels(table: pd.DataFrame, labels: list[int]) -> npt.NDArray[np.bool_]:
    exploded = table["labels"].explode()
    rows = exploded.index[exploded.isin(labels)]
    return np.isin(np.arange(len(table)), rows)


def _with_text(catalogue: Catalogue, text: str) -> npt.NDArray[np.bool_]:
    table, text = catalogue.index.table, text.casefold()
    labels = [label for label, name in enumerate(catalogue.index.classes) if text in name.casefold()]
    in_id = table["image_id"].str.casefold().str.contains(text, regex=False).to_numpy(bool)
    return np.asarray(in_id | _with_labels(table, labels))


def _with_outcome(wanted: Filter, iou: npt.NDArray[np.float32], found: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    keep = np.ones(len(iou), dtype=bool)
    if wanted.low > 0 or wanted.high < 1:
        keep &= (iou >= np.float32(wanted.low)) & (iou <= np.float32(wanted.high))
    right = is_correct(iou)
    if wanted.outcome == "right":
        keep &= right
    elif wanted.outcome == "wrong":
        keep &= ~right & ~np.isnan(iou)
    elif wanted.outcome == "none":
        keep &= ~found
    return keep


def _aligned(catalogue: Catalogue, table: pd.DataFrame, method: str) -> npt.NDArray[np.float32]:
    """The IoU of a table's images in another revision; not a number where it lacks them or the method."""
    if not catalogue.exists or method not in catalogue.measured():
        return np.full(len(table), np.nan, np.float32)
    other = pd.Series(scores(catalogue, method)[0], catalogue.index.table["image_id"])
    return other.reindex(table["image_id"]).to_numpy(np.float32)
