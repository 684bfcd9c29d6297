"""The XML files in which VOC and ImageNet describe the objects of an image."""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from wsol_core.core.boxes import Boxes, from_inclusive

UNREADABLE_XML = "unreadable annotation"


class Objects(NamedTuple):
    """Objects of one image, in the file's order: names, boxes `(N, 4)` and whether each is difficult."""

    names: list[str]
    boxes: Boxes
    difficult: list[bool]


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse entities, which could grow without bound or name other files."""
        raise ValueError(f"document type {name} {pubid} {system}")


def read_objects(path: Path) -> Objects | None:
    """The objects that an annotation file describes; None for a file that is not well-formed.

    Corners count from 1 and include the last pixel. A file with a document type is refused.

    Raises:
        FileNotFoundError: there is no such file.
    """
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        objects = ElementTree.parse(path, parser).getroot().findall("object")
        corners = [
            [float(o.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax")] for o in objects
        ]
        names = [o.findtext("name", "") for o in objects]
        difficult = [o.findtext("difficult", "0").strip() == "1" for o in objects]
    except (ElementTree.ParseError, ValueError):
        return None
    return Objects(names, from_inclusive(corners), difficult)
