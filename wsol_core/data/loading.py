"""Images and their targets as batches of tensors, decoded in background threads.

Threads, not processes: decoders let go of the interpreter, and a fork would make the parent copy every page of its heap
that it writes to afterwards, seconds per epoch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from wsol_core.core.errors import InputError
from wsol_core.core.parallel import in_threads
from wsol_core.data.images import Interpolation, decode_squashed
from wsol_core.data.targets import ImageTargets, Proposals

CACHE_BYTES = 2 << 30
BATCHES_AHEAD = 3

K = TypeVar("K")
V = TypeVar("V")


class SquashedImages:
    """Images squashed to `height x width`: `(3, height, width)` uint8 RGB, by position in `rows`.

    Images that are read more than once are kept in memory while they fit in 2 GiB.

    Args:
        root: the data set's root.
        rows: rows of an image index.
        height: pixels.
        width: pixels.
        interpolation: as the backbone's weights expect.
        keep: whether images will be read more than once.
    """

    def __init__(
        self, root: Path, rows: pd.DataFrame, height: int, width: int, interpolation: Interpolation, keep: bool = False
    ) -> None:
        self._root = root
        self._paths: list[str] = rows["path"].tolist()
        self._shape = (height, width)
        self._interpolation: Interpolation = interpolation
        self._keep = keep and len(rows) * height * width * 3 <= CACHE_BYTES
        self._kept: dict[int, npt.NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> Tensor:
        image = self._kept.get(position)
        if image is None:
            image = self._decode(position)
            if self._keep:
                self._kept[position] = image
        return torch.from_numpy(image).permute(2, 0, 1)

    def _decode(self, position: int) -> npt.NDArray[np.uint8]:
        path = self._root / self._paths[position]
        try:
            return decode_squashed(path, *self._shape, self._interpolation)
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}: {error}; run `dvc repro prepare` again") from error


@dataclass(frozen=True)
class Geometry:
    """How training pictures move: image and target together.

    Attributes:
        side: side of the square picture that the network sees, in pixels.
        resize: side of the squashed picture that it is cropped from at random; equal to `side` for no cropping.
        flip: whether half of the pictures are mirrored.
    """

    side: int
    resize: int
    flip: bool

    def draw(self, generator: np.random.Generator | None) -> tuple[int, int, bool]:
        """Top, left and mirroring of one picture; without a generator the centre, not mirrored."""
        slack = self.resize - self.side
        if generator is None:
            return slack // 2, slack // 2, False
        top, left = (int(v) for v in generator.integers(0, slack + 1, 2))
        return top, left, self.flip and bool(generator.random() < 0.5)

    def move_image(self, image: Tensor, top: int, left: int, mirror: bool) -> Tensor:
        """The crop `(3, side, side)` of an image `(3, resize, resize)`."""
        crop = image[:, top : top + self.side, left : left + self.side]
        return crop.flip(2) if mirror else crop

    def move_target(self, target: npt.NDArray[np.float32], top: int, left: int, mirror: bool) -> Tensor:
        """The same crop of a target `(..., h, w)` that covers the image, nearest, in the target's own resolution."""
        height, width = target.shape[-2:]
        rows = ((np.arange(height) + 0.5) / height * self.side + top) * height / self.resize
        columns = ((np.arange(width) + 0.5) / width * self.side + left) * width / self.resize
        columns = columns[::-1] if mirror else columns
        moved = target[..., rows.astype(int)[:, None], columns.astype(int)[None, :]]
        return torch.from_numpy(np.ascontiguousarray(moved))

    def move_box(self, box: npt.NDArray[np.float32], top: int, left: int, mirror: bool) -> Tensor:
        """The part inside the same crop of boxes `(..., 4)`, as shares of the image, then of the crop."""
        corner = np.array([left, top, left, top])
        x0, y0, x1, y1 = np.moveaxis(np.clip((box * self.resize - corner) / self.side, 0, 1), -1, 0)
        edges = [1 - x1, y0, 1 - x0, y1] if mirror else [x0, y0, x1, y1]
        return torch.from_numpy(np.stack(edges, axis=-1).astype(np.float32))


@dataclass(frozen=True)
class Batch:
    """What a loss gets: `inputs` of pictures, `(B, 3, H, W)` uint8 or what describes them, and `targets (B, ...)`."""

    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`, images channels-last."""
        layout = torch.channels_last if self.inputs.ndim == 4 else torch.contiguous_format
        inputs = self.inputs.to(device, memory_format=layout, non_blocking=True)
        return Batch(inputs, self.targets.to(device, non_blocking=True))

    def split(self, count: int) -> "list[Batch]":
        """At most `count` parts of about as many pictures."""
        pairs = zip(self.inputs.chunk(count), self.targets.chunk(count), strict=True)
        return [Batch(inputs, targets) for inputs, targets in pairs]


class Pairs(Protocol):
    """Inputs, as pictures `(3, side, side)` uint8, with their targets, by key `(epoch, position)`; positions from 0.

    What a pair looks like depends on the seed and the key alone, not on the thread that loads it. Epoch -1 is for
    held-out pictures, which do not move.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class BatchedPairs(Protocol):
    """Pairs that come as whole batches, faster than one by one."""

    def batches(self, keys: Sequence[Sequence[tuple[int, int]]]) -> Iterator[Batch]:
        """A batch for each list of keys `(epoch, position)`, which are of one epoch."""


class TrainingSet:
    """Pairs of a picture and its target, moved together.

    Args:
        images: squashed to `geometry.resize`.
        targets: by position what moves with the picture, a map `(h, w)`, several `(K, h, w)`, or a box `(4,)` relative
            to the image, float32; or a number `()`, which does not; or proposals, which become one vector of labels,
            objectness and moved boxes `(C + P + 4 P,)`, see `unpack`.
        geometry: how pictures move.
        seed: of the movements.
    """

    def __init__(self, images: SquashedImages, targets: ImageTargets, geometry: Geometry, seed: int) -> None:
        self._images, self._targets, self._geometry, self._seed = images, targets, geometry, seed

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, position = key
        generator = np.random.default_rng([self._seed, epoch, position]) if epoch >= 0 else None
        move = self._geometry.draw(generator)
        return self._geometry.move_image(self._images[position], *move), self._moved(self._targets[position], move)

    def _moved(self, target: npt.ArrayLike | Proposals, move: tuple[int, int, bool]) -> Tensor:
        if isinstance(target, Proposals):
            return pack(target, self._geometry.move_box(target.boxes, *move))
        array = np.asarray(target)
        movers = {1: self._geometry.move_box, 2: self._geometry.move_target, 3: self._geometry.move_target}
        return movers[array.ndim](array, *move) if array.ndim else torch.from_numpy(array)


def pack(proposals: Proposals, boxes: Tensor) -> Tensor:
    """An image's labels and objectness, and its boxes `(P, 4)` where they lie now, as one vector `(C + P + 4 P,)`."""
    return torch.cat([torch.from_numpy(proposals.labels), torch.from_numpy(proposals.objectness), boxes.flatten()])


def unpack(targets: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of a batch's proposals `(B, C + P + 4 P)`: labels `(B, C)`, objectness `(B, P)` and boxes `(B, P, 4)`."""
    count = (targets.shape[1] - classes) // 5
    labels, objectness, boxes = torch.split(targets, [classes, count, 4 * count], dim=1)
    return labels, objectness, boxes.reshape(len(boxes), count, 4)


class EqualParts:
    """Two sets of pairs as one, of which an epoch shows equally many, whatever their sizes.

    An epoch has every pair of the first set once and, in as many positions, pairs of the second: these go round from
    where the epoch before ended, and move anew in every round.
    """

    def __init__(self, first: Pairs, second: Pairs) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return 2 * len(self._first)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, position = key
        if position < len(self._first):
            return self._first[key]
        passed = max(epoch, 0) * len(self._first) + position - len(self._first)
        turn, place = divmod(passed, len(self._second))
        return self._second[(turn if epoch >= 0 else epoch, place)]


def image_batches(images: SquashedImages, positions: Sequence[int], batch: int) -> Iterator[Tensor]:
    """Batches `(B, 3, H, W)` uint8, channels-last, in the order of `positions`."""
    parts = [positions[start : start + batch] for start in range(0, len(positions), batch)]
    for pictures in _ahead(images.__getitem__, parts):
        yield torch.stack(pictures).contiguous(memory_format=torch.channels_last)


def training_batches(pairs: Pairs, batches: Sequence[Sequence[tuple[int, int]]]) -> Iterator[Batch]:
    """One `Batch` for each list of keys, in order."""
    if isinstance(pairs, BatchedPairs):
        yield from pairs.batches(batches)
        return
    for items in _ahead(pairs.__getitem__, batches):
        pictures, targets = zip(*items, strict=True)
        yield Batch(torch.stack(pictures), torch.stack(targets))


def _ahead(load: Callable[[K], V], batches: Sequence[Sequence[K]]) -> Iterator[list[V]]:
    """The items of each batch in order, loaded by threads while earlier batches are in use; a few batches are held."""
    keys = ((key,) for batch in batches for key in batch)
    loaded = in_threads(load, keys, BATCHES_AHEAD * max(map(len, batches), default=0))
    for batch in batches:
        yield list(islice(loaded, len(batch)))
