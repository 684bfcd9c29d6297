"""Somebody else's score maps as a method of the pipeline."""

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, MapWriter
from wsol_core.core.params import Block
from wsol_core.data.index import ImageIndex
from wsol_core.external.names import ImageNames
from wsol_core.external.score_maps import ScoreMap, ScoreMaps, refuse_transposed


class ImportParams(Block):
    """Where a method's maps are, and for which data set."""

    path: str
    """A folder of `.npy` and PNG maps, or an HDF5 file, inside the project."""
    set: Literal["localization", "detection"]
    """The data set, all of whose images have a map there."""
    resolution: int = Field(default=224, ge=1, le=2048)
    """Side in pixels of the square maps that are kept."""

    @field_validator("path")
    @classmethod
    def _inside_project(cls, path: str) -> str:
        if not path or path.startswith("/") or ".." in path.split("/"):
            raise ValueError("not a path inside the project; copy or link the maps into it")
        return path


def import_maps(maps: ScoreMaps, index: ImageIndex, writer: MapWriter, resolution: int) -> None:
    """Write the maps of all images of `index`, squashed to `resolution x resolution`, in the index's order.

    A smaller map is upsampled bilinearly, a larger one averaged over the area. Maps of images outside the index are
    passed over. Labels of an HDF5 file are positions in the index's classes, -1 class-agnostic.

    Raises:
        InputError: an image has no map or two, a label is no class, or a map is bad (see `ScoreMaps.read`).
    """
    found = _names_by_image(maps, index)
    rows = index.table[["image_id", "width", "height"]].itertuples(index=False, name=None)
    for image_id, width, height in tqdm(rows, "import", len(index.table), unit="image", disable=None):
        name = found[image_id]
        for label in sorted(maps.labels(name)):
            if not CLASS_AGNOSTIC <= label < len(index.classes):
                raise InputError(f"{maps.place}: image {name!r} has a map for {label}, which is no class number")
            score_map = maps.read(name, label)
            refuse_transposed(score_map, width, height, f"{maps.place}: image {name!r}")
            writer.append([image_id], [label], squashed(score_map, resolution)[None])


def squashed(score_map: ScoreMap, side: int) -> npt.NDArray[np.float32]:
    """A map `(h, w)` as `(side, side)`, in [0, 1]: bilinear, or averaged over the area where both sides shrink."""
    shrinks = min(score_map.shape) >= side
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.clip(cv2.resize(score_map, (side, side), interpolation=interpolation), 0, 1)


def _names_by_image(maps: ScoreMaps, index: ImageIndex) -> dict[str, str]:
    names, found = ImageNames(index.table["image_id"]), dict[str, str]()
    for name in maps.names:
        image_id = names.find(name)
        if image_id in found:
            raise InputError(f"{maps.place}: {found[image_id]!r} and {name!r} are both maps of image {image_id!r}")
        if image_id is not None:
            found[image_id] = name
    missing = [image_id for image_id in index.table["image_id"] if image_id not in found]
    if missing:
        raise InputError(f"{maps.place}: no map for {len(missing)} images of the data set, {missing[0]!r} for one")
    return found
