"""True label masks: what class each pixel of an image shows, from the instance masks of `prepare` or from boxes."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS, Boxes
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import IGNORE
from wsol_core.data.index import ImageIndex

BACKGROUND = 0

LabelMask = npt.NDArray[np.uint8]
"""`(height, width)` of the original image: 0 background, 1 + label on an object, 255 where a pixel does not count."""


class ClassMasks:
    """The label masks of a data set, made image by image.

    Not counted are void pixels, and what is background inside the box of an object that has no mask of its own: half a
    truth would count correct pixels as wrong. (VOC counts these few pixels as background.)

    Args:
        folder: `<image_id>.png` for each image that has instances, see `prepare`.
        index: the images.
        annotations: all of their objects.

    Attributes:
        images: the rows of the index whose image has a mask.

    Raises:
        InputError: there are more classes than a mask can name.
    """

    def __init__(self, folder: Path, index: ImageIndex, annotations: pd.DataFrame) -> None:
        if len(index.classes) >= IGNORE:
            raise InputError(f"{index.name}: {len(index.classes)} classes; label masks of 8 bits name 254 at the most")
        masked = set(annotations.loc[annotations["instance"] > 0, "image_id"])
        has_mask = [name in masked and (folder / f"{name}.png").is_file() for name in index.table["image_id"]]
        self.images = index.table[has_mask].reset_index(drop=True)
        self._folder = folder
        sizes = zip(self.images["width"], self.images["height"], strict=True)
        self._sizes = dict(zip(self.images["image_id"], sizes, strict=True))
        kept = annotations[annotations["image_id"].isin(self._sizes)]
        self._objects = {str(name): objects for name, objects in kept.groupby("image_id")}

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._sizes

    def read(self, image_id: str) -> LabelMask:
        """The label mask of one of `images`.

        Raises:
            InputError: the file is not a picture of the image's size.
        """
        path, (width, height) = self._folder / f"{image_id}.png", self._sizes[image_id]
        instances = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if instances is None or instances.shape != (height, width) or instances.dtype != np.uint8:
            raise InputError(f"{path}: not a mask of {width} x {height} pixels; run prepare again")
        objects = self._objects[image_id]
        values = np.full(256, IGNORE, dtype=np.uint8)
        values[0] = BACKGROUND
        values[objects["instance"]] = np.where(objects["instance"] > 0, objects["label"] + 1, BACKGROUND)
        mask: LabelMask = values[instances]
        unknown = boxes_mask(objects.loc[objects["instance"] == 0, list(BOX_COLUMNS)].to_numpy(), width, height)
        mask[(mask == BACKGROUND) & (unknown > 0)] = IGNORE
        return mask


def boxes_mask(boxes: Boxes, width: int, height: int) -> npt.NDArray[np.uint8]:
    """1 on the pixels `(height, width)` whose centre lies in one of the boxes `(N, 4)`, 0 elsewhere."""
    mask = np.zeros((height, width), dtype=np.uint8)
    for x0, y0, x1, y1 in np.ceil(np.maximum(boxes, 0) - 0.5).astype(int):
        mask[y0:y1, x0:x1] = 1
    return mask
