"""The two tables that every stage starts from: the image index, and apart from it the annotations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table, write_table
from wsol_core.data.roots import find_root

TRAIN_WEAKSUP = "train-weaksup"
TRAIN_FULLSUP = "train-fullsup"
TEST = "test"
DataSet = Literal["localization", "detection"]
"""The data sets that flow through the pipeline: one label per image, or several."""
SPLITS = (TRAIN_WEAKSUP, TRAIN_FULLSUP, TEST)

INDEX_COLUMNS = ("image_id", "path", "digest", "split", "labels", "width", "height")
ANNOTATION_COLUMNS = ("image_id", "label", "x0", "y0", "x1", "y1", "difficult", "instance")


@dataclass(frozen=True)
class ImageIndex:
    """The images of one data set, sorted by `image_id`.

    Attributes:
        table: columns `image_id` (str), `path` (str, relative to the root, POSIX), `digest` (str), `split` (str, one of
            `SPLITS`), `labels` (list of int, positions in `classes`), `width` and `height` (int, pixels as displayed,
            after EXIF orientation).
        classes: class names.
        name: the data set's name, under which its root is known.
        source: a folder inside the project that is the root itself, or "" where the root is looked up by name.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    name: str
    source: str = ""

    @property
    def root(self) -> Path:
        """The folder that `path` is relative to.

        Raises:
            InputError: the root of an outside data set is not known on this machine.
        """
        return Path(self.source) if self.source else find_root(self.name)

    def split(self, *names: str) -> pd.DataFrame:
        """The rows of the named splits, in order of `image_id`."""
        return self.table[self.table["split"].isin(names)].reset_index(drop=True)

    def single_label(self) -> "ImageIndex":
        """The same index; for the methods that need exactly one label per image.

        Raises:
            InputError: an image has none or several labels; it is named.
        """
        wrong = self.table[self.table["labels"].map(len) != 1]
        if len(wrong):
            raise InputError(
                f"image {wrong['image_id'].iloc[0]!r} of {self.name!r} has {len(wrong['labels'].iloc[0])} labels; "
                "localization needs exactly one"
            )
        return self


def write_index(path: Path, index: ImageIndex) -> None:
    """Write the index, rows sorted by id."""
    table = index.table[list(INDEX_COLUMNS)].sort_values("image_id").reset_index(drop=True)
    write_table(path, table, {"classes": list(index.classes), "name": index.name, "source": index.source})


def read_index(path: Path) -> ImageIndex:
    """Read what `write_index` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    table, metadata = read_table(path, INDEX_COLUMNS)
    classes, name, source = (metadata.get(key) for key in ("classes", "name", "source"))
    if (
        not (isinstance(name, str) and isinstance(source, str) and isinstance(classes, list))
        or not all(isinstance(each, str) for each in classes)
        or not table["image_id"].is_unique
    ):
        raise InputError(f"{path}: not an image index; run the stage that makes it again")
    return ImageIndex(table, tuple(classes), name, source)


def write_annotations(path: Path, annotations: pd.DataFrame) -> None:
    """Write ground-truth boxes, sorted by image.

    Args:
        path: the output.
        annotations: a row per object: `image_id`; `label` (int, position in the index's classes); `x0, y0, x1, y1`
            (float32, pixels of the original image, half-open); `difficult` (bool); `instance` (int, the object's
            value in the image's mask PNG, 0 where it has no mask).
    """
    write_table(path, annotations[list(ANNOTATION_COLUMNS)].sort_values(["image_id", "instance"], kind="stable"))


def read_annotations(path: Path) -> pd.DataFrame:
    """Read what `write_annotations` wrote. Only evaluation, oracle and report stages may call this.

    Raises:
        InputError: the file is missing or damaged.
    """
    return read_table(path, ANNOTATION_COLUMNS)[0]
