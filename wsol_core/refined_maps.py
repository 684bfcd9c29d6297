"""Every map of a store refined by dense CRF: a refined map is a method's map like any other."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field
from tqdm import tqdm

from wsol_core.crf import CRFParams, library, refine
from wsol_core.data.images import decode
from wsol_core.data.index import ImageIndex
from wsol_core.errors import InputError
from wsol_core.maps import Kind, MapStore, create
from wsol_core.processes import in_processes


class RefineParams(CRFParams):
    """The dense CRF, and what of its maps is kept."""

    resolution: int = Field(default=112, ge=1)
    """side of the refined maps"""


def refine_maps(store: MapStore, index: ImageIndex, params: RefineParams, path: Path) -> None:
    """Write the refined maps of a store to the store at `path`: the same rows, `resolution x resolution`, squashed.

    Raises:
        InputError: the optional extra is not installed; the store has a map of an image that is not in the index; an
            image is unreadable.
    """
    library()
    paths = dict(zip(index.table["image_id"], index.table["path"], strict=True))
    unknown = [image_id for image_id in store.image_ids if image_id not in paths]
    if unknown:
        raise InputError(f"{store.path}: image {unknown[0]!r} is not in the index; make the maps again")
    root = index.root
    jobs = ((root / paths[image_id], store[row], params) for row, image_id in enumerate(store.image_ids))
    found = tqdm(in_processes(refine_file, jobs), total=len(store), desc="refine maps", unit="map", disable=None)
    with create(path, Kind.SCORE, params.resolution, params.resolution) as writer:
        for image_id, label, refined in zip(store.image_ids, store.labels.tolist(), found, strict=True):
            writer.append([image_id], [label], refined[None])


def refine_file(path: Path, score_map: npt.NDArray[np.float32], params: RefineParams) -> npt.NDArray[np.float32]:
    """The refined map `(h, w)` of an image file, squashed to `(resolution, resolution)`, by areas where it shrinks."""
    refined = refine(decode(path), score_map, params)
    shrinks = params.resolution < min(refined.shape)
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    squashed = cv2.resize(refined, (params.resolution, params.resolution), interpolation=how)
    return np.clip(np.asarray(squashed, dtype=np.float32), 0, 1)
