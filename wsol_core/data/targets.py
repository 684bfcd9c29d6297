"""What networks learn from, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wsol_core.core.map_store import MapStore


@dataclass(frozen=True)
class Proposals:
    """An image's labels and the boxes that may hold its objects."""

    labels: npt.NDArray[np.float32]
    """`(C,)`, 1 for a class that the image shows, else 0"""
    objectness: npt.NDArray[np.float32]
    """`(P,)` in [0, 1]"""
    boxes: npt.NDArray[np.float32]
    """`(P, 4)`, shares of the image's sides; a box without area stands for none"""


class ImageTargets(Protocol):
    """What a network shall say of each image, by position.

    A map `(h, w)`, several `(K, h, w)`, a box `(4,)`, a number `()`, or proposals, as many for each image.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> npt.ArrayLike | Proposals: ...


class StoredTargets:
    """Rows of a map store by position, read when asked for.

    Args:
        path: the store.
        rows: the store's row for each position.
    """

    def __init__(self, path: Path, rows: Sequence[int]) -> None:
        self._store, self._rows = MapStore(path), rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> npt.NDArray[np.float32]:
        return self._store[self._rows[position]]
