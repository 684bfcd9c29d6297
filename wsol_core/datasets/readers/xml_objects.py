"""The XML files in which VOC and ImageNet describe the objects of an image."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from wsol_core.core.boxes import Boxes, from_inclusive

UNREADABLE_XML = "unreadable annotation"
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Objects(NamedTuple):
    """Objects of one image, in the file's order: names, boxes `(N, 4)` and whether each is difficult; size and picture.

    A box whose corners are not all numbers is NaN. The size is width and height, pixels; None where none is given. The
    picture is the name of its file, without folders; "" where none is given.
    """

    names: list[str]
    boxes: Boxes
    difficult: list[bool]
    size: tuple[int, int] | None = None
    picture: str = ""

    def rows(self) -> Iterator[tuple[str, Any, bool]]:
        """Name, box and whether it is difficult, of each object."""
        return zip(self.names, self.boxes, self.difficult, strict=True)


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse entities, which could grow without bound or name other files."""
        raise ValueError(f"document type {name} {pubid} {system}")


def read_objects(path: Path) -> Objects | None:
    """The objects that an annotation file describes; None for a file that is not well-formed, or an unnamed object.

    Corners count from 1 and include the last pixel. A file with a document type is refused.

    Raises:
        FileNotFoundError: there is no such file.
    """
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        root = ElementTree.parse(path, parser).getroot()
    except (ElementTree.ParseError, ValueError, LookupError):  # the last for an encoding that nobody knows
        return None
    objects = root.findall("object")
    names = [o.findtext("name", "") for o in objects]
    if not all(names):
        return None
    corners = [[_number(o.findtext(f"bndbox/{key}", "")) for key in CORNERS] for o in objects]
    difficult = [o.findtext("difficult", "0").strip() == "1" for o in objects]
    picture = root.findtext("filename", "").strip().replace("\\", "/").rpartition("/")[2]
    return Objects(names, from_inclusive(corners), difficult, _size(root), picture)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    width, height = (_number(root.findtext(f"size/{key}", "")) for key in ("width", "height"))
    return (int(width), int(height)) if 1 <= width < math.inf and 1 <= height < math.inf else None
