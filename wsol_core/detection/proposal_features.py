"""Features of proposals, cut out of a picture's cached feature map, so that detectors learn on them in a minute.

A proposal's features are the mean of the map inside it, that mean less the mean of a ring around it (as in
ContextLocNet, Kantorov et al. 2016), the means of its cells, and the logarithms of its sides. Means are exact: a
cell counts by the part of it that a box covers.

The store: one HDF5 file, `features (R, D)` float16, the R proposals that have an area, image after image in the
index's order and in the order of their table; `image_id (N,)` and `count (N,)`. The same rows give the same bytes.
"""

import math
import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from wsol_core.core.boxes import Boxes
from wsol_core.core.errors import InputError
from wsol_core.core.hdf5 import dataset, new_file, opened, texts
from wsol_core.core.params import Block
from wsol_core.data.index import ImageIndex
from wsol_core.detection.box_tensors import solid
from wsol_core.engine.devices import launch
from wsol_core.engine.feature_store import FeatureStore

Features = npt.NDArray[np.float16]

SIZE_WEIGHT = 0.2
"""Of the logarithms of the sides, beside parts of length 1."""
ROUNDING = 1e-5
"""Share of a mean's length below which a difference from it is none: float32 leaves 2e-6 of a constant map."""
LEAST_SIDE = 1e-3
"""Share of the picture's side below which a proposal's side counts as this."""


class ProposalFeatureParams(Block):
    """Which feature map describes proposals, and how."""

    sees: str
    """features of the pictures, data/detection/features/NAME.h5"""
    level: int = -1
    """level of the features, counted from their end"""
    ring: float = Field(default=1.8, ge=1)
    """side of the surroundings that a proposal is held against, as a multiple of its own; 1 for none"""
    cells: int = Field(default=1, ge=1)
    """cells along a proposal's side whose means are features too; 1 for none"""

    @field_validator("sees")
    @classmethod
    def _is_a_store(cls, path: str) -> str:
        if not re.fullmatch(r"data/detection/features/[\w-][\w.-]*\.h5", path):
            raise ValueError("name data/detection/features/NAME.h5")
        return path

    def width(self, channels: int) -> int:
        """D, for a feature map of so many channels."""
        return channels * (1 + (self.ring > 1) + (self.cells**2 if self.cells > 1 else 0)) + 2


def box_means(maps: Tensor, boxes: Tensor) -> Tensor:
    """Means of a feature map over boxes, `(R, C)`, each cell counting by the part of it that a box covers.

    Args:
        maps: `(C, h, w)`.
        boxes: `(R, 4)` shares of the picture's sides; the mean over one without area is 0.
    """
    low, high = boxes[:, None, :2], boxes[:, None, 2:]  # (R, 1, 2)
    covered = []
    for axis, count in enumerate((maps.shape[2], maps.shape[1])):
        cell = torch.arange(count, device=maps.device)
        covered.append(torch.minimum(high[..., axis] * count, cell + 1) - torch.maximum(low[..., axis] * count, cell))
    columns, rows = (each.clamp(min=0) for each in covered)  # (R, w), (R, h)
    weights = (rows[:, :, None] * columns[:, None, :]).flatten(1)  # (R, h * w)
    sums: Tensor = weights @ maps.flatten(1).T
    return sums / weights.sum(1, keepdim=True).clamp(min=1e-6)


def describe(maps: Tensor, boxes: Tensor, params: ProposalFeatureParams) -> Tensor:
    """Features `(R, D)` of boxes, of length sqrt(D) each.

    Args:
        maps: of the picture, `(C, h, w)`.
        boxes: `(R, 4)` shares of the picture's sides, all with an area.
        params: ring and cells.
    """
    inside, parts = box_means(maps, boxes), []
    if params.ring > 1:
        parts.append(ring_difference(maps, boxes, inside, params.ring))
    if params.cells > 1:
        parts += [box_means(maps, cell) for cell in cells_of(boxes, params.cells)]
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=LEAST_SIDE).log()
    parts = [functional.normalize(part, dim=1) for part in (inside, *parts)]
    features = torch.cat([*parts, SIZE_WEIGHT * sides], dim=1)
    return functional.normalize(features, dim=1) * math.sqrt(features.shape[1])


def ring_difference(maps: Tensor, boxes: Tensor, inside: Tensor, ring: float) -> Tensor:
    """The direction `(R, C)` of the means inside boxes, `inside`, less those of the rings around them.

    The mean over a box and its ring lies between both, so less that one the direction is the same. 0 where nothing
    differs: on a constant map, and where a box fills the picture.
    """
    difference = inside - box_means(maps, widened(boxes, ring))
    lengths = (each.norm(dim=1, keepdim=True) for each in (difference, inside))
    return torch.where(next(lengths) > ROUNDING * next(lengths), difference, 0.0)


def widened(boxes: Tensor, factor: float) -> Tensor:
    """Boxes `(R, 4)` of so many times the sides around the same centres, cut off at the picture's edges."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * factor
    return torch.cat([centre - half, centre + half], dim=1).clamp(0, 1)


def cells_of(boxes: Tensor, count: int) -> list[Tensor]:
    """The cells `(R, 4)` of boxes cut into `count` rows and columns, row by row."""
    low, step = boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]) / count
    places = [boxes.new_tensor([column, row]) for row in range(count) for column in range(count)]
    return [torch.cat([low + place * step, low + (place + 1) * step], dim=1) for place in places]


def write_proposal_features(params: ProposalFeatureParams, index: ImageIndex, boxes: Boxes, path: Path) -> None:
    """Write the store of all images' proposals; under `torchrun` the first process does.

    Args:
        params: which features.
        index: the images.
        boxes: `(N, P, 4)` shares of their sides, see `relative_proposals`.
        path: the output.

    Raises:
        InputError: the feature store is missing or damaged, or lacks the level or an image.
    """
    with FeatureStore(Path(params.sees)) as store:
        fabric = launch(store.params.precision)
        if not fabric.is_global_zero:
            return
        plain = store.params.views.index("plain")
        given = torch.from_numpy(boxes)

        def described() -> Iterator[Features]:
            done = 0
            for rows in store.reader(fabric, index).read(range(len(given))):
                for maps in store.level(rows, params.level)[:, plain]:
                    own = given[done]
                    yield describe(maps, own[solid(own)], params).to(torch.float16).numpy()
                    done += 1

        channels = store.level(torch.zeros(1, *store.row_shape), params.level).shape[2]
        counts = solid(given).sum(1).numpy()
        _write(path, index.table["image_id"].tolist(), counts, params.width(channels), described())


def _write(path: Path, ids: list[str], counts: npt.NDArray[np.int64], width: int, images: Iterator[Features]) -> None:
    progress = tqdm(images, total=len(ids), desc="features", unit="image", disable=None)
    with new_file(path) as (file, sink):
        table = file.create_dataset("features", (counts.sum(), width), np.float16, track_times=False)
        file.create_dataset("image_id", data=ids, dtype=h5py.string_dtype(), track_times=False)
        file.create_dataset("count", data=counts.astype(np.int32), track_times=False)
        start = 0
        for found in progress:
            sink.check()
            if len(found):
                table[start : start + len(found)] = found
            start += len(found)


class ProposalFeatureStore:
    """A store opened for reading; features are read image by image.

    Attributes:
        width: D.

    Raises:
        InputError: the file is missing, damaged, or no such store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with opened(path, "store of proposal features") as self._file:
            self._read_header()

    def _read_header(self) -> None:
        self._table = dataset(self._file, "features", 2, "f")
        ids, counts = texts(self._file, "image_id"), dataset(self._file, "count", 1, "i")[:].tolist()
        rows, self.width = self._table.shape
        ends = list(accumulate(counts))
        self._place = {name: (end - count, end) for name, count, end in zip(ids, counts, ends, strict=True)}
        if sum(counts) != rows or min(counts, default=0) < 0:
            raise ValueError(f"{rows} rows for {sum(counts)} proposals")

    def find(self, image_id: str, count: int) -> Features:
        """Those of an image's first `count` proposals with an area, `(count, D)`.

        Raises:
            InputError: the image has fewer, or the file is damaged.
        """
        start, end = self._place.get(image_id, (0, 0))
        if end - start < count:
            wrong = f"{end - start} proposals of image {image_id!r} where {count} are asked for"
            raise InputError(f"{self._path}: {wrong}; run the stage that makes it again")
        try:
            found: Features = self._table[start : start + count]
        except (OSError, MemoryError) as error:
            raise InputError(f"{self._path}: damaged ({error}); run the stage that makes it again") from error
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "ProposalFeatureStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
