"""VOC's XML files: a folder of them, or those of an image set."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_text
from wsol_core.data.index import TEST
from wsol_core.data.paths import is_inside
from wsol_core.datasets.listing import InstanceMask, Listing, annotated, listed
from wsol_core.datasets.readers.xml_objects import Objects, read_objects

Described = tuple[Listing, pd.DataFrame]


def find_folder(path: Path) -> Path | None:
    """The folder of `.xml` files at `path` or in its `Annotations/`; None without one."""
    folders = (path, path / "Annotations")
    return next((folder for folder in folders if next(folder.glob("*.xml"), None) is not None), None)


def read_folder(folder: Path) -> Described:
    """A listing of every `.xml` file, and the images' sizes (`image_id`, `width`, `height`).

    Raises:
        InputError: a file is damaged, or says no size.
    """
    return _read(folder, sorted(path.stem for path in folder.glob("*.xml")))


def read_set(path: Path) -> Described:
    """The same for the images that `ImageSets/Main/SET.txt` names; the XML files lie in `Annotations/`.

    Raises:
        InputError: a file is missing, damaged, or says no size.
    """
    names = (line.strip() for line in read_text(path).splitlines())
    return _read(path.parents[2] / "Annotations", sorted(filter(None, names)))


def _read(folder: Path, names: list[str]) -> Described:
    described = {name: _objects(folder, name) for name in names}
    classes = tuple(sorted({label for objects, _ in described.values() for label in objects.names}))
    position = {name: place for place, name in enumerate(classes)}
    images, rows = [], []
    for name, (objects, _) in described.items():
        images.append((name, f"{name}.jpg", TEST, sorted({position[label] for label in objects.names})))
        for place, (label, box, difficult) in enumerate(objects.rows(), start=1):
            rows.append((name, position[label], *box, difficult, place))
    sizes = pd.DataFrame([(name, *size) for name, (_, size) in described.items()], columns=list(SIZE_COLUMNS))
    masks = partial(_mask, folder.parent / "SegmentationObject")
    return Listing(classes, listed(images), annotated(rows), masks=masks), sizes


SIZE_COLUMNS = ("image_id", "width", "height")


def _objects(folder: Path, name: str) -> tuple[Objects, tuple[int, int]]:
    path = folder / f"{name}.xml"
    if not is_inside(folder, path.name) or path.name != f"{name}.xml":
        raise InputError(f"{path}: a path outside the folder")
    if not path.is_file():
        raise InputError(f"{path}: missing, so image {name!r} has no ground truth")
    objects = read_objects(path)
    if objects is None:
        raise InputError(f"{path}: not a readable VOC annotation")
    if objects.size is None:
        raise InputError(f"{path}: says no size of the image (size/width and size/height)")
    return objects, objects.size


def _mask(folder: Path, name: str) -> InstanceMask | None:
    path = folder / f"{name}.png"
    if not path.is_file():
        return None
    with Image.open(path, formats=["PNG"]) as picture:
        return np.array(picture, dtype=np.uint8)
