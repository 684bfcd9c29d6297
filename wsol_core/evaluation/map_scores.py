"""What of a split's score maps is measured against boxes and masks at once: MaxBoxAcc, PxAP, pixel IoU."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.localization.localize import Targets
from wsol_core.metrics.max_box import TAUS, MaxBoxAcc, MaxBoxFigures
from wsol_core.metrics.pixels import PixelFigures, PixelScores

FloatArray = npt.NDArray[np.floating]
PIXEL_FIGURES = ("px_ap", "pixel_iou", "pixel_iou_fullsup", "pixel_iou_oracle")
NO_MAP = np.zeros((1, 1), dtype=np.float32)


class TruthMasks:
    """The masks of a data set's objects, read image by image.

    Attributes:
        folder: `<image_id>.png` for each image that has masks, see `prepare`.
        instances: by image, the values in its mask that are objects of the image's own label. An image is among them
            only if each of these objects has a mask: half a truth would count correct pixels as wrong.
    """

    def __init__(self, folder: Path, annotations: pd.DataFrame, targets: Targets) -> None:
        self.folder = folder
        objects = targets.images[["image_id", "label"]].merge(annotations, on="image_id", suffixes=("", "_of_object"))
        own = objects["label_of_object"].isin([CLASS_AGNOSTIC]) | (objects["label_of_object"] == objects["label"])
        groups = objects[own].groupby("image_id")["instance"]
        found = groups.agg(list)[groups.min() > 0]
        self.instances: dict[str, list[int]] = {name: found[name] for name in found.index if self._path(name).is_file()}

    def _path(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.png"

    def read(self, image_id: str, width: int, height: int) -> npt.NDArray[np.uint8] | None:
        """The mask `(height, width)` of an image's own objects together, 1 on them and 0 elsewhere; None without one.

        Raises:
            InputError: the file is not a picture of the image's size.
        """
        if image_id not in self.instances:
            return None
        mask = cv2.imread(str(self._path(image_id)), cv2.IMREAD_UNCHANGED)
        if mask is None or mask.shape != (height, width):
            raise InputError(f"{self._path(image_id)}: not a mask of {width} x {height} pixels; run prepare again")
        return np.isin(mask, self.instances[image_id]).astype(np.uint8)


@dataclass(frozen=True)
class MapFigures:
    """What the maps of one split come to.

    Attributes:
        boxes: MaxBoxAcc.
        pixels: PxAP and pixel IoU; None where no image has a mask.
        masks: number of images with a mask.
    """

    boxes: MaxBoxFigures
    pixels: PixelFigures | None
    masks: int


class MapScores:
    """Holds the maps of a split against its boxes and masks, one by one and from any thread: a `Visitor` of `sweep`.

    An image without a map gets a map of zeros, which gives no box and ranks its pixels last: it counts as wrong.
    """

    def __init__(self, targets: Targets, masks: TruthMasks) -> None:
        self._images = list(targets.images[["image_id", "width", "height"]].itertuples(index=False, name=None))
        self._truth = targets.boxes_by_image()
        self._masks = masks
        self._boxes = MaxBoxAcc()
        self._pixels = PixelScores()
        self._lock = Lock()

    def __call__(self, position: int, score_map: FloatArray | None) -> None:
        """Add the map of the image at `position` among the targets."""
        image_id, width, height = self._images[position]
        found = NO_MAP if score_map is None else score_map
        mask = self._masks.read(image_id, width, height)
        correct = self._boxes.measure(found, self._truth[position], width, height, image_id)
        with self._lock:
            self._boxes.count(correct)
            if mask is not None:
                self._pixels.add(found, mask, image_id)

    def figures(self) -> MapFigures:
        """Of all maps so far."""
        masks = len(self._masks.instances)
        return MapFigures(self._boxes.figures(), self._pixels.figures() if masks else None, masks)


def map_figures(splits: Mapping[str, MapFigures], threshold: float, fullsup: str) -> dict[str, dict[str, Any]]:
    """The figures of the maps of each split: MaxBoxAcc, its version 2, PxAP, pixel IoU, number of images with a mask.

    MaxBoxAcc by its definition takes the best tau on the evaluated split, so it is an oracle; so is `..._centre`, that
    of the best box around the centre. Beside them stand the honest ones: `..._fullsup` at the best tau of the split of
    that name, `..._calibrated` at the tau nearest to `threshold` (though tau is a share of each map's maximum).
    `pixel_iou` stands at `threshold` as `gt_known` does, `..._fullsup` and `..._oracle` at the best one of that split
    and of its own. PxAP has no threshold. A figure is None where the split has no mask, or where there is no split
    `fullsup` or no mask in it.
    """
    best = splits.get(fullsup)
    return {
        name: _box_figures(found.boxes, threshold, best) | _pixel_figures(found, threshold, best)
        for name, found in splits.items()
    }


def _box_figures(boxes: MaxBoxFigures, threshold: float, best: MapFigures | None) -> dict[str, float | None]:
    calibrated = dict.fromkeys(boxes.taus_v2, threshold)
    return {
        "max_box_acc": boxes.max_box_acc,
        "max_box_acc_centre": boxes.centre,
        "max_box_acc_fullsup": None if best is None else _at(boxes, "v1@50", best.boxes.tau),
        "max_box_acc_calibrated": _at(boxes, "v1@50", threshold),
        "max_box_acc_v2": boxes.max_box_acc_v2,
        "max_box_acc_v2_centre": boxes.centre_v2,
        "max_box_acc_v2_fullsup": None if best is None else _mean_at(boxes, best.boxes.taus_v2),
        "max_box_acc_v2_calibrated": _mean_at(boxes, calibrated),
    }


def _mean_at(boxes: MaxBoxFigures, taus: Mapping[float, float]) -> float:
    """MaxBoxAccV2 with a given tau for each IoU."""
    return float(np.mean([_at(boxes, f"v2@{round(100 * iou)}", tau) for iou, tau in taus.items()]))


def _at(boxes: MaxBoxFigures, curve: str, tau: float) -> float:
    return float(boxes.curves[curve][np.abs(TAUS - tau).argmin()])


def _pixel_figures(found: MapFigures, threshold: float, best: MapFigures | None) -> dict[str, float | int | None]:
    pixels = found.pixels
    chosen = None if best is None else best.pixels
    if pixels is None:
        return dict.fromkeys(PIXEL_FIGURES) | {"masks": 0}
    return {
        "px_ap": pixels.px_ap,
        "pixel_iou": pixels.pixel_iou_at(threshold),
        "pixel_iou_fullsup": None if chosen is None else pixels.pixel_iou_at(chosen.pixel_iou_threshold),
        "pixel_iou_oracle": pixels.pixel_iou,
        "masks": found.masks,
    }
