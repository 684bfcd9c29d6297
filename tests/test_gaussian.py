"""Gaussian prior pseudo labels against a naive loop over pixels, by hand, and on degenerate maps."""

import math

import numpy as np
import pytest
import torch

from wsol_core.gaussian import GaussianParams, gaussian_prior, pseudo_labels


def naive(score_map: np.ndarray) -> np.ndarray:
    """SPOL Eqs. 5 and 6 pixel by pixel, divided by the peak of Eq. 6."""
    total = score_map.sum()
    points = [(x, y, score_map[y, x] / total) for y in range(score_map.shape[0]) for x in range(score_map.shape[1])]
    mu_x = sum(w * x for x, y, w in points)
    mu_y = sum(w * y for x, y, w in points)
    sigma_x = math.sqrt(sum(w * (x - mu_x) ** 2 for x, y, w in points))
    sigma_y = math.sqrt(sum(w * (y - mu_y) ** 2 for x, y, w in points))
    rho = sum(w * (x - mu_x) * (y - mu_y) for x, y, w in points) / (sigma_x * sigma_y)
    peak = 1 / (2 * math.pi * sigma_x * sigma_y * math.sqrt(1 - rho**2))
    result = np.zeros_like(score_map)
    for x, y, _ in points:
        theta = (
            (x - mu_x) ** 2 / sigma_x**2
            - 2 * rho * (x - mu_x) * (y - mu_y) / (sigma_x * sigma_y)
            + (y - mu_y) ** 2 / sigma_y**2
        )
        density = math.exp(-theta / (2 * (1 - rho**2))) * peak
        result[y, x] = density / peak
    return result


@pytest.mark.parametrize("seed", range(5))
def test_prior_equals_naive(seed: int) -> None:
    maps = np.random.default_rng(seed).random((3, 7, 11)) ** 3
    found = gaussian_prior(torch.from_numpy(maps)).numpy()
    assert np.allclose(found, np.stack([naive(m) for m in maps]), atol=1e-4)


def test_two_pixels_by_hand() -> None:
    """Equal responses at x = 1 and x = 3: mean 2, sigma 1, so the Gaussian is exp(-.5) one pixel off the mean."""
    score_map = torch.zeros(1, 1, 5)
    score_map[0, 0, [1, 3]] = 0.8
    found = gaussian_prior(score_map)[0, 0]
    assert found[2] == pytest.approx(1)
    assert found[1] == pytest.approx(math.exp(-0.5), abs=1e-5)
    assert found[0] == pytest.approx(math.exp(-2), abs=1e-5)


def test_degenerate_maps() -> None:
    assert gaussian_prior(torch.zeros(1, 4, 4)).abs().sum() == 0
    assert gaussian_prior(torch.ones(1, 1, 1)).item() == 1
    one = torch.zeros(1, 5, 5)
    one[0, 2, 2] = 0.3
    assert gaussian_prior(one)[0, 2, 2] == 1 > gaussian_prior(one)[0, 2, 3] > 0
    line = torch.eye(9)[None]
    assert torch.isfinite(gaussian_prior(line)).all()
    assert gaussian_prior(torch.zeros(0, 4, 4)).shape == (0, 4, 4)


def test_labels_by_hand() -> None:
    params = GaussianParams(resolution=4, enhancement=1.0, foreground=0.5, background=0.1)
    maps = torch.tensor([0.02, 0.06, 0.26, 0.4]).repeat(1, 4, 1)
    assert pseudo_labels(maps, params)[0, 0].tolist() == [0, 255, 1, 1]


def test_gaussian_fills_what_the_map_leaves_out() -> None:
    score_map = torch.zeros(1, 9, 9)
    score_map[0, [2, 6, 4, 4], [4, 4, 2, 6]] = 1
    plain = pseudo_labels(score_map, GaussianParams(resolution=9, enhancement=1.0))
    joined = pseudo_labels(score_map, GaussianParams(resolution=9, enhancement=0.7))
    assert plain[0, 4, 4] == 0
    assert joined[0, 4, 4] == 1
    assert joined[0, 0, 0] == 0


def test_labels_of_an_empty_map_are_background() -> None:
    assert pseudo_labels(torch.zeros(1, 3, 5), GaussianParams(resolution=8)).eq(0).all()
    assert pseudo_labels(torch.full((1, 3, 5), 0.2), GaussianParams(resolution=8)).eq(1).all()
