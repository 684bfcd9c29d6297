"""VOC's segmentation masks: PNGs of objects and PNGs of classes, read as one mask of instances.

Pixels are numbers with or without a palette: in `SegmentationObject` the place of the object in the image's XML file,
counted from 1; in `SegmentationClass` the class, 1 to 20 in the order of the names. 0 is background, 255 is void. What
the SBD data set adds to VOC 2012 (the images of `trainaug`) has masks of classes alone, in `SegmentationClassAug`.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from wsol_core.data.paths import has_file
from wsol_core.datasets.listing import VOID, InstanceMask
from wsol_core.datasets.readers.xml_objects import Objects

NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CLASS_FOLDERS = ("SegmentationClass", "SegmentationClassAug")


def read_instances(root: Path, name: str, objects: Objects) -> InstanceMask | None:
    """The instances of an image, each numbered as its object in the XML file; None where it has no mask.

    Where there is a mask of classes, and all objects bear names of VOC, it decides: each of its pixels belongs to the
    object that the mask of objects says if that one is of the class, else to the smallest of the class whose box holds
    the pixel, else to the largest of the class. Pixels of a class without an object, or of an object that the XML file
    lacks, are void.

    Raises:
        ValueError: a mask is malformed, the two differ in size, or one holds a number that is no class.
    """
    numbers = _read(root, f"SegmentationObject/{name}.png")
    found = (_read(root, f"{folder}/{name}.png") for folder in CLASS_FOLDERS)
    classes = next((mask for mask in found if mask is not None), None)
    if classes is not None and set(objects.names) <= set(NAMES):
        return _assigned(classes, np.zeros_like(classes) if numbers is None else numbers, objects)
    if numbers is None:
        return None
    return np.where(numbers > len(objects.names), VOID, numbers).astype(np.uint8)


def _read(root: Path, path: str) -> InstanceMask | None:
    if not has_file(root, path):
        return None
    with Image.open(root / path, formats=["PNG"]) as picture:
        if picture.mode not in ("P", "L"):
            raise ValueError(f"{path}: a PNG of mode {picture.mode}")
        return np.array(picture, dtype=np.uint8)


def _assigned(classes: InstanceMask, numbers: InstanceMask, objects: Objects) -> InstanceMask:
    if classes.shape != numbers.shape:
        raise ValueError("the masks of classes and of objects differ in size")
    corners = np.rint(np.nan_to_num(objects.boxes, posinf=0, neginf=0)).astype(int)
    areas = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    largest_first = np.argsort(-areas, kind="stable")
    instances = np.where(classes == VOID, VOID, 0).astype(np.uint8)
    for value in np.setdiff1d(classes, [0, VOID]):
        if value > len(NAMES):
            raise ValueError(f"{value} is no class of VOC")
        own = [place for place in largest_first if objects.names[place] == NAMES[value - 1]]
        owners = np.full(classes.shape, own[0] + 1 if own else VOID, dtype=np.uint8)
        for place in own:
            x0, y0, x1, y1 = np.maximum(corners[place], 0)
            owners[y0:y1, x0:x1] = place + 1
        known = np.isin(numbers, [place + 1 for place in own])
        instances[classes == value] = np.where(known, numbers, owners)[classes == value]
    return instances
