"""Every map of a store refined by dense CRF: a refined map is a method's map like any other.

Two labels, background and foreground; the unary term is minus the logarithm of each label's probability.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field
from tqdm import tqdm

from wsol_core.core.crf_params import FLOOR, CRFParams
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.core.parallel import in_processes
from wsol_core.core.regions import upsample
from wsol_core.data.images import decode
from wsol_core.data.index import ImageIndex
from wsol_core.refinement.crf import library, mean_field

P = TypeVar("P")
R = TypeVar("R")


class RefineParams(CRFParams):
    """The dense CRF, what goes into it and what of its maps is kept."""

    longest_side: int = Field(default=321, ge=1)
    """pixels that an image's longer side is reduced to; smaller images stay as they are"""
    undecided: float = Field(default=0.5, gt=0, lt=1)
    """score that stands for neither label; for maps whose boxes are cut far from .5"""
    resolution: int = Field(default=112, ge=1)
    """side of the refined maps"""


def refine_maps(store: MapStore, index: ImageIndex, params: RefineParams, path: Path) -> None:
    """Write the refined maps of a store to the store at `path`: the same rows, `resolution x resolution`, squashed.

    Raises:
        InputError: the store has a map of an image that is not in the index; an image is unreadable.
    """
    library()
    found = tqdm(in_pictures(refine_file, store, index, params), "refine maps", len(store), unit="map", disable=None)
    with create(path, Kind.SCORE, params.resolution, params.resolution) as writer:
        for image_id, label, refined in zip(store.image_ids, store.labels.tolist(), found, strict=True):
            writer.append([image_id], [label], refined[None])


def in_pictures(
    refine_one: Callable[[Path, npt.NDArray[np.float32], str, P], R], store: MapStore, index: ImageIndex, params: P
) -> Iterator[R]:
    """What a function says of each map of a store and its image file, in order, over all cores.

    Raises:
        InputError: the store has a map of an image that is not in the index; an image is unreadable.
    """
    paths = dict(zip(index.table["image_id"], index.table["path"], strict=True))
    unknown = [image_id for image_id in store.image_ids if image_id not in paths]
    if unknown:
        raise InputError(f"{store.path}: image {unknown[0]!r} is not in the index; make the maps again")
    root = index.root
    jobs = ((root / paths[image_id], store[row], image_id, params) for row, image_id in enumerate(store.image_ids))
    yield from in_processes(refine_one, jobs)


def refine_file(
    path: Path, score_map: npt.NDArray[np.float32], image_id: str, params: RefineParams
) -> npt.NDArray[np.float32]:
    """The refined map `(h, w)` of an image file, squashed to `(resolution, resolution)`, by areas where it shrinks."""
    del image_id  # nothing is drawn at random
    refined = refine(decode(path), score_map, params)
    shrinks = params.resolution < min(refined.shape)
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    squashed = cv2.resize(refined, (params.resolution, params.resolution), interpolation=how)
    return np.clip(np.asarray(squashed, dtype=np.float32), 0, 1)


def refine(
    image: npt.NDArray[np.uint8], score_map: npt.NDArray[np.floating], params: RefineParams
) -> npt.NDArray[np.float32]:
    """The probability of foreground after mean-field inference, for the whole image.

    Args:
        image: `(H, W, 3)` uint8, RGB.
        score_map: `(h, w)` in [0, 1], the whole image, squashed; read as the probability of foreground, with
            `undecided` as even odds.
        params: see there.

    Returns:
        `(H', W')` float32 in [0, 1], the size of the image with its longer side reduced to `longest_side`.
    """
    small = reduce(image, params.longest_side)
    unaries = unary_energy(upsample(score_map, *small.shape[:2]), params.undecided)
    return np.asarray(np.clip(mean_field(unaries, small, params)[1], 0, 1))


def unary_energy(scores: npt.NDArray[np.floating], undecided: float = 0.5) -> npt.NDArray[np.float32]:
    """Minus the logarithm `(2, h, w)` of the probabilities of background and foreground, at least `FLOOR` each.

    The odds of foreground are those of the scores `(h, w)` over those of the score `undecided`.
    """
    foreground = scores.astype(np.float64) * (1 - undecided)
    background = (1 - scores.astype(np.float64)) * undecided
    probability = np.clip(foreground / (foreground + background), FLOOR, 1 - FLOOR)
    return -np.log(np.stack([1 - probability, probability])).astype(np.float32)


def reduce(image: npt.NDArray[np.uint8], longest_side: int) -> npt.NDArray[np.uint8]:
    """The image `(H, W, 3)` with its longer side reduced, by areas, to `longest_side`; never enlarged."""
    height, width = image.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.ascontiguousarray(cv2.resize(image, target, interpolation=cv2.INTER_AREA), dtype=np.uint8)
