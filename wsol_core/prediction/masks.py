"""Boxes of a score map to the pixels inside them: an instance mask at the image's own size."""

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.core.boxes import Boxes
from wsol_core.core.regions import Scale, find_components, rescale, upsample
from wsol_core.visualization.pictures import stretch

INSTANCES = 255


def instance_mask(
    score_map: npt.NDArray[np.floating],
    boxes: Boxes,
    width: int,
    height: int,
    threshold: float,
    resolution: int,
    scale: Scale = "value",
) -> npt.NDArray[np.uint8]:
    """A mask `(height, width)` uint8: k on the object of the k-th box, from 1, and 0 elsewhere, as those of `prepare`.

    Pixels of the enlarged map above the threshold that lie in a box's component, which is found on the grid of
    `resolution`, or in a cell beside it. So a mask may reach beyond its box by a cell. The whole image, the box
    of a map that is nowhere above the threshold, has no pixel; nor have boxes beyond the 255th.

    Args:
        score_map: `(h, w)` in [0, 1].
        boxes: `(N, 4)` of `regions.map_box` or `map_boxes`, at the same threshold.
        width: of the image, pixels.
        height: of the image, pixels.
        threshold: of the scale.
        resolution: side of the grid that the boxes were found on.
        scale: what is held against the threshold, see `regions.rescale`.
    """
    above = rescale(upsample(score_map, resolution, resolution), scale) > np.float32(threshold)
    numbers, components = find_components(above)
    instances = np.zeros(len(components) + 1, dtype=np.uint8)
    grid = np.round(boxes * np.array([resolution / width, resolution / height] * 2))
    for instance, box in enumerate(grid[:INSTANCES], start=1):
        instances[1 + _find(box, components, instances[1:] > 0)] = instance
    instances[0] = 0
    chosen = instances[numbers]
    chosen = np.where(chosen > 0, chosen, cv2.dilate(chosen, np.ones((3, 3), np.uint8)))
    fine = rescale(upsample(score_map, height, width), scale) > np.float32(threshold)
    return np.where(fine, stretch(chosen, height, width), 0).astype(np.uint8)


def _find(box: npt.NDArray[np.floating], components: npt.NDArray[np.int32], taken: npt.NDArray[np.bool_]) -> int:
    """The position of the largest component that has this box and is not taken; -1 without one."""
    left, top, width, height, areas = components.T
    same = (np.stack([left, top, left + width, top + height], axis=1) == box).all(axis=1) & ~taken
    return int(np.where(same, areas, 0).argmax()) if same.any() else -1
