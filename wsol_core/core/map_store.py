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
from wsol_core.core.files import Sink
from wsol_core.core.hdf5 import dataset, new_file, opened, texts

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

    @property
    def expected(self) -> str:
        """The values that there may be, in words."""
        words = {"score": "finite scores in [0, 1]", "labels": "whole numbers from 0 to 255", "mask": "0 or 1"}
        return words.get(self.value, "0, 1 or 255")

    def are_good(self, maps: npt.NDArray[Any]) -> bool:
        """Whether maps of any shape have such values alone; NaN is none."""
        if maps.size == 0:
            return True
        if self is Kind.SCORE or self is Kind.LABELS:
            inside = bool(maps.min() >= 0 and maps.max() <= (1 if self is Kind.SCORE else IGNORE))
            return inside and (self is Kind.SCORE or maps.dtype == np.uint8 or bool((maps == np.floor(maps)).all()))
        good = (maps == 0) | (maps == 1)
        return bool((good | (maps == IGNORE) if self is Kind.TRISTATE else good).all())


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
        if not self._kind.are_good(maps):
            bad = next(name for name, own in zip(image_ids, maps, strict=True) if not self._kind.are_good(own))
            raise InputError(f"the map of image {bad!r} has values other than {self._kind.expected}")
        start, self._rows = self._rows, self._rows + len(image_ids)
        for grown, values in ((self._maps, maps), (self._ids, list(image_ids)), (self._labels, list(labels))):
            grown.resize(self._rows, axis=0)
            if len(image_ids):
                grown[start : self._rows] = values


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
        with opened(path, "map store") as self._file:
            self._read_header()

    def _read_header(self) -> None:
        self.kind = Kind(self._file.attrs["kind"])
        self.image_ids = texts(self._file, "image_id")
        self.labels: npt.NDArray[np.int32] = dataset(self._file, "label", 1, "i")[:]
        self._maps = dataset(self._file, "maps", 3, "fu")
        self.shape: tuple[int, int] = self._maps.shape[1:]
        if self._maps.dtype != self.kind.dtype:
            raise ValueError(f"maps of {self._maps.dtype} in a store of the kind {self.kind.value}")
        if not len(self.image_ids) == len(self.labels) == len(self._maps):
            raise ValueError(f"{len(self._maps)} maps, {len(self.image_ids)} ids, {len(self.labels)} labels")
        self._row = {key: row for row, key in enumerate(zip(self.image_ids, self.labels.tolist(), strict=True))}
        if len(self._row) < len(self.labels):
            raise ValueError("two maps of one image and label")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: int | slice) -> npt.NDArray[np.float32]:
        """Maps as float32: `(h, w)` for a row, `(B, h, w)` for a slice.

        Raises:
            InputError: they are damaged, or have values that the kind has not.
        """
        try:
            maps = np.asarray(self._maps[rows], dtype=np.float32)
        except (OSError, MemoryError) as error:
            raise InputError(f"{self.path}: damaged ({error}); run the stage that makes it again") from error
        if not self.kind.are_good(maps):
            name = self.image_ids[rows] if isinstance(rows, int) else f"one of {self.image_ids[rows][0]!r} and on"
            wrong = f"the map of image {name} has values other than {self.kind.expected}"
            raise InputError(f"{self.path}: {wrong}; run the stage that makes it again")
        return maps

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
