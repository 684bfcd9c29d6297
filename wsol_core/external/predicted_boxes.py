"""Predicted boxes: COCO results, VOC text files, or a table of boxes of the pipeline."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS, from_inclusive, from_xywh
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.core.texts import read_json, read_text
from wsol_core.datasets.readers.coco import four_numbers
from wsol_core.external.checked_boxes import CheckedBoxes, check_boxes
from wsol_core.external.ground_truth import Truth

VOC_FILE = re.compile(r"(?:comp\d+_)?det_([^_]+)_(.+)\.txt")
VOC_COLUMNS = ("image_id", "score", *BOX_COLUMNS)
COLUMNS = ("image_id", *BOX_COLUMNS, "score", "label")


def read_boxes(path: Path, truth: Truth) -> CheckedBoxes:
    """Read predicted boxes of the images of `truth`.

    - COCO results JSON: a list of `image_id` (number or name), `category_id` (number or class name), `bbox` (x, y,
      width, height), `score`.
    - VOC: a folder of `comp4_det_test_CLASS.txt`, or one such file; lines `IMAGE SCORE x0 y0 x1 y1`, corners counted
      from 1, the last pixel included.
    - `.parquet`: a table of boxes of this pipeline; label -1 is class-agnostic.

    Returns:
        A table `image_id, x0, y0, x1, y1, score, label` sorted by image, then by falling score; boxes are cut off at
        the image's border, those of no area, of no finite numbers or outside are left out.

    Raises:
        InputError: another layout, a damaged file, an image without ground truth, an unknown class, a score that is not
            finite, or boxes of another convention (see `checked_boxes`).
    """
    if path.suffix == ".json" and path.is_file():
        table = _coco_results(path, truth)
    elif path.suffix == ".parquet":
        table = _pipeline_table(path, truth)
    elif path.is_dir() or (path.suffix == ".txt" and path.is_file()):
        table = _voc_files(path, truth)
    else:
        raise InputError(f"{path}: no boxes; COCO results (.json), a folder of VOC text files, or a .parquet table")
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        table = _typed(table)
    if not np.isfinite(table["score"]).all():
        row = int(np.flatnonzero(~np.isfinite(table["score"]))[0])
        raise InputError(f"{path}: image {table['image_id'].iloc[row]!r} has a score that is not finite")
    checked = check_boxes(table, truth.images, path)
    _refuse_shares(checked.boxes, truth, path)
    order = ["image_id", "score"]
    boxes = checked.boxes.sort_values(order, ascending=[True, False], kind="stable", ignore_index=True)
    return checked._replace(boxes=boxes)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    types = dict.fromkeys((*BOX_COLUMNS, "score"), np.float32) | {"label": np.int32}
    return table[list(COLUMNS)].astype(types)


def _refuse_shares(table: pd.DataFrame, truth: Truth, path: Path) -> None:
    """Boxes that all lie in the first pixel are shares of the image."""
    if len(table) and table[["x1", "y1"]].to_numpy().max() <= 1 and truth.images[["width", "height"]].min().min() > 1:
        raise InputError(f"{path}: every box lies in [0, 1]; corners are pixels of the original image, not shares")


def _coco_results(path: Path, truth: Truth) -> pd.DataFrame:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: COCO results are a list of objects with image_id, category_id, bbox and score")
    try:
        names, classes, scores = ([row[key] for row in rows] for key in ("image_id", "category_id", "score"))
        if any(len(row["bbox"]) != 4 for row in rows):
            raise ValueError("a bbox is not four numbers")
        boxes = from_xywh([four_numbers(row["bbox"]) for row in rows])
        names, classes = ([_whole(each) for each in column] for column in (names, classes))
        values = np.asarray(scores, dtype=np.float64)
        if values.shape != (len(rows),):
            raise ValueError("a score is a number")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not COCO results ({type(error).__name__}: {error})") from error
    labels = {each: truth.find_class(each, path) for each in dict.fromkeys(classes)}
    return _table(truth, path, names, boxes, values, [labels[each] for each in classes])


def _whole(name: Any) -> int | str:
    """A number or a name; 1.0, as programs write numbers that they hold as floats, is 1."""
    if isinstance(name, float) and name.is_integer():
        return int(name)
    if not isinstance(name, int | str):
        raise ValueError("image_id and category_id are numbers or names")
    return name


def _voc_files(path: Path, truth: Truth) -> pd.DataFrame:
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    matches = [(file, match) for file in files if (match := VOC_FILE.fullmatch(file.name))]
    if not matches:
        raise InputError(f"{path}: no VOC results in it; their names are comp4_det_test_CLASS.txt")
    if len(sets := sorted({match[1] for _, match in matches})) > 1:
        raise InputError(f"{path}: results of several image sets ({', '.join(sets)}); keep one")
    if len({match[2] for _, match in matches}) < len(matches):
        raise InputError(f"{path}: two files for one class; keep one")
    tables = [_voc_file(file, truth, truth.find_class(match[2], file)) for file, match in matches]
    return pd.concat(tables, ignore_index=True)


def _voc_file(file: Path, truth: Truth, label: int) -> pd.DataFrame:
    types = {"image_id": str} | dict.fromkeys(VOC_COLUMNS[1:], float)
    try:
        lines = [line.split() for line in read_text(file).splitlines() if line.strip()]
        rows = pd.DataFrame(lines, columns=list(VOC_COLUMNS)).astype(types)
    except ValueError as error:
        raise InputError(f"{file}: lines must be IMAGE SCORE x0 y0 x1 y1 ({error})") from error
    boxes = from_inclusive(rows[list(BOX_COLUMNS)].to_numpy())
    return _table(truth, file, rows["image_id"].tolist(), boxes, rows["score"].to_numpy(), [label] * len(rows))


def _pipeline_table(path: Path, truth: Truth) -> pd.DataFrame:
    table, _ = read_table(path)
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise InputError(f"{path}: no column {missing[0]!r}; a table of boxes has {', '.join(COLUMNS)}")
    if len(wrong := table[~table["label"].between(CLASS_AGNOSTIC, len(truth.classes) - 1)]):
        raise InputError(f"{path}: unknown class number {wrong['label'].iloc[0]}")
    boxes, scores = table[list(BOX_COLUMNS)].to_numpy(np.float32), table["score"].to_numpy(np.float64)
    return _table(truth, path, table["image_id"].tolist(), boxes, scores, table["label"].tolist())


def _table(truth: Truth, place: Path, names: list[Any], boxes: Any, scores: Any, labels: list[int]) -> pd.DataFrame:
    table = pd.DataFrame({"image_id": truth.names.find_all(names, place)}, dtype=object)
    table[list(BOX_COLUMNS)] = boxes
    table = table.assign(score=scores, label=labels)
    return table[~table["image_id"].isin(truth.elsewhere)].reset_index(drop=True)
