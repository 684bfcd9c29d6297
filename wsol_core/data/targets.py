"""What networks learn from, image by image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wsol_core.maps import MapStore


class ImageTargets(Protocol):
    """What a network shall say of each image, by position.

    A map `(h, w)`, several `(K, h, w)`, a box `(4,)` or a number `()`.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> npt.ArrayLike: ...


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
