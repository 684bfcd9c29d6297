"""Map voting: the maps of two methods as one, by weighted map voting (Two-Phase Learning, Eq. 5) or by their mean."""

from typing import Literal

import numpy as np

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import MapStore, MapWriter
from wsol_core.core.params import Block
from wsol_core.core.regions import upsample


class VotingParams(Block):
    """Whose maps are merged."""

    set: Literal["localization", "detection"]
    """the data set that they are maps of"""
    first: str
    """a method whose maps are weighted by their classes' probabilities; perhaps the merged ones of earlier phases"""
    second: str
    """another method, with maps of the same images and classes"""
    rule: Literal["maximum", "mean"] = "maximum"
    """what a pixel gets of two scores: the greater (Two-Phase, Eq. 5), or their mean"""


def vote(first: MapStore, second: MapStore, writer: MapWriter) -> None:
    """Write the greater of two weighted maps at each pixel; the maximum of three is that of two merged and the third.

    Raises:
        InputError: the stores differ in their images, classes or resolution.
    """
    _refuse_different(first, second)
    for rows in first.batches():
        merged = np.maximum(first[rows], second[rows])
        writer.append(first.image_ids[rows].tolist(), first.labels[rows].tolist(), merged)


def finest(first: MapStore, second: MapStore) -> tuple[int, int]:
    """The resolution `(h, w)` of the store with the larger maps."""
    return max(first.shape, second.shape, key=lambda shape: shape[0] * shape[1])


def average(first: MapStore, second: MapStore, writer: MapWriter) -> None:
    """Write the mean of two maps at each pixel, the coarser enlarged to the finer, bilinear.

    A map of the second store is that of the same image and label, else the image's class-agnostic one.

    Raises:
        InputError: the second store lacks an image.
    """
    height, width = finest(first, second)
    for rows in first.batches():
        ids, labels = first.image_ids[rows].tolist(), first.labels[rows].tolist()
        means = []
        for image_id, label, one in zip(ids, labels, first[rows], strict=True):
            other = second.find(image_id, label)
            if other is None:
                raise InputError(f"{second.path}: no map of image {image_id!r} for label {label}; make the maps again")
            means.append(np.mean([upsample(one, height, width), upsample(other, height, width)], axis=0))
        writer.append(ids, labels, np.stack(means))


def _refuse_different(first: MapStore, second: MapStore) -> None:
    if first.shape != second.shape:
        sides = " and ".join("x".join(map(str, each.shape)) for each in (first, second))
        raise InputError(f"{first.path} and {second.path}: maps of {sides}; give both phases the same output stride")
    if not (np.array_equal(first.image_ids, second.image_ids) and np.array_equal(first.labels, second.labels)):
        one, other = (set(zip(each.image_ids, each.labels.tolist(), strict=True)) for each in (first, second))
        image_id, label = min(one ^ other)
        raise InputError(
            f"{first.path} and {second.path}: only one has a map of image {image_id!r} and label {label}; give both "
            "phases the same `maps`"
        )
