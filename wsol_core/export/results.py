"""What is exported: images, and boxes or masks of any stage, from the workspace."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS, Boxes
from wsol_core.core.errors import InputError, nearest
from wsol_core.core.files import read_table
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.data.index import SPLITS, ImageIndex, read_index
from wsol_core.export.pictures import flat_names

OBJECT = "object"
"""The class of what has no class of its own, in an image that has not exactly one label."""
COLUMNS = ("image_id", *BOX_COLUMNS, "score", "label")


@dataclass(frozen=True)
class BoxResults:
    """Boxes of a stage.

    Attributes:
        source: of the boxes, as asked for.
        images: rows of the image index, all that were asked for, with boxes or not, by id; and `file_name`, unique in
            the whole set (see `pictures`).
        boxes: `image_id`, `x0`, `y0`, `x1`, `y1` (inside the image, none empty), `score`, `label` (position in
            `classes`), in the order of the images, best first.
        classes: names.
        index: of the set.
    """

    source: str
    images: pd.DataFrame
    boxes: pd.DataFrame
    classes: tuple[str, ...]
    index: ImageIndex

    def by_image(self) -> "list[tuple[pd.Series, pd.DataFrame]]":
        """Every image with its boxes."""
        groups = {str(name): rows for name, rows in self.boxes.groupby("image_id")}
        rows = (row for _, row in self.images.iterrows())
        return [(row, groups.get(row["image_id"], self.boxes[:0])) for row in rows]

    def sizes(self) -> npt.NDArray[np.float32]:
        """Width and height `(N, 2)` of each box's image, pixels."""
        return image_sizes(self.boxes, self.images)

    def corners(self) -> Boxes:
        """The boxes `(N, 4)`."""
        return self.boxes[list(BOX_COLUMNS)].to_numpy(np.float32)


def chosen_images(index: ImageIndex, splits: Sequence[str]) -> pd.DataFrame:
    """The rows of some splits, of all where none is named.

    Raises:
        InputError: there is no such split.
    """
    for split in splits:
        if split not in SPLITS:
            raise InputError(f"--split {split}: unknown{nearest(split, SPLITS)}; splits are {', '.join(SPLITS)}")
    return index.split(*(splits or SPLITS))


def own_labels(images: pd.DataFrame, classes: Sequence[str]) -> dict[str, int]:
    """Which class something without one has, by image: the image's label where it has exactly one.

    Else it is `object`, whose position is that behind the last of the classes.
    """
    return {
        str(name): int(own[0]) if len(own) == 1 else len(classes)
        for name, own in zip(images["image_id"], images["labels"], strict=True)
    }


def read_boxes(
    set_name: str, source: str, splits: Sequence[str] = (), min_score: float = 0.0, best_of_labels: bool = False
) -> BoxResults:
    """The boxes of a stage, those of class-agnostic ones under the image's label (see `own_labels`).

    Boxes are cut off at the image's borders; what is left empty is left out.

    Args:
        set_name: `localization` or `detection`.
        source: a method (of `boxes/`), a detector (of `detections/`), or the path of any table of boxes below
            `data/SET`, without `.parquet`: `pseudo_boxes`, `objectness/foreground`, ...
        splits: whose images; none for all.
        min_score: lower ones are left out.
        best_of_labels: keep, of each class that an image is labelled with, the best box alone.

    Raises:
        InputError: there is no such table, or it is no table of boxes, or of images that are not in the index.
    """
    if not 0 <= min_score <= 1:
        raise InputError(f"--min-score {min_score:g}: must lie in [0, 1]")
    folder = Path("data", set_name)
    index = read_index(folder / "index.parquet")
    path = find_result(folder, source, ("boxes/{}.parquet", "detections/{}.parquet", "{}.parquet"))
    table, _ = read_table(path)
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise InputError(f"{path}: no column {missing[0]!r}, so it is no table of boxes")
    if len(unknown := table.loc[~table["image_id"].isin(index.table["image_id"]), "image_id"]):
        raise InputError(f"{path}: image {unknown.iloc[0]!r} is not in the index; make the boxes again")
    names = dict(zip(index.table["image_id"], flat_names(index.table["path"].tolist()), strict=True))
    images = chosen_images(index, splits)
    images = images.assign(file_name=images["image_id"].map(names))
    table = table.loc[table["image_id"].isin(images["image_id"]) & (table["score"] >= min_score), list(COLUMNS)]
    agnostic = table["label"] == CLASS_AGNOSTIC
    own = table["image_id"].map(own_labels(images, index.classes))
    table["label"] = table["label"].where(~agnostic, own).astype(int)
    classes = (*index.classes, OBJECT) if (table["label"] == len(index.classes)).any() else index.classes
    inside = _inside(table, images)
    boxes = _best_of_labels(inside, images) if best_of_labels else inside
    return BoxResults(source, images, boxes, classes, index)


def image_sizes(rows: pd.DataFrame, images: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Width and height `(N, 2)` of the image of each row."""
    sizes = images.set_index("image_id")[["width", "height"]]
    return sizes.reindex(rows["image_id"]).to_numpy(np.float32)


def _inside(table: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    limits = np.tile(image_sizes(table, images), 2)
    boxes = np.clip(table[list(BOX_COLUMNS)].to_numpy(np.float32), 0, limits)
    table = table.assign(**dict(zip(BOX_COLUMNS, boxes.T, strict=True)))
    table = table[(table["x1"] > table["x0"]) & (table["y1"] > table["y0"])]
    ordered = table.sort_values(["image_id", "score"], ascending=[True, False], kind="stable")
    return ordered.reset_index(drop=True)


def _best_of_labels(ranked: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """The first row of each class of each image that the image is labelled with."""
    pairs = images[["image_id", "labels"]].explode("labels").rename(columns={"labels": "label"}).dropna()
    return ranked.drop_duplicates(["image_id", "label"]).merge(pairs.astype({"label": int}), on=["image_id", "label"])


def find_result(folder: Path, source: str, patterns: Sequence[str]) -> Path:
    """The file of a result below the data set's folder.

    Args:
        folder: `data/SET`.
        source: its name.
        patterns: where it may be, `{}` standing for the name; the first that exists counts.

    Raises:
        InputError: there is none; those that there are are named.
    """
    outside = not source or Path(source).is_absolute() or ".." in Path(source).parts
    paths = [] if outside else [folder / pattern.format(source) for pattern in patterns]
    for path in paths:
        if path.exists():
            return path
    files = (path.relative_to(folder).as_posix() for path in folder.rglob(f"*{Path(patterns[0]).suffix}"))
    names = sorted({_name_of(place, patterns) for place in files} - {""})
    raise InputError(f"{folder}: no {source!r} to export{nearest(source, names)}; there are {', '.join(names)}")


def _name_of(place: str, patterns: Sequence[str]) -> str:
    """How a file below `data/SET` is asked for; "" for one that is no result."""
    if re.fullmatch(r"index\.\w+|files\.\w+|truth/.*|proposal_features/.*|outputs/.*/(classes|layers)\.\w+", place):
        return ""
    for pattern in patterns:
        start, end = map(re.escape, pattern.split("{}"))
        if found := re.fullmatch(f"{start}([^/]+){end}", place):
            return found[1]
    return str(PurePosixPath(place).with_suffix(""))
