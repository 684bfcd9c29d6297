"""Selective search in parallel processes, by OpenCV (fast about 1,000 boxes a picture, quality about 3,000)."""

import ctypes
import hashlib
import os
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from wsol_core.core.boxes import Boxes, from_xywh
from wsol_core.core.errors import InputError
from wsol_core.core.files import SCORED_BOXES, read_table, write_table
from wsol_core.core.parallel import in_processes
from wsol_core.core.params import Block
from wsol_core.core.scratch import discard
from wsol_core.data.images import decode
from wsol_core.data.index import ImageIndex
from wsol_core.proposals.selection import distinct, join, proposal_rows

IMAGES_PER_PART = 4


class SearchParams(Block):
    """How pictures are searched."""

    mode: Literal["fast", "quality"] = "fast"
    """fast (about 1,000 boxes a picture) or quality (about 3,000)"""
    longest_side: int = Field(default=0, ge=0)
    """pixels that a picture's longer side is reduced to for the search; 0 for its original size"""


def search_proposals(index: ImageIndex, params: SearchParams, scratch: Path) -> pd.DataFrame:
    """Selective search in every image of the index, in `WSOL_WORKERS` processes (default: one per core).

    The result does not depend on the number of processes. Finished parts are kept in `scratch`, where a later call
    with the same arguments finds them.

    Args:
        index: the images.
        params: mode and reduction.
        scratch: a folder that belongs to these arguments alone.

    Returns:
        All boxes by `image_id` and rank, see `proposal_rows`.

    Raises:
        InputError: an image is unreadable, or its size is not the index's; it is named.
    """
    table, root = index.table, index.root
    parts = {
        scratch / f"{start:08d}.parquet": table.iloc[start : start + IMAGES_PER_PART]
        for start in range(0, len(table), IMAGES_PER_PART)
    }
    missing = {path: images for path, images in parts.items() if not _is_done(path, images)}
    done = len(table) - sum(map(len, missing.values()))
    work = ((images, root, params, path) for path, images in missing.items())
    with tqdm(total=len(table), initial=done, desc="selective search", unit="image", disable=None) as bar:
        for images, _ in zip(missing.values(), in_processes(_search_part, work), strict=True):
            bar.update(len(images))
    return join([read_table(path)[0] for path in parts])


def selective_search(image: npt.NDArray[np.uint8], params: SearchParams, seed: int) -> Boxes:
    """Boxes of one picture in the order of selective search's rank, duplicates among them.

    OpenCV draws the ranks from C's `rand` (`cv2.setRNGSeed` does not reach it), so that is what `seed` sets; the set of
    boxes needs no seed. Pictures are reduced, never enlarged.

    Args:
        image: `(H, W, 3)` uint8, RGB.
        params: `mode` and `longest_side`.
        seed: 32 bits.

    Returns:
        `(N, 4)` float32, whole pixels of the given picture.
    """
    height, width = image.shape[:2]
    scale = min(1.0, (params.longest_side or max(height, width)) / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(cv2.cvtColor(cv2.resize(image, small, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR))
    if params.mode == "fast":
        search.switchToSelectiveSearchFast()
    else:
        search.switchToSelectiveSearchQuality()
    ctypes.CDLL(None).srand(ctypes.c_uint(seed))
    factors = np.tile(np.array([width / small[0], height / small[1]], dtype=np.float32), 2)
    boxes: Boxes = np.rint(from_xywh(search.process()) * factors)
    return boxes


def _is_done(path: Path, images: pd.DataFrame) -> bool:
    """Whether the boxes of some images are there; a damaged part is discarded."""
    if not os.path.lexists(path):
        return False
    try:
        table, _ = read_table(path, SCORED_BOXES)
        expected = proposal_rows("", np.empty((0, 4), dtype=np.float32))
        if list(table.columns) != list(expected.columns) or not table["image_id"].isin(images["image_id"]).all():
            raise InputError("not the boxes of these images")
    except InputError as error:
        discard(path, error)
        return False
    return True


def _search_part(images: pd.DataFrame, root: Path, params: SearchParams, output: Path) -> None:
    tables = []
    columns = (images["image_id"], images["path"], images["width"], images["height"])
    for image_id, path, width, height in zip(*columns, strict=True):
        picture = decode(root / path)
        if picture.shape[:2] != (height, width):
            raise InputError(f"{root / path}: its size is no longer {width}x{height}; run `prepare` again")
        seed = int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=4).digest(), "big")
        boxes = selective_search(picture, params, seed)
        tables.append(proposal_rows(image_id, distinct(boxes, width, height)))
    write_table(output, join(tables))
