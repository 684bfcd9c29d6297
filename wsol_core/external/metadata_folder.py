"""The metadata folder of "Evaluating Weakly Supervised Object Localization Methods Right" (CVPR 2020), of one split."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_text
from wsol_core.data.paths import is_inside
from wsol_core.external.names import without_suffix

IGNORE = 255
BRIGHT = 127

Mask = npt.NDArray[np.uint8]
Parts = tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...], Callable[[str], Mask | None]]


def read(root: Path, mask_root: Path) -> Parts:
    """Read `image_ids.txt`, `class_labels.txt` (`ID,CLASS`), `image_sizes.txt` (`ID,W,H`) and `localization.txt`.

    `localization.txt` gives boxes, `ID,x0,y0,x1,y1` (a line per box, corners in pixels of the original image), or
    masks, `ID,MASK,IGNORED` (a line per object, PNG paths relative to `mask_root`, the second may be empty). The image
    id loses the suffix of an image file. Classes are named by their numbers. In a mask, an object wins over an ignored
    region.

    Returns:
        Images (`image_id`, `width`, `height`, `labels`), boxes, class names, and the mask of an image.

    Raises:
        InputError: a file is missing or malformed, lacks an image or names one that `image_ids.txt` does not, or a path
            leads out of the folder.
    """
    images = _table(root, "image_ids.txt", 1).rename(columns={0: "image_id"})
    labels = _of(images, _table(root, "class_labels.txt", 2), root, "class_labels.txt")
    sizes = _of(images, _table(root, "image_sizes.txt", 3), root, "image_sizes.txt")
    numbers = _numbers(labels[[1]], root, "class_labels.txt")[:, 0]
    shapes = _numbers(sizes[[1, 2]], root, "image_sizes.txt")
    images = images.assign(width=shapes[:, 0], height=shapes[:, 1])
    images["labels"] = pd.Series([[int(number)] for number in numbers], dtype=object)
    truth = _table(root, "localization.txt", 3, 5)
    _of(images, truth, root, "localization.txt")
    classes = tuple(str(number) for number in range(int(numbers.max(initial=-1)) + 1))
    if truth.shape[1] == 5:
        return images, _boxes(truth, images, root), classes, _no_mask
    by_image = {str(name): rows[[1, 2]].to_numpy().tolist() for name, rows in truth.groupby(0)}
    return (
        images,
        _boxes(truth.iloc[:0].reindex(columns=range(5)), images, root),
        classes,
        partial(_mask, mask_root, by_image),
    )


def _table(root: Path, name: str, *widths: int) -> pd.DataFrame:
    """The comma-separated columns of one file, as text; the first is an image id."""
    if not (root / name).is_file():
        raise InputError(f"{root / name}: missing; the folder holds image_ids, class_labels, image_sizes, localization")
    text = read_text(root / name)
    try:
        table = pd.read_csv(io.StringIO(text), header=None, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{root / name}: not a table of commas ({error})") from error
    if table.shape[1] not in widths:
        raise InputError(f"{root / name}: {table.shape[1]} columns, not {' or '.join(map(str, widths))}")
    table[0] = table[0].map(without_suffix)
    return table


def _of(images: pd.DataFrame, table: pd.DataFrame, root: Path, name: str) -> pd.DataFrame:
    """The first row of each of `images`; refuses rows of others."""
    unknown = table.loc[~table[0].isin(images["image_id"]), 0]
    if len(unknown):
        raise InputError(f"{root / name}: image {unknown.iloc[0]!r} is not in image_ids.txt")
    first = table.drop_duplicates(0).set_index(0)
    lacking = images.loc[~images["image_id"].isin(first.index), "image_id"]
    if len(lacking):
        raise InputError(f"{root / name}: no line for image {lacking.iloc[0]!r}")
    return first.loc[images["image_id"]]


def _numbers(columns: pd.DataFrame, root: Path, name: str) -> npt.NDArray[np.int64]:
    try:
        numbers = columns.astype(np.int64).to_numpy()
    except (ValueError, OverflowError) as error:
        raise InputError(f"{root / name}: not a whole number ({error})") from error
    if (numbers < 0).any():
        raise InputError(f"{root / name}: a negative number")
    return np.asarray(numbers)


def _boxes(truth: pd.DataFrame, images: pd.DataFrame, root: Path) -> pd.DataFrame:
    try:
        corners = truth[[1, 2, 3, 4]].astype(np.float32).to_numpy()
    except ValueError as error:
        raise InputError(f"{root / 'localization.txt'}: not a number ({error})") from error
    labels = dict(zip(images["image_id"], (row[0] for row in images["labels"]), strict=True))
    table = pd.DataFrame({"image_id": truth[0], "label": truth[0].map(labels).astype(np.int64)})
    table[list(BOX_COLUMNS)] = corners
    return table.assign(difficult=False)


def _no_mask(_: str) -> Mask | None:
    return None


def _mask(root: Path, by_image: dict[str, list[list[str]]], name: str) -> Mask:
    objects = np.any(np.stack([_bright(root, mask) for mask, _ in by_image[name]]), axis=0)
    mask: Mask = objects.astype(np.uint8)
    for ignored in sorted({path for _, path in by_image[name] if path}):
        mask[_bright(root, ignored) & ~objects] = IGNORE
    return mask


def _bright(root: Path, path: str) -> npt.NDArray[np.bool_]:
    if not is_inside(root, path):
        raise InputError(f"{root}: localization.txt names {path!r}, a path outside the folder of masks")
    try:
        with Image.open(root / path, formats=["PNG"]) as picture:
            bright: npt.NDArray[np.bool_] = np.asarray(picture.convert("L")) > BRIGHT
    except Exception as error:  # a broken file can raise anything inside a decoder
        raise InputError(f"{root / path}: not a readable PNG mask ({error})") from error
    return bright
