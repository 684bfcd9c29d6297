"""Localization cues, the seeds of segmentation: where maps are sure of a class or the background (SEC; Two-Phase 4.2).

A class that an image shows has cues where its map is above a share of its maximum; the background has them where a
saliency map is lowest. Where several claim a position, the smallest region has it. So an image's cues are one map of
class numbers, as a segmentation is, with 255 where there is no cue: a byte per cell, whatever the number of classes.

The paper takes the class-agnostic saliency of Simonyan et al. (`methods.two_phase`); any map store will do. How ties
between background and classes are broken is not published: here the background is a region like any other. Between
regions of one size the class with the lower number wins.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, IGNORE, Kind, MapStore, create
from wsol_core.core.params import Block
from wsol_core.core.regions import upsample
from wsol_core.data.index import TRAIN_FULLSUP, TRAIN_WEAKSUP, ImageIndex
from wsol_core.data.targets import ImageTargets

Cues = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.floating]
Regions = npt.NDArray[np.bool_]

BACKGROUND = 0
"""Number of the background in a map of cues; the class with label k has the number k + 1."""
CUE, PRESENT, ABSENT = 1, 0, -1
"""What a network is told of a class: where it has cues, elsewhere, and throughout if the image does not show it."""


class CueParams(Block):
    """Whose maps become cues, and which part of them."""

    maps: str
    """the method whose maps, one for each label of an image, give the cues of the classes"""
    saliency: str
    """the method whose class-agnostic maps give the cues of the background"""
    foreground: float = Field(default=0.2, ge=0, lt=1)
    """share of a map's maximum above which a position is a cue of its class"""
    background: float = Field(default=0.1, ge=0, lt=1)
    """share of the positions, the least salient, that are cues of the background"""


def class_regions(maps: FloatArray, share: float) -> Regions:
    """Where maps `(K, h, w)`, none negative, are above a share of their own maximum; nowhere in a map of zeros."""
    return np.asarray(maps > share * maps.max(axis=(1, 2), keepdims=True))


def background_region(saliency: FloatArray, share: float) -> Regions:
    """The positions of a map `(h, w)` with the lowest scores, at the most `share` of all; nowhere in a constant map."""
    lowest_left_out = np.sort(saliency, axis=None)[int(share * saliency.size)]
    return np.asarray(saliency < lowest_left_out)


def stack_regions(regions: Regions, numbers: npt.NDArray[np.integer]) -> Cues:
    """Regions `(K, h, w)` of classes `numbers (K,)` as one map `(h, w)`, the smallest on top, 255 beside them all."""
    cues = np.full(regions.shape[1:], IGNORE, dtype=np.uint8)
    for k in np.lexsort((-numbers, -regions.sum(axis=(1, 2)))):
        cues[regions[k]] = numbers[k]
    return cues


def find_cues(maps: FloatArray, labels: Sequence[int], saliency: FloatArray, params: CueParams) -> Cues:
    """The cues `(h, w)` of an image: 0 background, 1 + label on a class, 255 none.

    Args:
        maps: `(K, h, w)`, a map for each label; K may be 0.
        labels: K of them, counted from 0.
        saliency: of any size; resized to `(h, w)`.
        params: what is a cue.
    """
    background = background_region(upsample(saliency, *maps.shape[1:]), params.background)
    regions = np.concatenate([background[None], class_regions(maps, params.foreground)])
    return stack_regions(regions, np.array([BACKGROUND, *(label + 1 for label in labels)]))


def write_cues(maps: MapStore, saliency: MapStore, index: ImageIndex, params: CueParams, path: Path) -> None:
    """Write the cues of all training images (train-weaksup, train-fullsup) to the store at `path`, `Kind.LABELS`.

    Raises:
        InputError: an image lacks a map for one of its labels (a class-agnostic one stands for a single label), or the
            set has more classes than a byte can tell apart.
    """
    if len(index.classes) >= IGNORE:
        raise InputError(f"data set {index.name!r} has {len(index.classes)} classes; cues can tell {IGNORE - 1} apart")
    rows = index.split(TRAIN_WEAKSUP, TRAIN_FULLSUP)
    images = zip(rows["image_id"], rows["labels"], strict=True)
    class_rows, saliency_rows = _row_numbers(maps), _row_numbers(saliency)
    with create(path, Kind.LABELS, *maps.shape) as writer:
        for image_id, labels in tqdm(images, "seeds", len(rows), unit="image", disable=None):
            own = sorted(int(label) for label in labels)
            found = _read(maps, class_rows, image_id, own)
            salient = _read(saliency, saliency_rows, image_id, [CLASS_AGNOSTIC])[0]
            writer.append([image_id], [CLASS_AGNOSTIC], find_cues(found, own, salient, params)[None])


def _row_numbers(store: MapStore) -> dict[tuple[str, int], int]:
    return {key: row for row, key in enumerate(zip(store.image_ids, store.labels.tolist(), strict=True))}


def _read(
    store: MapStore, rows: Mapping[tuple[str, int], int], image_id: str, labels: Sequence[int]
) -> npt.NDArray[np.float32]:
    """The maps `(K, h, w)` of an image for its labels; a class-agnostic one stands for a single label."""
    keys = [(image_id, label) for label in labels]
    if len(keys) == 1 and keys[0] not in rows:
        keys = [(image_id, CLASS_AGNOSTIC)]
    for key in keys:
        if key not in rows:
            raise InputError(f"{store.path}: no map of image {image_id!r} for label {key[1]}; cues need one per label")
    # no key at all gives (0, h, w)
    return np.array([store[rows[key]] for key in keys], dtype=np.float32).reshape(-1, *store.shape)


class ImageCues:
    """A segmentation network's targets `(1 + L, h, w)` float32, background first: CUE, PRESENT or ABSENT.

    Args:
        cues: `(h, w)`, by position: 0 background, 1 + label on a class, 255 none.
        labels: of the images, by position.
        classes: L.
    """

    def __init__(self, cues: ImageTargets, labels: Sequence[Sequence[int]], classes: int) -> None:
        self._cues, self._labels, self._classes = cues, labels, classes

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, position: int) -> npt.NDArray[np.float32]:
        cues = np.asarray(self._cues[position])
        planes = np.full((1 + self._classes, *cues.shape), ABSENT, dtype=np.float32)
        for number in (BACKGROUND, *(label + 1 for label in self._labels[position])):
            planes[number] = np.where(cues == number, CUE, PRESENT)
        return planes
