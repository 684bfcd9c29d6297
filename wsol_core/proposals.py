"""Proposals: boxes that may hold an object, from selective search in parallel processes.

OpenCV's `cv2.ximgproc.segmentation` does the search (fast about 1,000 boxes a picture, quality about 3,000).
Ready-made proposals of others are read by `wsol_core.proposal_files`.
"""

import ctypes
import hashlib
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from wsol_core.boxes import BOX_COLUMNS, Boxes, clip, from_xywh
from wsol_core.data.images import decode
from wsol_core.data.index import ImageIndex
from wsol_core.errors import InputError
from wsol_core.files import read_table, write_table
from wsol_core.maps import CLASS_AGNOSTIC
from wsol_core.params import Block
from wsol_core.processes import set_up_worker

SELECTIVE_SEARCH = "selective_search"
IMAGES_PER_PART = 8


class ProposalParams(Block):
    """Where proposals come from and which are kept."""

    source: str
    """`selective_search`; or a `.mat` or `.npz` file of ready-made proposals, or a folder of such files."""
    coordinates: Literal["yxyx_inclusive", "xyxy_inclusive", "xyxy", "xywh"]
    """Of ready-made boxes. `*_inclusive` count from 1 and their last pixel belongs to the box (`yxyx_inclusive` is
    MATLAB's selective search and MCG); `xyxy` is half-open and `xywh` corner and sides, both counting from 0."""
    mode: Literal["fast", "quality"]
    """Of selective search."""
    longest_side: int = Field(ge=0)
    """Pixels that a picture's longer side is reduced to for the search; 0 for its original size."""
    min_side: float = Field(ge=0)
    """Pixels of the original picture; boxes with a shorter side are left out."""
    max_proposals: int = Field(ge=1)
    """Per picture; the first in rank are kept."""


def search_proposals(index: ImageIndex, params: ProposalParams, scratch: Path) -> pd.DataFrame:
    """Selective search in every image of the index, in `WSOL_WORKERS` processes (default: one per core).

    The result does not depend on the number of processes. Finished parts are kept in `scratch`, where a later call
    with the same arguments finds them.

    Args:
        index: the images.
        params: mode, reduction and selection.
        scratch: a folder that belongs to these arguments alone.

    Returns:
        A table of boxes by `image_id` and rank, as `proposal_rows` makes it.

    Raises:
        InputError: an image is unreadable, or its size is not the index's; it is named.
    """
    table, root = index.table, index.root
    parts = {
        scratch / f"{start:08d}.parquet": table.iloc[start : start + IMAGES_PER_PART]
        for start in range(0, len(table), IMAGES_PER_PART)
    }
    missing = {path: images for path, images in parts.items() if not path.exists()}
    done = len(table) - sum(map(len, missing.values()))
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(worker_count(), spawn, set_up_worker) as pool,
        tqdm(total=len(table), initial=done, desc="selective search", unit="image", disable=None) as bar,
    ):
        futures = {
            pool.submit(_search_part, images, root, params, path): len(images) for path, images in missing.items()
        }
        try:
            for future in as_completed(futures):
                future.result()
                bar.update(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return join([read_table(path)[0] for path in parts])


def worker_count() -> int:
    """Processes: `WSOL_WORKERS`, by default one per core."""
    return int(os.environ.get("WSOL_WORKERS") or os.cpu_count() or 1)


def selective_search(image: npt.NDArray[np.uint8], params: ProposalParams, seed: int) -> Boxes:
    """Boxes of one picture in the order of selective search's rank, before any selection.

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


def select(boxes: Boxes, width: int, height: int, params: ProposalParams) -> Boxes:
    """Boxes clipped to the picture, long enough, without duplicates (the first stays), at most `max_proposals`.

    If none is left, the whole picture is the one proposal.
    """
    boxes = clip(boxes, width, height)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    boxes = boxes[(sides > 0) & (sides >= params.min_side)]
    _, first = np.unique(boxes, axis=0, return_index=True)
    boxes = boxes[np.sort(first)[: params.max_proposals]]
    return boxes if len(boxes) else np.array([[0, 0, width, height]], dtype=np.float32)


def proposal_rows(image_id: str, boxes: Boxes) -> pd.DataFrame:
    """The table of one image's boxes, best first: `score` float32 = 1 - rank / n in (0, 1], `label` int32 = -1."""
    rows = pd.DataFrame(boxes, columns=list(BOX_COLUMNS))
    rows.insert(0, "image_id", image_id)
    rows["score"] = (1 - np.arange(len(boxes)) / len(boxes)).astype(np.float32)
    rows["label"] = np.int32(CLASS_AGNOSTIC)
    return rows


def join(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of `proposal_rows` one below the other.

    Raises:
        InputError: there is none, because the index has no image.
    """
    if not parts:
        raise InputError("the image index has no image, so there are no proposals; look at what `prepare` wrote")
    return pd.concat(parts, ignore_index=True)


def _search_part(images: pd.DataFrame, root: Path, params: ProposalParams, output: Path) -> None:
    tables = []
    columns = (images["image_id"], images["path"], images["width"], images["height"])
    for image_id, path, width, height in zip(*columns, strict=True):
        picture = decode(root / path)
        if picture.shape[:2] != (height, width):
            raise InputError(f"{root / path}: its size is no longer {width}x{height}; run `prepare` again")
        seed = int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=4).digest(), "big")
        boxes = selective_search(picture, params, seed)
        tables.append(proposal_rows(image_id, select(boxes, width, height, params)))
    write_table(output, join(tables))
