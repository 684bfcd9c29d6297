"""The map store: score maps, masks and tri-state labels in one HDF5 file, a row per (image, label).

The same rows give the same bytes (fixed chunks, no time stamps, one writer), and a file appears under its name only
when it is whole.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from wsol_core.core.errors import InputError
from wsol_core.core.hdf5 import Sink, new_file

CLASS_AGNOSTIC = -1
IGNORE = 255
CHUNK_BYTES = 1 << 18


class Kind(Enum):
    """What the values of a store mean, and how they are kept."""

    SCORE = "score"
    """float16 in [0, 1]: a background threshold of .004 is one step of uint8, so 8 bits would not do."""
    MASK = "mask"
    """uint8: 0 background, 1 foreground."""
    TRISTATE = "tristate"
    """uint8: 0 background, 1 foreground, 255 ignored."""
    LABELS = "labels"
    """uint8: 0 background, 1 + label on a class, 255 neither; one map per image, under the label -1."""

    @property
    def dtype(self) -> npt.DTypeLike:
        """The dtype on disk."""
        return np.float16 if self is Kind.SCORE else np.uint8


class MapWriter:
    """Appends rows to a store that `create` opened. Rows must come in the order of (image_id, label)."""

    def __init__(self, file: h5py.File, sink: Sink, kind: Kind, height: int, width: int) -> None:
        self._sink = sink
        self._kind = kind
        self._rows = 0
        self._last = ("", CLASS_AGNOSTIC - 1)
        chunk = max(1, CHUNK_BYTES // (height * width * np.dtype(kind.dtype).itemsize))
        self._maps = file.create_dataset(
            "maps", shape=(0, height, width), maxshape=(None, height, width), dtype=kind.dtype,
            chunks=(chunk, height, width), compression="gzip", compression_opts=1, shuffle=True, track_times=False,
        )  # fmt: skip
        self._ids = file.create_dataset(
            "image_id", shape=(0,), maxshape=(None,), dtype=h5py.string_dtype(), chunks=(4096,), track_times=False
        )
        self._labels = file.create_dataset(
            "label", shape=(0,), maxshape=(None,), dtype=np.int32, chunks=(4096,), track_times=False
        )

    def append(self, image_ids: Sequence[str], labels: Sequence[int], maps: npt.NDArray[Any]) -> None:
        """Append `maps (B, h, w)`, one per (image, label).

        Raises:
            InputError: a map has a value that is not finite or outside the kind's range; the image is named.
            ValueError: shapes differ, or rows are out of order.
            OSError: an earlier row could not be written (a full disk).
        """
        self._sink.check()
        if maps.shape != (len(image_ids), *self._maps.shape[1:]) or len(labels) != len(image_ids):
            raise ValueError(f"{maps.shape} maps for {len(image_ids)} images in a store of {self._maps.shape[1:]}")
        for key in zip(image_ids, labels, strict=True):
            if key <= self._last:
                raise ValueError(f"row {key} after {self._last}: rows come in the order of (image_id, label)")
            self._last = key
        self._refuse_bad(image_ids, maps)
        start, self._rows = self._rows, self._rows + len(image_ids)
        for dataset, values in ((self._maps, maps), (self._ids, list(image_ids)), (self._labels, list(labels))):
            dataset.resize(self._rows, axis=0)
            if len(image_ids):
                dataset[start : self._rows] = values

    def _refuse_bad(self, image_ids: Sequence[str], maps: npt.NDArray[Any]) -> None:
        if self._kind is Kind.SCORE:
            good = np.isfinite(maps) & (maps >= 0) & (maps <= 1)
            expected = "finite scores in [0, 1]"
        elif self._kind is Kind.LABELS:
            good = (maps >= 0) & (maps <= IGNORE) & (maps == np.floor(maps))
            expected = "whole numbers from 0 to 255"
        else:
            good = (maps == 0) | (maps == 1)
            expected = "0 or 1"
            if self._kind is Kind.TRISTATE:
                good |= maps == IGNORE
                expected = "0, 1 or 255"
        bad = np.flatnonzero(~good.all(axis=(1, 2)))
        if len(bad):
            raise InputError(f"the map of image {image_ids[bad[0]]!r} has values other than {expected}")


@contextmanager
def create(path: Path, kind: Kind, height: int, width: int) -> Iterator[MapWriter]:
    """Open a new store at `path` for `height x width` maps; it takes its name when the block ends well."""
    with new_file(path) as (file, sink):
        file.attrs["kind"] = kind.value
        yield MapWriter(file, sink, kind, height, width)


class MapStore:
    """A store opened for reading. Maps are read row by row; only ids and labels are held in memory.

    Attributes:
        kind: what the values mean.
        image_ids: `(M,)` str objects, sorted.
        labels: `(M,)` int32, -1 where a map is class-agnostic.
        shape: `(h, w)` of each map.

    Raises:
        InputError: the file is missing, damaged, or not a map store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = h5py.File(path, "r")
            self.kind = Kind(self._file.attrs["kind"])
            self.image_ids: npt.NDArray[np.object_] = self._file["image_id"].asstr()[:]
            self.labels: npt.NDArray[np.int32] = self._file["label"][:]
            self._maps: h5py.Dataset = self._file["maps"]
        except (OSError, KeyError, ValueError, MemoryError) as error:
            reason = f"not a readable map store ({error})"
            raise InputError(f"{path}: {reason}; run the stage that makes it again") from error
        self.shape: tuple[int, int] = self._maps.shape[1:]
        self._row = {key: row for row, key in enumerate(zip(self.image_ids, self.labels.tolist(), strict=True))}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: int | slice) -> npt.NDArray[np.float32]:
        """Maps as float32: `(h, w)` for a row, `(B, h, w)` for a slice."""
        try:
            return np.asarray(self._maps[rows], dtype=np.float32)
        except (OSError, MemoryError) as error:
            raise InputError(f"{self.path}: damaged ({error}); run the stage that makes it again") from error

    def find(self, image_id: str, label: int = CLASS_AGNOSTIC) -> npt.NDArray[np.float32] | None:
        """The map of an image for `label`; its class-agnostic map if it has none for that label; else None."""
        row = self._row.get((image_id, label), self._row.get((image_id, CLASS_AGNOSTIC)))
        return None if row is None else self[row]

    def batches(self, size: int = 256) -> Iterator[slice]:
        """Slices that cover the store in order, `size` rows at a time."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "MapStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
