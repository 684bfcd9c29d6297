"""Label masks: from a network's class probabilities to a segmentation at the original size (SEC; Two-Phase 4.4).

Probabilities are resized to the image, a dense CRF draws them to its edges, and each pixel gets the likeliest class.
A folder of PNG files, the size of the images, 0 background and 1 + label on a class, as VOC's, that any tool can read.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from pydantic import Field
from tqdm import tqdm

from wsol_core.core.crf_params import FLOOR, CRFParams
from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path, atomic_path_of_many, remove_leftovers
from wsol_core.core.map_store import CLASS_AGNOSTIC, IGNORE, MapStore
from wsol_core.core.parallel import in_processes
from wsol_core.core.params import Block
from wsol_core.core.regions import upsample
from wsol_core.core.scratch import discard
from wsol_core.data.images import Picture, decode
from wsol_core.data.index import ImageIndex
from wsol_core.refinement.crf import library, mean_field
from wsol_core.refinement.refine import reduce

FloatArray = npt.NDArray[np.floating]
LabelMask = npt.NDArray[np.uint8]
Split = Literal["train-weaksup", "train-fullsup", "test"]


class EdgeParams(CRFParams):
    """The dense CRF, and how large images are for it."""

    longest_side: int = Field(default=500, ge=1)
    """pixels that an image's longer side is reduced to; smaller images, as VOC's, stay as they are"""


class SegmentParams(Block):
    """Which images are segmented, and how masks meet the edges."""

    network: str
    """network of `networks` whose maps become label masks"""
    splits: tuple[Split, ...] = Field(default=("test",), min_length=1)
    """whose images"""
    crf: EdgeParams | None = None
    """the dense CRF; null for none"""


Job = tuple[Path, npt.NDArray[np.float32], int, int, EdgeParams | None]


def segment(path: Path, maps: FloatArray, width: int, height: int, crf: EdgeParams | None) -> LabelMask:
    """The likeliest class of every pixel `(height, width)`: 0 background, k for that of map k.

    Args:
        path: of the image, which is read for the CRF alone.
        maps: `(1 + L, h, w)` in [0, 1]: of any foreground, then of each class; 1 minus the first is the background's.
        width: of the mask.
        height: of the mask.
        crf: the CRF, or None.
    """
    probabilities = np.concatenate([1 - maps[:1], maps[1:]])
    if crf is not None:
        probabilities = crf_probabilities(probabilities, reduce(decode(path), crf.longest_side), crf)
    large = np.stack([upsample(each, height, width) for each in probabilities])
    return np.asarray(large.argmax(0), dtype=np.uint8)


def crf_probabilities(probabilities: FloatArray, image: Picture, crf: EdgeParams) -> npt.NDArray[np.float32]:
    """What the CRF on an image `(H, W, 3)` makes of probabilities `(C, h, w)`: `(C, H, W)`."""
    large = np.stack([upsample(each, *image.shape[:2]) for each in probabilities])
    return mean_field(-np.log(np.maximum(large, FLOOR)), image, crf)


def write_segments(store: MapStore, index: ImageIndex, params: SegmentParams, scratch: Path, folder: Path) -> None:
    """Write a mask `<image_id>.png` of each image of the splits into `folder`, which appears when all are done.

    Args:
        store: of each image a map under -1, foreground, and one under the label of every class.
        index: the images.
        params: how.
        scratch: keeps finished masks, for a killed run to go on with.
        folder: the output.

    Raises:
        InputError: an image has not all of its maps, or is unreadable; or there are more classes than a byte can tell.
    """
    if len(index.classes) >= IGNORE:
        raise InputError(f"data set {index.name!r} has {len(index.classes)} classes; masks can tell {IGNORE - 1} apart")
    rows = index.split(*params.splits)
    if params.crf is not None:
        library()
    masks = scratch / "masks"
    masks.mkdir(exist_ok=True)
    sizes = zip(rows["image_id"], rows["width"], rows["height"], strict=True)
    missing = rows[[not _is_done(_path(masks, image_id), width, height) for image_id, width, height in sizes]]
    todo = [_path(masks, image_id) for image_id in missing["image_id"]]
    names = {path.name for path in todo}
    for parent in {path.parent for path in todo}:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent, names)
    jobs = _jobs(store, index, missing, params.crf)
    found = tqdm(in_processes(segment, jobs), "segments", len(missing), unit="image", disable=None)
    for path, mask in zip(todo, found, strict=True):
        with atomic_path_of_many(path) as temporary:
            Image.fromarray(mask).save(temporary, format="PNG")
    with atomic_path(folder) as temporary:
        shutil.copytree(masks, temporary, ignore=shutil.ignore_patterns(".*.tmp"))


def _is_done(path: Path, width: int, height: int) -> bool:
    """Whether a finished mask is there; a damaged one is discarded."""
    if not os.path.lexists(path):
        return False
    try:
        with Image.open(path, formats=["PNG"]) as mask:
            mask.load()
            if mask.mode != "L" or mask.size != (width, height):
                raise ValueError("of another image")
    except (OSError, SyntaxError, ValueError) as error:
        discard(path, f"not a readable mask ({error})")
        return False
    return True


def _path(folder: Path, image_id: str) -> Path:
    return folder / f"{image_id}.png"


def _jobs(store: MapStore, index: ImageIndex, rows: pd.DataFrame, crf: EdgeParams | None) -> Iterator[Job]:
    labels, root = list(range(CLASS_AGNOSTIC, len(index.classes))), index.root
    for image_id, path, width, height in zip(
        rows["image_id"], rows["path"], rows["width"], rows["height"], strict=True
    ):
        start = int(np.searchsorted(store.image_ids, image_id))
        own = slice(start, start + len(labels))
        if set(store.image_ids[own]) != {image_id} or store.labels[own].tolist() != labels:
            raise InputError(f"{store.path}: image {image_id!r} has not a map of each class; make the maps again")
        yield root / path, store[own], width, height, crf
