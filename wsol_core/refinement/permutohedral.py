"""Gaussian filtering of scattered values on the permutohedral lattice, as sparse matrices.

Adams, Baek and Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice, Eurographics 2010: each point
gives its values to the vertices of the simplex around it (splat), the vertices exchange them with their neighbours
along each axis of the lattice (blur), and each point takes values back with the same weights (slice).
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, eye_array

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

GOLDEN = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio, odd."""


class GaussianFilter:
    """Multiplies by the kernel `exp(-|f_i - f_j|^2 / 2)` over points, normalised symmetrically, self included.

    Symmetrically: divided by the square roots of the sums of its row and its column (of what the lattice makes of
    them), as Kraehenbuehl and Koltun's code does. Approximate: the lattice's kernel is piecewise linear and depends on
    where points lie in it; values that reach a vertex without points near are lost.
    """

    def __init__(self, features: npt.NDArray[np.floating]) -> None:
        """Of the points `features` `(N, d)`, in standard deviations."""
        vertices, weights, steps = _simplices(np.asarray(features, dtype=np.float32))
        occupied, numbers = np.unique(vertices, return_inverse=True)
        points, corners = weights.shape
        shape = (points, len(occupied))
        self._slice = csr_array((weights.ravel(), numbers.ravel(), np.arange(points + 1) * corners), shape=shape)
        self._splat = csr_array(self._slice.T)
        self._blurs = [_blur(occupied, step) for step in steps]
        self._scale: FloatArray = self._filter(np.ones((points, 1), dtype=np.float32)) ** np.float32(-0.5)

    def __call__(self, values: FloatArray) -> FloatArray:
        """The product `(N, C)` with `values` `(N, C)`, float32."""
        return self._scale * self._filter(self._scale * values)

    def _filter(self, values: FloatArray) -> FloatArray:
        held = self._splat @ values
        for blur in self._blurs:
            held = blur @ held
        return np.asarray(self._slice @ held)


def _simplices(features: FloatArray) -> tuple[IntArray, FloatArray, IntArray]:
    """The simplex around each point, and the steps of the lattice.

    Returns:
        A number `(N, d + 1)` for each vertex, its weight, and what the numbers grow by `(d + 1,)` on a step along each
        axis. The numbers are linear in the coordinates, modulo 2**64: two vertices share one by chance of 1 in 2**64.
    """
    corners = features.shape[1] + 1
    axis, corner = np.arange(corners - 1), np.arange(corners)
    factors = np.array([*(pow(GOLDEN, power, 1 << 64) for power in range(1, corners)), 0], dtype=np.uint64).view(
        np.int64
    )

    spread = np.sqrt(2 / 3 / (axis + 1) / (axis + 2))
    embedding = (np.triu(np.ones((corners, corners - 1))) - np.eye(corners, corners - 1, -1) * (axis + 1)) * spread
    places = features @ embedding.T.astype(np.float32)
    nearest = np.ceil(places - np.float32(0.5))
    excess = nearest.sum(1, keepdims=True).astype(np.int64)
    offsets = places - nearest
    turns, ranks = np.divmod(corners - 1 - corner - excess, corners)
    order = np.take_along_axis(np.argsort(-offsets, axis=1, kind="stable"), ranks, axis=1)
    offsets = np.take_along_axis(offsets, order, axis=1) - turns.astype(np.float32)
    weights = np.diff(offsets, axis=1, prepend=offsets[:, -1:] - 1)

    passed = factors[order].cumsum(1) - factors[order]
    origin = nearest.astype(np.int64) @ factors + (turns * factors[order]).sum(1)
    numbers = corner * factors.sum() + corners * (origin[:, None] - passed)
    return numbers, weights, corners * factors - factors.sum()


def _blur(vertices: IntArray, step: np.int64) -> csr_array:
    """The matrix that adds to each vertex half of its two neighbours along an axis; `vertices` ascend."""
    neighbours = np.minimum(np.searchsorted(vertices, vertices + step), len(vertices) - 1)
    there = np.flatnonzero(vertices[neighbours] == vertices + step)
    shape = (len(vertices), len(vertices))
    half = csr_array((np.full(len(there), 0.5, np.float32), (there, neighbours[there])), shape=shape)
    return csr_array(eye_array(len(vertices), dtype=np.float32) + half + half.T)
