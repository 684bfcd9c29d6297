"""The lattice filter against the whole kernel matrix, and its invariants."""

import numpy as np
import numpy.typing as npt
import pytest

from wsol_core.refinement.permutohedral import GaussianFilter

Array = npt.NDArray[np.float32]


def exact(features: Array, values: Array) -> npt.NDArray[np.float64]:
    distance = ((features[:, None].astype(float) - features[None]) ** 2).sum(2)
    kernel = np.exp(-distance / 2)
    scale = 1 / np.sqrt(kernel.sum(1))
    return np.asarray((scale[:, None] * kernel * scale) @ values)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_dense_points_are_filtered_as_by_the_kernel(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    features = rng.uniform(0, 2.5, (1200, dimensions)).astype(np.float32)
    values = np.stack([np.sin(2 * features[:, 0]), np.ones(1200), rng.uniform(size=1200)], 1).astype(np.float32)
    found, expected = GaussianFilter(features)(values), exact(features, values)
    assert found.dtype == np.float32
    assert np.abs(found - expected).mean() < 0.08 * np.abs(expected - values).mean()
    assert np.abs(found - expected).max() < 0.15


def test_the_filter_is_linear_symmetric_and_does_not_know_the_order_of_points() -> None:
    rng = np.random.default_rng(0)
    features = rng.uniform(-3, 3, (60, 4)).astype(np.float32)
    matrix = GaussianFilter(features)(np.eye(60, dtype=np.float32))
    values = rng.normal(size=(60, 2)).astype(np.float32)
    np.testing.assert_allclose(GaussianFilter(features)(values), matrix @ values, atol=1e-5)
    assert (matrix >= 0).all()
    assert (np.diag(matrix) > 0).all()
    order = rng.permutation(60)
    np.testing.assert_allclose(GaussianFilter(features[order])(values[order]), (matrix @ values)[order], atol=1e-5)


def test_points_far_apart_keep_their_values_and_equal_points_share_them() -> None:
    far = np.array([[0, 0], [1000, 0], [0, -1000]], np.float32)
    values = np.array([[1], [2], [3]], np.float32)
    np.testing.assert_allclose(GaussianFilter(far)(values), values, rtol=1e-5)
    np.testing.assert_allclose(GaussianFilter(np.full((3, 5), 7.3, np.float32))(values), 2, rtol=1e-5)
    np.testing.assert_allclose(GaussianFilter(np.zeros((1, 2)))(values[:1]), values[:1], rtol=1e-6)
