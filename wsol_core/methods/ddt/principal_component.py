"""The first principal component of feature maps' descriptors, from a stream of them or from a block in memory.

The sign of a principal component is arbitrary, so it is fixed here: the projection is larger inside than along the
border of the feature map, on average.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

ROWS = 512
"""Descriptors per product: few enough to stay in the processor's cache between the two products of a step."""
KRYLOV, TOLERANCE = 8, 1e-6


@dataclass(frozen=True)
class Component:
    """The mean descriptor and first principal component of a set of descriptors, `(C,)` float32 each."""

    mean: Tensor
    direction: Tensor

    def project(self, features: Tensor) -> Tensor:
        """The projections `(B, h, w)` float32 of `features (B, C, h, w)`, 0 at the mean descriptor."""
        direction = self.direction.to(features.device)
        offset = float(self.mean @ self.direction)
        return torch.einsum("bchw,c->bhw", features.float(), direction) - offset  # (B, h, w)


def orient(direction: Tensor, contrast: Tensor) -> Tensor:
    """`direction` or its opposite, whichever makes the projection of `contrast` (inside minus border) positive."""
    return direction if float(direction @ contrast) >= 0 else -direction


class Sums:
    """Sums of the descriptors of feature maps, over all positions and over those off the border.

    Attributes:
        count: descriptors so far.
        total: `(C,)` float64, their sum.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.total = torch.zeros(channels, dtype=torch.float64)
        self._inside_count = 0
        self._inside = torch.zeros(channels, dtype=torch.float64)

    def add(self, descriptors: Tensor) -> None:
        """Add `descriptors (B, h, w, C)` float32."""
        count, height, width, _ = descriptors.shape
        sums = descriptors.sum(0).double().cpu()
        self.count += count * height * width
        self.total += sums.sum((0, 1))
        self._inside_count += count * max(0, height - 2) * max(0, width - 2)
        self._inside += sums[1:-1, 1:-1].sum((0, 1))

    @property
    def mean(self) -> Tensor:
        """The mean descriptor `(C,)` float64."""
        return self.total / self.count

    @property
    def contrast(self) -> Tensor:
        """The mean descriptor off the border minus that on the border, `(C,)` float64; of no descriptors it is 0."""
        border_count = self.count - self._inside_count
        return self._inside / max(1, self._inside_count) - (self.total - self._inside) / max(1, border_count)

    def component(self, covariance: "npt.NDArray[np.float64] | LinearOperator") -> Component:
        """The component whose direction is the leading eigenvector of `covariance (C, C)`; any, if that is 0."""
        start = np.random.default_rng(0).standard_normal(len(self.total))
        vectors = start[:, None] / np.linalg.norm(start)
        if (covariance @ start).any():
            _, vectors = eigsh(covariance, k=1, which="LA", v0=start, ncv=min(KRYLOV, len(start)), tol=TOLERANCE)
        direction = torch.from_numpy(vectors[:, 0].copy())
        return Component(self.mean.float(), orient(direction, self.contrast).float())


class Moments:
    """Running sums over the descriptors of a stream of feature maps; memory is `C x C` however many there are."""

    def __init__(self, channels: int) -> None:
        self._sums = Sums(channels)
        self._outer = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Add the descriptors of `features (B, C, h, w)`."""
        descriptors = features.float().permute(0, 2, 3, 1)  # (B, h, w, C)
        rows = descriptors.flatten(0, 2)  # (B * h * w, C)
        with _fast_products_of(features.dtype):
            self._outer += (rows.T @ rows).double().cpu()  # (C, C)
        self._sums.add(descriptors)

    def component(self) -> Component:
        """The mean and the first principal component of the descriptors seen so far."""
        mean = self._sums.mean
        covariance = self._outer / self._sums.count - torch.outer(mean, mean)
        return self._sums.component(covariance.numpy())


def block_component(features: Tensor) -> Component:
    """The mean and the first principal component of the descriptors of `features (B, C, h, w)`.

    The same as with `Moments`, without the `C x C` matrix: the covariance is applied to a vector, not formed.
    """
    descriptors = features.float().permute(0, 2, 3, 1)  # (B, h, w, C)
    sums = Sums(features.shape[1])
    sums.add(descriptors)
    blocks = torch.split(descriptors.flatten(0, 2), ROWS)  # (ROWS, C) each
    mean = sums.mean.to(descriptors)

    def covariance_times(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        direction = torch.from_numpy(vector.ravel()).to(descriptors)
        offset = mean @ direction
        product = torch.zeros_like(mean)
        for rows in blocks:
            product.addmv_(rows.T, rows @ direction - offset)
        return np.asarray(product.double().cpu().numpy()) / sums.count

    channels = len(mean)
    return sums.component(LinearOperator((channels, channels), matvec=covariance_times, dtype=np.float64))


@contextmanager
def _fast_products_of(dtype: torch.dtype) -> Iterator[None]:
    """Let float32 products of numbers that came as bfloat16 run on bfloat16 units; sums stay float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if dtype == torch.bfloat16 else "highest")
    yield
    torch.set_float32_matmul_precision(before)
