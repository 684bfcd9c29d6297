"""What a reader is asked for and what it answers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, field_validator

from wsol_core.core.errors import InputError
from wsol_core.core.params import Block
from wsol_core.data.images import MAX_PIXELS
from wsol_core.data.index import ANNOTATION_COLUMNS, SPLITS, TEST, TRAIN_FULLSUP, TRAIN_WEAKSUP
from wsol_core.data.paths import leaves_root, passed_over

InstanceMask = npt.NDArray[np.uint8]
VOID = 255
"""In an instance mask: a pixel of which nobody says what it shows, and which does not count."""

LISTED_COLUMNS = ("image_id", "path", "split", "labels")
OUTSIDE_ROOT = "path outside the root"
DUPLICATE = "duplicate id"
NO_IMAGE = "no image by name and first bytes"
NO_SUCH_FOLDER = "no such folder or list"
SPLIT_NAMES = {
    TRAIN_WEAKSUP: TRAIN_WEAKSUP, "train": TRAIN_WEAKSUP, TRAIN_FULLSUP: TRAIN_FULLSUP, "val": TRAIN_FULLSUP,
    "valid": TRAIN_FULLSUP, "validation": TRAIN_FULLSUP, TEST: TEST,
}  # fmt: skip
"""What lists and folders call the splits, in small letters."""
NAMED = 5
"""Things named in a message that counts more of them."""


class DataParams(Block):
    """One data set: where it comes from and how it is read."""

    name: str = Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$")
    """Name under which the root of a set outside the project is known to `wsol use` and `WSOL_ROOT_<NAME>`."""
    source: str
    """The root itself, a folder inside the project; or the set's `files.parquet`, and the root is found by name."""
    reader: Literal["folder", "cub", "voc", "imagenet", "coco", "csv", "yolo", "unlabelled"]
    """Layout of the root."""
    on_bad_image: Literal["fail", "skip"] = "fail"
    """Whether bad images stop `prepare`, or are left out and listed in `skipped.csv`."""
    follow_links: bool = False
    """Whether links are followed out of the root, and linked folders; else they are bad images, listed as such."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)
    """Largest image that is decoded, width times height: a few bytes can claim to be more than memory holds."""
    swapped_sizes: Literal["refuse", "turn"] = "refuse"
    """Annotations made before the turn that EXIF asks for, known by width and height swapped: `turn` turns boxes and
    masks along, `refuse` makes them bad images."""
    fullsup_per_class: int = Field(default=0, ge=0)
    """Images per class that become `train-fullsup` where the set has none."""
    test_per_class: int = Field(default=0, ge=0)
    """Images per class that become `test` where the set has none."""
    seed: int = 0
    """Decides which images are carved out."""
    classes: tuple[str, ...] | None = None
    """Keep these classes alone, in this order, and the images that show one of them; null keeps all."""
    one_class: bool = False
    """Whether images of several classes are left out, so that a detection set becomes one for localization."""
    splits: dict[str, str] | None = None
    """COCO and VOC alone: split -> annotation file or list of images, relative to the root; null finds the files by
    their usual names."""

    @field_validator("source")
    @classmethod
    def _inside_project(cls, source: str) -> str:
        if not source or leaves_root(source):
            raise ValueError("not a path inside the project; a root elsewhere is found by the set's name")
        return source

    @field_validator("splits")
    @classmethod
    def _known_splits(cls, splits: dict[str, str] | None) -> dict[str, str] | None:
        if unknown := set(splits or ()) - set(SPLITS):
            raise ValueError(f"unknown split {sorted(unknown)[0]!r}; splits are {', '.join(SPLITS)}")
        return splits

    @property
    def folder(self) -> str:
        """The root where it lies inside the project, else ""."""
        return "" if self.source.endswith(".parquet") else self.source


class Problem(NamedTuple):
    """Why an image cannot be used; `path` is relative to the root."""

    image_id: str
    path: str
    reason: str


def no_mask(_: str) -> InstanceMask | None:
    """The masks of a set that has none."""
    return None


@dataclass(frozen=True)
class Listing:
    """What a data set's own files say about it, before any image is opened.

    Attributes:
        classes: class names.
        images: a row per listed image, duplicates and bad ones included: `image_id`, `path` (relative to the root,
            POSIX), `split` (one of `SPLITS`), `labels` (list of int, positions in `classes`).
        annotations: ground truth as `index.write_annotations` takes it, not yet checked against the images.
        folders: where images stand, relative to the root; image files there that no row names are unlisted.
        masks: from an image id to its instances, uint8 `(H, W)`, pixel = `instance` of an annotation, `VOID`, else 0;
            or None.
        problems: what the reader itself found wrong.
        sizes: width and height, pixels, that the annotation file gives, by image id, where it gives any.
    """

    classes: tuple[str, ...]
    images: pd.DataFrame
    annotations: pd.DataFrame
    folders: tuple[str, ...] = ("",)
    masks: Callable[[str], InstanceMask | None] = no_mask
    problems: tuple[Problem, ...] = ()
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)


def splits_of(words: Iterable[str]) -> dict[str, str]:
    """The split of each of the words that name one, in letters of any size; `val` is the test split without a `test`.

    Example:
        >>> splits_of(["Train", "valid", "fonts"])
        {'Train': 'train-weaksup', 'valid': 'test'}
    """
    splits = {word: SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES}
    if TEST in splits.values():
        return splits
    return {word: split if word.lower() in SPLITS or split == TRAIN_WEAKSUP else TEST for word, split in splits.items()}


def listed(rows: Sequence[tuple[str, str, str, list[int]]]) -> pd.DataFrame:
    """The `images` of a listing from rows in the order of `LISTED_COLUMNS`."""
    return pd.DataFrame(rows, columns=list(LISTED_COLUMNS))


def annotated(rows: Sequence[tuple[str, int, float, float, float, float, bool, int]]) -> pd.DataFrame:
    """The `annotations` of a listing from rows in the order of `ANNOTATION_COLUMNS`."""
    types = dict.fromkeys(("x0", "y0", "x1", "y1"), "float32") | {"label": "int64", "difficult": "bool"}
    return pd.DataFrame(rows, columns=list(ANNOTATION_COLUMNS)).astype(types | {"instance": "int64"})


def nothing_found(root: Path, params: DataParams, what: str) -> InputError:
    """The error where a root holds no image that the reader looks for; names what was passed over."""
    over = passed_over(root, follow_links=params.follow_links)
    named = ", ".join(f"{entry.path!r} ({entry.problem})" for entry in over[:NAMED])
    also = f"; passed over: {len(over)}, {'first ' if len(over) > NAMED else ''}{named}" if over else ""
    return InputError(f"{params.name}: {what}{also}")
