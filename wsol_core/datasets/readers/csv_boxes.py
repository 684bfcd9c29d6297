"""A table of boxes, `boxes.csv` at the root: a row per object, images at the root or in `images/`."""

import io
from pathlib import Path

import pandas as pd

from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_text
from wsol_core.datasets.listing import SPLIT_NAMES, DataParams, Listing, annotated, listed
from wsol_core.datasets.readers.listed_pictures import USUAL_FOLDER, find_pictures, picture_ids

FILE = "boxes.csv"
CORNERS = ["x1", "y1", "x2", "y2"]
COLUMNS = ("image", "split", "class", *CORNERS)
NOT_A_NUMBER = ("nan", "+nan", "-nan")
SEPARATORS = ",;\t"


def read(root: Path, params: DataParams) -> Listing:
    """Read `boxes.csv`, UTF-8 with the columns `COLUMNS` in any order; others are passed over.

    Columns are separated by commas, semicolons or tabs, whichever the first line has most of; where not by commas, a
    corner may have a comma for its point, as spreadsheets write it. Corners are pixels from the image's corner,
    `x2, y2` behind the last (`nan` and `inf` make a bad box); a row without corners is a label alone, one without a
    class too is an image alone. `image` counts from the root or from `images/`; the image id is it without suffix, or
    with it where two would have one id. `val` and `valid` are `train-fullsup`. Classes are in alphabetical order.

    Raises:
        InputError: the file is missing or no such table, or a row has an unknown split, half a box or a box of no
            class, or an image two splits.
    """
    table = _load(root, params.name)
    split, written = table["split"].map(SPLIT_NAMES), (table[CORNERS] != "").sum(axis=1)
    corners = table[CORNERS].apply(pd.to_numeric, errors="coerce")
    _refuse(split.isna(), table["split"], "is no split")
    written_nan = table[CORNERS].apply(lambda column: column.str.strip().str.lower().isin(NOT_A_NUMBER))
    _refuse((corners.notna() | written_nan).sum(axis=1) != written, table["image"], "a corner is no number")
    _refuse(written.between(1, 3), table["image"], "a box needs all of x1, y1, x2, y2")
    _refuse((written > 0) & (table["class"] == ""), table["image"], "a box needs a class")
    _refuse(split != split.groupby(table["image"]).transform("first"), table["image"], "is in two splits")
    classes = sorted(set(table["class"]) - {""})
    place_of = {name: place for place, name in enumerate(classes)}
    label = [place_of.get(name, -1) for name in table["class"]]
    shown = table["class"].groupby(table["image"])
    labels = {image: sorted(place_of[name] for name in set(own) - {""}) for image, own in shown}
    splits = split.groupby(table["image"]).first()
    pictures = find_pictures(root, list(labels), (USUAL_FOLDER, ""), params.follow_links)
    id_of = dict(zip(labels, picture_ids(pictures), strict=True))
    paths = {name: picture.path for name, picture in zip(labels, pictures, strict=True)}
    images = [(id_of[name], paths[name], splits[name], labels[name]) for name in labels]
    boxes = zip(table["image"], label, corners.to_numpy(), written > 0, strict=True)
    objects = [(id_of[name], place, *box, False, 0) for name, place, box, has_box in boxes if has_box]
    folder = USUAL_FOLDER if all(path.startswith(f"{USUAL_FOLDER}/") for path in paths.values()) else ""
    return Listing(tuple(classes), listed(images), annotated(objects), (folder,))


def _refuse(wrong: pd.Series, named: pd.Series, what: str) -> None:
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise InputError(f"{FILE}, line {row + 2}: {named.iloc[row]!r}: {what}")


def _load(root: Path, name: str) -> pd.DataFrame:
    if not (root / FILE).exists():
        raise InputError(f"{name}: no {FILE} at the root")
    try:
        text = read_text(root / FILE, FILE)
        separator = max(SEPARATORS, key=text.partition("\n")[0].count)
        table = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{FILE}: not a table ({error})") from error
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise InputError(f"{FILE}: no column {missing[0]!r}; there must be {', '.join(COLUMNS)}")
    if separator != ",":
        table[CORNERS] = table[CORNERS].apply(lambda column: column.str.replace(",", ".", regex=False))
    return table
