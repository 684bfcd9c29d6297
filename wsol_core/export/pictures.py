"""The images of an exported folder: unique names in one folder, as trainers and viewers want them, and copies."""

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.data.paths import has_file

TABLE = "images.csv"
COLUMNS = ("file_name", "image_id", "path", "split")


def flat_names(paths: Sequence[str]) -> list[str]:
    """File names for images of one folder: `_` for `/`, without `images/` in front, and a number where two agree.

    No two agree up to their suffixes, nor up to the size of letters: the label of each is a file of the same name.

    Example:
        >>> flat_names(["images/cat/a.jpg", "cat_a.png", "b.jpg"])
        ['cat_a.jpg', 'cat_a_2.png', 'b.jpg']
    """
    taken: set[str] = set()
    names = []
    for path in paths:
        place = PurePosixPath(path.removeprefix("images/").replace("/", "_"))
        stem, number = place.stem, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{place.stem}_{number}"
        taken.add(stem.casefold())
        names.append(f"{stem}{place.suffix}")
    return names


def write_table(images: pd.DataFrame, folder: Path) -> None:
    """Write which image each name means, `images.csv`."""
    images[list(COLUMNS)].to_csv(folder / TABLE, index=False, lineterminator="\n")


def copy_images(images: pd.DataFrame, root: Path, folder: Path) -> None:
    """Copy the images from the data set's root into a folder, under their names in the export.

    Raises:
        InputError: one is missing.
    """
    folder.mkdir(parents=True)
    rows = zip(images["path"], images["file_name"], strict=True)
    for path, name in tqdm(rows, "images", len(images), unit="image", disable=None):
        if not has_file(root, path, follow_links=True):
            raise InputError(f"{root / path}: missing, so it cannot be copied; put it back, or leave --images out")
        shutil.copyfile(root / path, folder / name)
