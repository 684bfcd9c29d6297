"""Cached feature maps with their targets, as a training reads them: whole batches at a time."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wsol_core.data.loading import CACHE_BYTES, Batch
from wsol_core.data.targets import ImageTargets
from wsol_core.engine.feature_store import FeatureStore, Rows
from wsol_core.engine.features import pack, unpack, view_of

Key = tuple[int, int]


class FeaturePairs:
    """Rows of a feature store `(D,)` float16 with their targets, half of them mirrored.

    Mirrored are the maps of the mirrored image where the store has that view, else the mirrored maps. Rows and targets
    that fit in 2 GiB stay in memory; of more, each batch is read anew.

    Args:
        store: open for as long as pairs are read.
        rows: of the images of the pairs, as the store reads them.
        targets: a target for each: a number `()`, which is never mirrored, a box `(4,)` relative to the image, or maps
            `(h, w)` or `(K, h, w)`.
        flip: whether half of an epoch's pairs, drawn anew in each, are mirrored.
        seed: of the draw.
    """

    def __init__(self, store: FeatureStore, rows: Rows, targets: ImageTargets, flip: bool, seed: int) -> None:
        self._shapes, self._views = store.shapes, store.params.views
        self._rows, self._targets = rows, targets
        self._flip, self._seed = flip, seed
        small = len(targets) * store.row_bytes <= CACHE_BYTES
        self._kept = torch.cat(list(rows.read(range(len(targets))))) if small else None
        self._kept_targets = self._keep_targets() if self._kept is not None else None

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """The row and the target of one key `(epoch, position)`."""
        batch = self._batch([key])
        return batch.inputs[0], batch.targets[0]

    def batches(self, keys: Sequence[Sequence[Key]]) -> Iterator[Batch]:
        """A batch for each list of keys, which are of one epoch."""
        return map(self._batch, keys)

    def _batch(self, keys: Sequence[Key]) -> Batch:
        positions = [position for _, position in keys]
        mirrored = torch.from_numpy(self._mirrored(keys[0][0])[positions])
        return Batch(self._inputs(positions, mirrored), self._moved_targets(positions, mirrored))

    def _mirrored(self, epoch: int) -> npt.NDArray[np.bool_]:
        """Which positions are mirrored in an epoch; none of those held out, epoch -1."""
        if epoch < 0 or not self._flip:
            return np.zeros(len(self), dtype=bool)
        return np.random.default_rng([self._seed, epoch]).random(len(self)) < 0.5

    def _inputs(self, positions: list[int], mirrored: Tensor) -> Tensor:
        """Rows `(B, D)` float16, those that are `mirrored (B,)` of the mirrored image."""
        views = self._read(positions)  # (B, V, D)
        plain = views[:, self._views.index("plain") if "plain" in self._views else 0]
        if not mirrored.any():
            return plain
        if "mirrored" in self._views:
            return torch.where(mirrored[:, None], views[:, self._views.index("mirrored")], plain)
        inputs = plain.clone()
        inputs[mirrored] = pack([view_of(level, "mirrored") for level in unpack(plain[mirrored], self._shapes)])
        return inputs

    def _read(self, positions: list[int]) -> Tensor:
        if self._kept is not None:
            return self._kept[positions]
        return torch.cat(list(self._rows.read(positions)))

    def _keep_targets(self) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(self._targets[position]) for position in range(len(self))]))

    def _moved_targets(self, positions: list[int], mirrored: Tensor) -> Tensor:
        if self._kept_targets is not None:
            targets = self._kept_targets[positions]
        else:
            targets = torch.from_numpy(np.stack([np.asarray(self._targets[position]) for position in positions]))
        if targets.ndim == 1 or not mirrored.any():
            return targets
        if targets.ndim == 2:  # boxes (B, 4): x0, y0, x1, y1
            x0, y0, x1, y1 = targets.unbind(1)
            return torch.where(mirrored[:, None], torch.stack([1 - x1, y0, 1 - x0, y1], dim=1), targets)
        shown = mirrored.view(-1, *[1] * (targets.ndim - 1))
        return torch.where(shown, targets.flip(-1), targets)
