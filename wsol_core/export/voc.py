"""VOC: `Annotations/NAME.xml`, and `ImageSets/Main/SPLIT.txt` with the names, those of `pictures`.

VOC counts pixels from 1 and the last pixel belongs to the box: `xmin, ymin, xmax, ymax` of a half-open box are `x0 + 1,
y0 + 1, x1, y1`. They are whole numbers, so that edges are rounded to the nearest pixel's first; a box keeps one pixel
at least. An image without a box has a file without an object. Scores are left out, as VOC has none.
"""

from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS, Boxes, to_inclusive
from wsol_core.export.results import BoxResults

FOLDER = "JPEGImages"


def write_boxes(results: BoxResults, folder: Path) -> None:
    """Write a file per image, and a list per split."""
    for image, boxes in results.by_image():
        path = folder / "Annotations" / f"{_name(image['file_name'])}.xml"
        path.parent.mkdir(exist_ok=True)
        tree = annotation(image, boxes, results.classes)
        ElementTree.indent(tree)
        path.write_text(ElementTree.tostring(tree, encoding="unicode") + "\n", encoding="utf-8")
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, rows in results.images.groupby("split"):
        (lists / f"{split}.txt").write_text("".join(f"{_name(name)}\n" for name in rows["file_name"]), encoding="utf-8")


def annotation(image: pd.Series, boxes: pd.DataFrame, classes: tuple[str, ...]) -> ElementTree.Element:
    """The XML of an image (a row of the results) with its boxes."""
    root = ElementTree.Element("annotation")
    _add(root, "folder", FOLDER)
    _add(root, "filename", image["file_name"])
    extent = ElementTree.SubElement(root, "size")
    for name, value in (("width", image["width"]), ("height", image["height"]), ("depth", 3)):
        _add(extent, name, value)
    _add(root, "segmented", 0)
    corners = pixel_corners(boxes[list(BOX_COLUMNS)].to_numpy(np.float32), image["width"], image["height"])
    for label, box in zip(boxes["label"], corners.tolist(), strict=True):
        entry = ElementTree.SubElement(root, "object")
        for name, value in (("name", classes[label]), ("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            _add(entry, name, value)
        place = ElementTree.SubElement(entry, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            _add(place, name, int(value))
    return root


def pixel_corners(boxes: Boxes, width: int, height: int) -> Boxes:
    """VOC's corners `(N, 4)` of boxes inside an image of `width x height`, whole numbers from 1."""
    edges = np.floor(boxes + 0.5)
    low = np.minimum(edges[:, :2], np.array([width, height], dtype=np.float32) - 1)
    high = np.maximum(edges[:, 2:], low + 1)
    return to_inclusive(np.concatenate([low, high], axis=1))


def _name(file_name: str) -> str:
    return PurePosixPath(file_name).stem


def _add(parent: ElementTree.Element, name: str, value: object) -> None:
    ElementTree.SubElement(parent, name).text = str(value)
