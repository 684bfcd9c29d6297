"""Images and their targets as batches of tensors, decoded in background processes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsol_core.data.images import Interpolation, decode_squashed
from wsol_core.errors import InputError
from wsol_core.maps import MapStore

CACHE_BYTES = 2 << 30


def loader_workers() -> int:
    """Decoding processes: `WSOL_WORKERS`, by default one per two cores (the others compute)."""
    return int(os.environ.get("WSOL_WORKERS") or max(1, (os.cpu_count() or 1) // 2))


class SquashedImages(Dataset[Tensor]):
    """Images squashed to `height x width`: `(3, height, width)` uint8 RGB, by position in `rows`.

    Images that are read more than once are kept in memory shared by the loader's processes while they fit in 2 GiB.

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
        keep = keep and len(rows) * height * width * 3 <= CACHE_BYTES
        self._kept = _shared(torch.empty((len(rows) if keep else 0, height, width, 3), dtype=torch.uint8))
        self._filled = _shared(torch.zeros(len(self._kept), dtype=torch.bool))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> Tensor:
        if len(self._kept) and self._filled[position]:
            return self._kept[position].permute(2, 0, 1)
        image = torch.from_numpy(self._decode(position))
        if len(self._kept):
            self._kept[position] = image
            self._filled[position] = True
        return image.permute(2, 0, 1)

    def _decode(self, position: int) -> npt.NDArray[np.uint8]:
        path = self._root / self._paths[position]
        try:
            return decode_squashed(path, *self._shape, self._interpolation)
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}: {error}; run `dvc repro prepare` again") from error


def _shared(tensor: Tensor) -> Tensor:
    """The tensor, moved into memory that the loader's processes share."""
    tensor.share_memory_()  # type: ignore[no-untyped-call]
    return tensor


@dataclass(frozen=True)
class Geometry:
    """How training pictures move: image and target together.

    Attributes:
        side: side of the square picture that the network sees, in pixels.
        crop_from: side of the squashed picture that it is cropped from at random; equal to `side` for no cropping.
        flip: whether half of the pictures are mirrored.
    """

    side: int
    crop_from: int
    flip: bool

    def draw(self, generator: np.random.Generator | None) -> tuple[int, int, bool]:
        """Top, left and mirroring of one picture; without a generator the centre, not mirrored."""
        slack = self.crop_from - self.side
        if generator is None:
            return slack // 2, slack // 2, False
        top, left = (int(v) for v in generator.integers(0, slack + 1, 2))
        return top, left, self.flip and bool(generator.random() < 0.5)

    def move_image(self, image: Tensor, top: int, left: int, mirror: bool) -> Tensor:
        """The crop `(3, side, side)` of an image `(3, crop_from, crop_from)`."""
        crop = image[:, top : top + self.side, left : left + self.side]
        return crop.flip(2) if mirror else crop

    def move_target(self, target: npt.NDArray[np.float32], top: int, left: int, mirror: bool) -> Tensor:
        """The same crop of a target `(h, w)` that covers the whole image, nearest, in the target's own resolution."""
        height, width = target.shape
        rows = ((np.arange(height) + 0.5) / height * self.side + top) * height / self.crop_from
        columns = ((np.arange(width) + 0.5) / width * self.side + left) * width / self.crop_from
        moved = target[rows.astype(int)[:, None], columns.astype(int)[None, :]]
        return torch.from_numpy(np.ascontiguousarray(moved[:, ::-1] if mirror else moved))


@dataclass(frozen=True)
class Batch:
    """What a loss gets: `images (B, 3, H, W)` uint8 and `targets (B, ...)`."""

    images: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`, images channels-last."""
        images = self.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        return Batch(images, self.targets.to(device, non_blocking=True))


class StoredTargets(Sequence[npt.NDArray[np.float32]]):
    """Rows of a map store by position, read when asked for; every process opens the file for itself.

    Args:
        path: the store.
        rows: the store's row for each position.
    """

    def __init__(self, path: Path, rows: Sequence[int]) -> None:
        self._path, self._rows = path, rows
        self._opened: tuple[int, MapStore] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, position: int) -> npt.NDArray[np.float32]: ...
    @overload
    def __getitem__(self, position: slice) -> NoReturn: ...
    def __getitem__(self, position: int | slice) -> npt.NDArray[np.float32]:
        if isinstance(position, slice):
            raise TypeError("targets are read one by one")
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), MapStore(self._path))
        return self._opened[1][self._rows[position]]


class TrainingSet(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of a picture and its target map, moved together.

    An item's key is `(epoch, position)`: what a picture looks like depends on the seed, the epoch and its position
    alone, not on the process that loads it. Epoch -1 is for held-out pictures, which do not move.

    Args:
        images: squashed to `geometry.crop_from`.
        targets: `(N, h, w)`, anything that gives a `(h, w)` float32 array by position.
        geometry: how pictures move.
        seed: of the movements.
    """

    def __init__(
        self, images: SquashedImages, targets: Sequence[npt.NDArray[np.float32]], geometry: Geometry, seed: int
    ) -> None:
        self._images, self._targets, self._geometry, self._seed = images, targets, geometry, seed

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, position = key
        generator = np.random.default_rng([self._seed, epoch, position]) if epoch >= 0 else None
        move = self._geometry.draw(generator)
        target = self._targets[position]
        return self._geometry.move_image(self._images[position], *move), self._geometry.move_target(target, *move)


def image_batches(images: SquashedImages, positions: Sequence[int], batch: int) -> Iterator[Tensor]:
    """Batches `(B, 3, H, W)` uint8, channels-last, in the order of `positions`."""
    for pictures in _loader(images, batch_size=batch, sampler=list(positions)):
        yield pictures.contiguous(memory_format=torch.channels_last)


def training_batches(pairs: TrainingSet, batches: list[list[tuple[int, int]]]) -> Iterator[Batch]:
    """One `Batch` for each list of keys, in order."""
    for pictures, targets in _loader(pairs, batch_sampler=batches):
        yield Batch(pictures, targets)


def _loader(items: Dataset[Any], **order: Any) -> "DataLoader[Any]":
    """A loader that leaves torch's random state alone, so that a resumed epoch goes on like an undisturbed one."""
    return DataLoader(items, num_workers=loader_workers(), prefetch_factor=4, generator=torch.Generator(), **order)
