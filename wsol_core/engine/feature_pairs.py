"""Cached feature maps with their targets, as a training reads them: whole batches at a time."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from wsol_core.data.loading import CACHE_BYTES, Batch
from wsol_core.data.targets import ImageTargets
from wsol_core.engine.feature_store import FeatureStore, Rows, regrouped
from wsol_core.engine.features import rows_in_view

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
        """A batch for each list of keys, which are of one epoch."""
        places = [[position for _, position in batch] for batch in keys]
        if self._kept is not None:
            for batch, positions in zip(keys, places, strict=True):
                yield self._moved(self._kept, positions, self._mirrored(batch))
            return
        stream = regrouped(self._rows.read([position for part in places for position in part]), map(len, places))
        for batch, positions, rows in zip(keys, places, stream, strict=True):
            read = Batch(rows[:, self._views], self._targets_of(positions))
            yield self._moved(read, range(len(positions)), self._mirrored(batch))

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
        numbers = mirrored.long() if len(self._views) > 1 else torch.zeros_like(mirrored, dtype=torch.long)
        chosen = torch.tensor(places)
        inputs, targets = pairs.inputs[chosen, numbers], pairs.targets[chosen]
        if len(self._views) == 1 and mirrored.any():
            inputs[mirrored] = rows_in_view(inputs[mirrored], self._shapes, "mirrored")
        return Batch(inputs, mirrored_targets(targets, mirrored))


def mirrored_targets(targets: Tensor, mirrored: Tensor) -> Tensor:
    """Targets of which some, `mirrored (B,)`, are mirrored: boxes `(B, 4)` and maps `(B, ..., h, w)`, no numbers."""
    if targets.ndim == 1 or not mirrored.any():
        return targets
    if targets.ndim == 2:
        x0, y0, x1, y1 = targets.unbind(1)
        return torch.where(mirrored[:, None], torch.stack([1 - x1, y0, 1 - x0, y1], dim=1), targets)
    shown = mirrored.view(-1, *[1] * (targets.ndim - 1))
    return torch.where(shown, targets.flip(-1), targets)
