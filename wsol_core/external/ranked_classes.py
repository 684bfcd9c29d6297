"""Class scores of images, for Top-1 and Top-5."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table
from wsol_core.core.texts import read_text
from wsol_core.data.class_scores import COLUMNS, NONE, TOP
from wsol_core.external.ground_truth import Truth


def read_ranked_classes(path: Path, truth: Truth) -> npt.NDArray[np.int64]:
    """The predicted classes `(N, 5)` of the images of `truth`, best first, -1 where an image has no more.

    The file is a CSV (or `.parquet`) with the columns `image_id`, `class` (a name, or the ground truth's number) and
    `score`, a row per image and class. Of equal scores the one that stands first in the file wins.

    Raises:
        InputError: a column is missing, an image is unknown, a class is unknown or twice, or a score is not a number.
    """
    table = _read(path)
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise InputError(f"{path}: no column {missing[0]!r}; class scores have {', '.join(COLUMNS)}")
    scores = pd.to_numeric(table["score"], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise InputError(f"{path}: image {table['image_id'].iloc[row]!r} has a score that is not a finite number")
    labels = {name: truth.find_class(name, path) for name in table["class"].unique()}
    ranked = pd.DataFrame({
        "image_id": truth.names.find_all(table["image_id"], path),
        "label": table["class"].map(labels),
        "score": scores,
    })  # fmt: skip
    ranked = ranked[~ranked["image_id"].isin(truth.elsewhere)]
    if (twice := ranked.duplicated(["image_id", "label"])).any():
        raise InputError(f"{path}: image {ranked['image_id'][twice].iloc[0]!r} has a class twice")
    ranked = ranked.sort_values(["image_id", "score"], ascending=[True, False], kind="stable")
    place = ranked.groupby("image_id").cumcount().to_numpy()
    position = pd.Series(np.arange(len(truth.images)), index=truth.images["image_id"])
    found = np.full((len(truth.images), TOP), NONE, dtype=np.int64)
    kept = place < TOP
    found[position[ranked["image_id"]].to_numpy()[kept], place[kept]] = ranked["label"].to_numpy()[kept]
    return found


def _read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return read_table(path)[0].astype({"image_id": str, "class": str})
    text = read_text(path)
    try:
        return pd.read_csv(io.StringIO(text), dtype={"image_id": str, "class": str}, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{path}: not a readable CSV of {', '.join(COLUMNS)} ({error})") from error
