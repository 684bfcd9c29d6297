"""The background image set of BC-CT (3.1): a folder of pictures that show none of the classes.

They need no labels and no order. A few dozen will do, as long as they share their surroundings with the target images:
the paper's are searched for on the Internet.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from pydantic import Field, field_validator

from wsol_core.core.errors import InputError
from wsol_core.core.params import Block
from wsol_core.data.images import SUFFIXES
from wsol_core.data.index import INDEX_COLUMNS, TRAIN_WEAKSUP, ImageIndex
from wsol_core.data.roots import find_root
from wsol_core.datasets.listing import is_inside, walk
from wsol_core.datasets.scan import scan, worker_count

NAMED = 5
"""Bad images that a message names."""


class BackgroundParams(Block):
    """Where the background images are."""

    name: str = Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$")
    """under which a folder outside the project is known (`WSOL_ROOT_<NAME>`)"""
    source: str = Field(min_length=1)
    """the folder itself, inside the project; or `data/background/files.parquet`, and the folder is found by name"""
    scanned: tuple[str, ...] = ()
    """for the pipeline: `[background]` if the folder is outside, so that its files are looked over at every run"""

    @field_validator("source")
    @classmethod
    def _inside_project(cls, source: str) -> str:
        if source.startswith("/") or ".." in PurePosixPath(source).parts:
            raise ValueError("not a path inside the project; a folder elsewhere is found by its name")
        return source

    @property
    def folder(self) -> str:
        """The folder where it lies inside the project, else ""."""
        return "" if self.source.endswith(".parquet") else self.source


def background_images(params: BackgroundParams, classes: Sequence[str]) -> ImageIndex:
    """The index of all images in the folder and its subfolders: all in train-weaksup, without labels.

    Files that are no images by name are not looked at. A subfolder that bears the name of one of `classes` is warned of
    in one line.

    Raises:
        InputError: there is no such folder, no image in it, or some cannot be read; they are named.
    """
    root = Path(params.folder) if params.folder else find_root(params.name)
    if not root.is_dir():
        raise InputError(f"{root}: no folder of background images; see background.source in the parameters")
    paths = sorted(path for path in walk(root) if Path(path).suffix.lower() in SUFFIXES and is_inside(root, path))
    if not paths:
        raise InputError(f"{root}: no background image; put pictures there that show none of the classes")
    table = scan(root, paths, worker_count())
    _refuse_bad(root, table[table["problem"] != ""])
    if known := known_folders(paths, classes):
        names = ", ".join(known)
        print(f"warning: {root}: background images in folders named as classes: {names}", file=sys.stderr)
    unlabelled: pd.Series[Any] = pd.Series([[] for _ in paths], dtype=object)
    table = table.assign(image_id=table["path"], split=TRAIN_WEAKSUP, labels=unlabelled)
    return ImageIndex(table[list(INDEX_COLUMNS)], tuple(classes), params.name, params.folder)


def known_folders(paths: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The folders of `paths` that bear a class's name, sorted; case, digits and punctuation do not count."""
    known = {_letters(name) for name in classes} - {""}
    folders = {folder for path in paths for folder in PurePosixPath(path).parts[:-1]}
    return sorted(folder for folder in folders if _letters(folder) in known)


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]+", "", name.casefold())


def _refuse_bad(root: Path, bad: pd.DataFrame) -> None:
    if len(bad):
        named = [f"{path} ({problem})" for path, problem in zip(bad["path"], bad["problem"], strict=True)]
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise InputError(f"{root}: bad background images: {', '.join(named[:NAMED])}{more}; mend or remove them")
