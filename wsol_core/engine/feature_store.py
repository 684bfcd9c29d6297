"""The feature store: a data set's feature maps in one HDF5 file, a row an image, or a header that says how to get them.

Rows are float16, uncompressed, one chunk an image: one read each, in any order. With `store: never` the file holds no
rows, and a reader computes them in the same batches as the stage would have, so that the values are the same.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.hdf5 import dataset, new_file, opened, texts
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import SquashedImages, image_batches
from wsol_core.engine.features import FeatureParams, FrozenBackbone, Shape, frozen_backbone, pack, view_of

READ_ROWS = 32


def write_features(fabric: Fabric, params: FeatureParams, index: ImageIndex, path: Path) -> None:
    """Write the store of an index's images; memory is bounded by a batch. Under `torchrun` the first process writes.

    Args:
        fabric: from `devices.launch`.
        params: which maps, of which views.
        index: the images.
        path: the output.
    """
    if not fabric.is_global_zero:
        return
    computed = ComputedRows(fabric, frozen_backbone(params), params, index)
    with new_file(path) as (file, sink):
        file.attrs["params"] = params.model_dump_json()
        file.attrs["shapes"] = np.array(computed.shapes, dtype=np.int64)
        ids = index.table["image_id"].tolist()
        file.create_dataset("image_id", data=ids, dtype=h5py.string_dtype(), track_times=False)
        if params.store == "never":
            return
        shape = (len(params.views), computed.width)
        rows = file.create_dataset(
            "rows", shape=(len(ids), *shape), dtype=np.float16, chunks=(1, *shape), track_times=False
        )
        progress = tqdm(total=len(ids), desc="features", unit="image", disable=None)
        done = 0
        for batch in computed.read(range(len(ids))):
            rows[done : done + len(batch)] = batch.numpy()
            done += len(batch)
            progress.update(len(batch))
            sink.check()
        progress.close()


class ComputedRows:
    """Rows of images as a frozen network gives them.

    Args:
        fabric: from `devices.launch`.
        backbone: of `params`; moved to the device.
        params: of the store.
        index: the images.
    """

    def __init__(self, fabric: Fabric, backbone: FrozenBackbone, params: FeatureParams, index: ImageIndex) -> None:
        self._fabric, self._params = fabric, params
        self._backbone = fabric.to_device(backbone.to(memory_format=torch.channels_last))
        self._images = SquashedImages(index.root, index.table, params.side, params.side, backbone.interpolation)
        with torch.no_grad():
            blank = torch.zeros((1, 3, params.side, params.side), dtype=torch.uint8)
            levels = self._backbone(fabric.to_device(blank))
        self.shapes: tuple[Shape, ...] = tuple((level.shape[1], level.shape[2], level.shape[3]) for level in levels)
        self.width = sum(level[0].numel() for level in levels)

    def read(self, positions: Sequence[int]) -> Iterator[Tensor]:
        """Rows `(B, V, D)` float16 on the CPU, in order.

        Every batch has the same number of images, the last one repeating its last: other numbers could take other
        sums.

        Raises:
            InputError: a feature is too large for float16, or not a number.
        """
        size = self._params.batch
        padded = [*positions, *[positions[-1]] * (-len(positions) % size)] if len(positions) else []
        left = len(positions)
        for images in image_batches(self._images, padded, size):
            on_device = self._fabric.to_device(images)
            views = [pack(self._backbone(view_of(on_device, view))) for view in self._params.views]
            rows = torch.stack(views, dim=1)
            if not rows.isfinite().all():
                name = self._params.backbone.name
                raise InputError(f"{name}: features that float16 does not hold, or no numbers; take other levels")
            yield rows.cpu()[:left]
            left -= size


class FeatureStore:
    """A store opened for reading.

    Attributes:
        params: how it was made.
        shapes: `(C, h, w)` of each level.
        image_ids: N of them, in the index's order.

    Raises:
        InputError: the file is missing, damaged or not a feature store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path, "feature store") as self._file:
            self._read_header()

    def _read_header(self) -> None:
        self.params = FeatureParams.model_validate_json(self._file.attrs["params"])
        self.shapes: tuple[Shape, ...] = tuple((int(c), int(h), int(w)) for c, h, w in self._file.attrs["shapes"])
        self.image_ids: list[str] = texts(self._file, "image_id").tolist()
        self._rows = dataset(self._file, "rows", 3, "f") if self.params.store == "always" else None
        shape = (len(self.image_ids), *self.row_shape)
        if self._rows is not None and (self._rows.shape, self._rows.dtype) != (shape, np.float16):
            raise ValueError(f"rows {self._rows.shape} {self._rows.dtype} in place of {shape} float16")

    @property
    def row_shape(self) -> tuple[int, int]:
        """`(V, D)` of an image's row."""
        return len(self.params.views), sum(math.prod(shape) for shape in self.shapes)

    def reader(self, fabric: Fabric, index: ImageIndex) -> "Rows":
        """Rows by positions in `index`, from the file or computed.

        Raises:
            InputError: an image is not in the store.
        """
        row_of = {image_id: row for row, image_id in enumerate(self.image_ids)}
        missing = index.table.loc[~index.table["image_id"].isin(row_of), "image_id"]
        if len(missing):
            raise InputError(f"{self.path}: no features of image {missing.iloc[0]!r}; run the stage that makes it")
        if self._rows is None:
            return ComputedRows(fabric, frozen_backbone(self.params), self.params, index)
        return StoredRows(self.path, self._rows, [row_of[image_id] for image_id in index.table["image_id"]])

    def level(self, rows: Tensor, number: int) -> Tensor:
        """A level `(B, V, C, h, w)` float32 of rows `(B, V, D)`, counted from either end.

        Raises:
            InputError: the store has no such level.
        """
        sizes = [math.prod(shape) for shape in self.shapes]
        if not -len(sizes) <= number < len(sizes):
            raise InputError(f"{self.path}: has {len(sizes)} levels, none of number {number}; see `features`")
        part = torch.split(rows, sizes, dim=2)[number]
        return part.float().reshape(*part.shape[:2], *self.shapes[number])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "FeatureStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StoredRows:
    """Rows of images as a file holds them.

    Args:
        path: of the file, for messages.
        rows: the data set `(N, V, D)`.
        numbers: the row of each position.
    """

    def __init__(self, path: Path, rows: h5py.Dataset, numbers: Sequence[int]) -> None:
        self._path, self._rows, self._numbers = path, rows, numbers

    def read(self, positions: Sequence[int]) -> Iterator[Tensor]:
        """Rows `(B, V, D)` float16, in order, a few at a time.

        Raises:
            InputError: the file cannot be read.
        """
        for start in range(0, len(positions), READ_ROWS):
            numbers = [self._numbers[position] for position in positions[start : start + READ_ROWS]]
            block = np.empty((len(numbers), *self._rows.shape[1:]), dtype=np.float16)
            try:
                for place, number in enumerate(numbers):
                    self._rows.read_direct(block, np.s_[number], np.s_[place])
            except OSError as error:
                raise InputError(f"{self._path}: damaged ({error}); run the stage that makes it again") from error
            yield torch.from_numpy(block)


Rows = ComputedRows | StoredRows


def regrouped(blocks: Iterator[Tensor], counts: Iterable[int]) -> Iterator[Tensor]:
    """Rows that come in blocks of any length, as blocks of the given lengths, none of them 0."""
    left = torch.empty(0)
    for count in counts:
        parts: list[Tensor] = []
        missing = count
        while missing:
            left = left if len(left) else next(blocks)
            parts.append(left[:missing])
            left = left[missing:]
            missing -= len(parts[-1])
        yield torch.cat(parts) if len(parts) > 1 else parts[0]
