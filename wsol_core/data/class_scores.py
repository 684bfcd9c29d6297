"""The table of class scores: the likeliest classes of every image, as a classifier says.

A row per image and class: `image_id` (str, in the index's order), `class` (str, its name) and `score` (float32, a
probability), an image's likeliest class first. An image has K = min(5, number of classes) rows, as Top-5 looks no
further. `wsol evaluate localization --classes` reads the same table.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table, write_table
from wsol_core.data.index import ImageIndex

COLUMNS = ("image_id", "class", "score")
TOP = 5
NONE = -1

Classes = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


def top_classes(probabilities: Scores) -> tuple[Classes, Scores]:
    """The K likeliest of C classes of N images, and their probabilities.

    Args:
        probabilities: `(N, C)`.

    Returns:
        Both `(N, K)`, K = min(5, C), the likeliest first; of equally likely classes the one of the lower number.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    return ranked, np.take_along_axis(probabilities, ranked, axis=1)


def write_scores(path: Path, index: ImageIndex, ranked: Classes, scores: Scores) -> None:
    """Write the likeliest classes `(N, K)` of all N images of an index, and their probabilities.

    Raises:
        InputError: an image has a score that is not in [0, 1]; it is named.
    """
    ids = index.table["image_id"].to_numpy()
    wrong = ~((scores >= 0) & (scores <= 1)).all(axis=1)
    if wrong.any():
        raise InputError(f"image {ids[wrong][0]!r}: a class score is not in [0, 1]; train the classifier again")
    columns = (np.repeat(ids, ranked.shape[1]), np.array(index.classes, dtype=object)[ranked.ravel()], scores.ravel())
    write_table(path, pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))))


def read_ranked(path: Path, index: ImageIndex) -> Classes:
    """The likeliest classes `(N, K)` of all N images of an index, the likeliest first; -1 where an image has no more.

    Raises:
        InputError: the file is missing or damaged, or belongs to another index: a column is missing, an image or class
            is unknown, or an image has a class twice, more than K classes, or classes in the wrong order.
    """
    table = read_table(path)[0]
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise InputError(f"{path}: no column {missing[0]!r}; run class_scores again")
    image = pd.Index(index.table["image_id"]).get_indexer(pd.Index(table["image_id"]))
    label = pd.Index(index.classes).get_indexer(pd.Index(table["class"]))
    score = table["score"].to_numpy(np.float64)
    rows = pd.DataFrame({"image": image, "label": label, "score": score})
    place = rows.groupby("image").cumcount().to_numpy(np.int64)
    previous = rows.groupby("image")["score"].shift().to_numpy(np.float64)
    count = min(TOP, len(index.classes))
    checks = {
        "is not in the index": image < 0,
        "has an unknown class": label < 0,
        "has a class twice": rows.duplicated(["image", "label"]).to_numpy(bool),
        "has too many classes": place >= count,
        "has a score that is not in [0, 1]": ~((score >= 0) & (score <= 1)),
        "has its classes in the wrong order": score > previous,
    }
    for what, wrong in checks.items():
        if wrong.any():
            raise InputError(f"{path}: image {table['image_id'][wrong].iloc[0]!r} {what}; run class_scores again")
    ranked = np.full((len(index.table), count), NONE, dtype=np.int64)
    ranked[image, place] = label
    return ranked
