"""Cached feature maps with their targets, as a training reads them: whole batches at a time."""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wsol_core.core.parallel import in_threads
from wsol_core.data.loading import BATCHES_AHEAD, CACHE_BYTES, Batch
from wsol_core.data.targets import ImageTargets
from wsol_core.engine.feature_store import FeatureStore, Rows, regrouped
from wsol_core.engine.features import Shape

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
        self._shapes, views = store.shapes, store.params.views
        self._views = [views.index(view) for view in ("plain", "mirrored")[: 1 + flip] if view in views]
        self._rows, self._targets = rows, targets
        self._flip, self._seed = flip, seed
        self._drawn = (-1, torch.zeros(len(targets), dtype=torch.bool))
        self._kept: Batch | None = None
        size = len(self._views) * store.row_shape[1] * 2 + (np.asarray(targets[0]).nbytes if len(targets) else 0)
        if len(targets) * size <= CACHE_BYTES:
            everything = list(range(len(targets)))
            self._kept = Batch(self._read_all(store.row_shape[1]), self._targets_of(everything))

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """The row and the target of one key `(epoch, position)`."""
        (batch,) = self.batches([[key]])
        return batch.inputs[0], batch.targets[0]

    def batches(self, keys: Sequence[Sequence[Key]]) -> Iterator[Batch]:
        """A batch for each list of keys, which are of one epoch; threads put them together ahead of use."""
        return in_threads(self._moved, self._found(keys), BATCHES_AHEAD)

    def _found(self, keys: Sequence[Sequence[Key]]) -> Iterator[tuple[Batch, Sequence[int], Tensor]]:
        """For each batch the pairs that hold it, its places among them, and which of it are mirrored."""
        places = [[position for _, position in batch] for batch in keys]
        if self._kept is not None:
            for batch, positions in zip(keys, places, strict=True):
                yield self._kept, positions, self._mirrored(batch)
            return
        stream = regrouped(self._rows.read([position for part in places for position in part]), map(len, places))
        for batch, positions, rows in zip(keys, places, stream, strict=True):
            read = Batch(rows[:, self._views], self._targets_of(positions))
            yield read, range(len(positions)), self._mirrored(batch)

    def _read_all(self, width: int) -> Tensor:
        """The views that are used, of all rows: `(N, 1 or 2, D)`."""
        kept = torch.empty((len(self), len(self._views), width), dtype=torch.float16)
        done = 0
        for block in self._rows.read(range(len(self))):
            kept[done : done + len(block)] = block[:, self._views]
            done += len(block)
        return kept

    def _targets_of(self, positions: Sequence[int]) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(self._targets[position]) for position in positions]))

    def _mirrored(self, keys: Sequence[Key]) -> Tensor:
        """Which pairs `(B,)` are mirrored; none of those held out, of epoch -1."""
        epoch = keys[0][0]
        if epoch < 0 or not self._flip:
            return torch.zeros(len(keys), dtype=torch.bool)
        if epoch != self._drawn[0]:
            draw = np.random.default_rng([self._seed, epoch]).random(len(self)) < 0.5
            self._drawn = epoch, torch.from_numpy(draw)
        return self._drawn[1][[position for _, position in keys]]

    def _moved(self, pairs: Batch, places: Sequence[int], mirrored: Tensor) -> Batch:
        """The pairs at some places of rows `(N, 1 or 2, D)` with their targets, some of them mirrored."""
        rows = pairs.inputs.numpy()
        inputs = np.empty((len(places), rows.shape[2]), dtype=np.float16)
        for row, place, mirror in zip(inputs, places, mirrored.tolist(), strict=True):
            if mirror and len(self._views) == 1:
                copy_mirrored(row, rows[place, 0], self._shapes)
            else:
                row[:] = rows[place, int(mirror)]
        return Batch(torch.from_numpy(inputs), mirrored_targets(pairs.targets[torch.tensor(places)], mirrored))


def copy_mirrored(target: npt.NDArray[np.float16], row: npt.NDArray[np.float16], shapes: Sequence[Shape]) -> None:
    """Fill a row `(D,)` with another, the levels `(C, h, w)` mirrored; several times faster than with tensors."""
    marks = accumulate((math.prod(shape) for shape in shapes), initial=0)
    for (start, end), shape in zip(pairwise(marks), shapes, strict=True):
        target[start:end].reshape(shape)[:] = row[start:end].reshape(shape)[..., ::-1]


def mirrored_targets(targets: Tensor, mirrored: Tensor) -> Tensor:
    """Targets of which some, `mirrored (B,)`, are mirrored: boxes `(B, 4)` and maps `(B, ..., h, w)`, no numbers."""
    if targets.ndim == 1 or not mirrored.any():
        return targets
    if targets.ndim == 2:
        x0, y0, x1, y1 = targets.unbind(1)
        return torch.where(mirrored[:, None], torch.stack([1 - x1, y0, 1 - x0, y1], dim=1), targets)
    shown = mirrored.view(-1, *[1] * (targets.ndim - 1))
    return torch.where(shown, targets.flip(-1), targets)
