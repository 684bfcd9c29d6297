"""CUB-200-2011 as its authors publish it: five text files, `images/`, and if wanted `segmentations/`."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from wsol_core.core.boxes import from_xywh
from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_text
from wsol_core.data.index import TEST, TRAIN_WEAKSUP
from wsol_core.data.paths import below, has_file, image_id
from wsol_core.datasets.listing import DataParams, InstanceMask, Listing, annotated, listed

VOTE = 127
SPLIT_OF = {"1": TRAIN_WEAKSUP, "0": TEST}
Lines = list[tuple[str, str]]
"""Number and the rest of each line; numbers stay text, and may come twice."""


def read(root: Path, params: DataParams) -> Listing:
    """Read `images.txt`, `classes.txt`, `image_class_labels.txt`, `train_test_split.txt` and `bounding_boxes.txt`.

    Training images become `train-weaksup`. The image id is the path below `images/` without suffix. A segmentation is
    the majority of its annotators (above 127 of 255).

    Raises:
        InputError: one of the files is missing or malformed, or lacks an image of `images.txt`.
    """
    if not (root / "images.txt").exists():
        raise InputError(f"{params.name}: no images.txt in the data set's root; the root is the folder CUB_200_2011")
    names = _lines(root, "images.txt")
    if not names:
        raise InputError("images.txt: no image in it")
    classes = dict(_lines(root, "classes.txt"))
    position = {number: place for place, number in enumerate(classes)}
    label = _of(names, root, "image_class_labels.txt")
    train = _of(names, root, "train_test_split.txt")
    sizes = _of(names, root, "bounding_boxes.txt")
    boxes = from_xywh([_numbers(sizes[number], number) for number, _ in names])
    images, objects = [], []
    for (number, path), box in zip(names, boxes, strict=True):
        own, split = position.get(_plain(label[number]), -1), SPLIT_OF.get(train[number])
        if split is None:
            raise InputError(f"train_test_split.txt: image {number}: {train[number]!r} is neither 0 nor 1")
        images.append((image_id(path), below("images", path), split, [own]))
        objects.append((image_id(path), own, *box, False, 1))
    masks = partial(_mask, root)
    return Listing(tuple(classes.values()), listed(images), annotated(objects), ("images",), masks)


def _mask(root: Path, name: str) -> InstanceMask | None:
    path = f"segmentations/{name}.png"
    if not has_file(root, path):
        return None
    with Image.open(root / path, formats=["PNG"]) as votes:
        return (np.asarray(votes.convert("L")) > VOTE).astype(np.uint8)


def _lines(root: Path, name: str) -> Lines:
    """Lines `number value ...` of one official file; a value may hold spaces."""
    if not (root / name).exists():
        raise InputError(f"{name}: missing in the data set's root; it is part of CUB-200-2011")
    lines = []
    for place, line in enumerate(read_text(root / name, name).splitlines(), start=1):
        words = line.split(maxsplit=1)
        if not words:
            continue
        if len(words) < 2 or not words[0].isdecimal():
            raise InputError(f"{name}, line {place}: not as in CUB-200-2011, a number and what belongs to it")
        lines.append((_plain(words[0]), words[1].strip()))
    return lines


def _plain(number: str) -> str:
    """Without leading zeros."""
    return number.lstrip("0") or "0"


def _of(names: Lines, root: Path, name: str) -> dict[str, str]:
    """What a file says of each image of `images.txt`; the first line of a number counts."""
    said = dict(reversed(_lines(root, name)))
    for number, _ in names:
        if number not in said:
            raise InputError(f"{name}: no line for image {number} of images.txt")
    return said


def _numbers(text: str, number: str) -> list[float]:
    try:
        x, y, width, height = map(float, text.split())
    except ValueError as error:
        raise InputError(f"bounding_boxes.txt: image {number}: not as in CUB-200-2011, four numbers") from error
    return [x, y, width, height]
