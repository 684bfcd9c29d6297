"""A table of boxes, `boxes.csv` at the root: a row per object, images at the root or in `images/`."""

import csv
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
    with it where two would have one id. Splits are in letters of any size; `val` and `valid` are `train-fullsup`. Empty
    rows are passed over. Classes are in alphabetical order.

    Raises:
        InputError: the file is missing or no such table, or a row has too many cells, no image, an unknown split,
            half a box or a box of no class, or an image two splits.
    """
    table = _load(root, params.name)
    split, written = table["split"].str.lower().map(SPLIT_NAMES), (table[CORNERS] != "").sum(axis=1)
    corners = table[CORNERS].apply(pd.to_numeric, errors="coerce")
    _refuse(table["image"].str.strip() == "", table["image"], "names no image")
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
        raise InputError(f"{FILE}, line {named.index[row]}: {named.iloc[row]!r}: {what}")


def _load(root: Path, name: str) -> pd.DataFrame:
    """The cells as text; the index holds the lines of the file."""
    if not (root / FILE).exists():
        raise InputError(f"{name}: no {FILE} at the root")
    text = read_text(root / FILE, FILE)
    separator = max(SEPARATORS, key=text.lstrip("\n").partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        filled = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise InputError(f"{FILE}, line {reader.line_num}: not a table ({error})") from error
    header, rows = filled[0][1] if filled else [], filled[1:]
    if missing := [column for column in COLUMNS if header.count(column) != 1]:
        raise InputError(f"{FILE}: no column {missing[0]!r}, or several; there must be {', '.join(COLUMNS)}")
    if longer := [line for line, cells in rows if any(cells[len(header) :])]:
        raise InputError(f"{FILE}, line {longer[0]}: more cells than columns")
    places = [header.index(column) for column in COLUMNS]
    named = [[cells[place] if place < len(cells) else "" for place in places] for _, cells in rows]
    table = pd.DataFrame(named, index=[line for line, _ in rows], columns=list(COLUMNS), dtype=str)
    if separator != ",":
        table[CORNERS] = table[CORNERS].apply(lambda column: column.str.replace(",", ".", regex=False))
    return table
