"""Gaussian prior pseudo labels against a naive loop over pixels, by hand, and on degenerate maps."""

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.core.test_regions import naive_components
from wsol_core.methods.spol.gaussian import ContourParams, GaussianParams, contour_prior, gaussian_prior, pseudo_labels

SIDE = 16
FORMS = {
    "paper": GaussianParams(maps="cam", resolution=SIDE),
    "released code": GaussianParams(
        maps="cam", form="contours", resolution=SIDE, enhancement=0.25, foreground=0.25, background=0.01
    ),
    "without threshold": GaussianParams(maps="cam", form="alone", resolution=SIDE),
    "without enhancement": GaussianParams(maps="cam", resolution=SIDE, enhancement=1),
}


def naive_gaussian(score_map: np.ndarray, pixels: Iterable[tuple[int, int]], spread: float = 1) -> np.ndarray:
    """SPOL Eqs. 5 and 6 of some pixels (y, x) one by one, divided by the peak of Eq. 6."""
    total = sum(score_map[point] for point in pixels)
    if not total:
        return np.zeros(score_map.shape)
    points = [(x, y, score_map[y, x] / total) for y, x in pixels]
    mu_x = sum(w * x for x, y, w in points)
    mu_y = sum(w * y for x, y, w in points)
    sigma_x = math.sqrt(max(0.25, spread * sum(w * (x - mu_x) ** 2 for x, y, w in points)))
    sigma_y = math.sqrt(max(0.25, spread * sum(w * (y - mu_y) ** 2 for x, y, w in points)))
    rho = spread * sum(w * (x - mu_x) * (y - mu_y) for x, y, w in points) / (sigma_x * sigma_y)
    rho = min(0.99, max(-0.99, rho))
    peak = 1 / (2 * math.pi * sigma_x * sigma_y * math.sqrt(1 - rho**2))
    result = np.zeros(score_map.shape)
    for y, x in np.ndindex(score_map.shape):
        theta = (
            (x - mu_x) ** 2 / sigma_x**2
            - 2 * rho * (x - mu_x) * (y - mu_y) / (sigma_x * sigma_y)
            + (y - mu_y) ** 2 / sigma_y**2
        )
        density = math.exp(-theta / (2 * (1 - rho**2))) * peak
        result[y, x] = density / peak
    return result


def whole(score_map: np.ndarray) -> np.ndarray:
    return naive_gaussian(score_map, list(np.ndindex(score_map.shape)))


def naive_contours(score_map: np.ndarray, params: ContourParams) -> np.ndarray:
    result = np.zeros(score_map.shape)
    for pixels in naive_components((score_map >= params.low) & (score_map <= params.high)):
        if len(pixels) >= params.min_area:
            result = np.maximum(result, naive_gaussian(score_map, pixels, params.spread))
    return result


def naive_label(value: float, gaussian: float, name: str) -> int:
    """The rules of the paper, of its Table 4 and of the released code in their own words."""
    if name == "without threshold":
        return int(gaussian > 0.7)
    if name == "released code":
        foreground, background = value > 0.25 or gaussian > 0.25, value < 0.01
    else:
        enhanced = gaussian if name == "paper" and gaussian > 0.7 else 0.0
        foreground, background = max(value, enhanced) > 0.5, max(value, enhanced) < 0.004
    return 1 if foreground else 0 if background else 255


def hills(seed: int, height: int, width: int) -> np.ndarray:
    """Two or three narrow hills with a little noise: several regions of middling scores."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    scores = 0.01 * rng.random((height, width))
    for _ in range(rng.integers(2, 4)):
        centre, width_of = rng.uniform(0, (height, width)), rng.uniform(1, 3)
        distance = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
        scores = np.maximum(scores, rng.uniform(0.4, 1) * np.exp(-distance / (2 * width_of**2)) - 0.02)
    return np.clip(scores, 0, 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_prior_equals_naive(seed: int) -> None:
    maps = np.random.default_rng(seed).random((3, 7, 11)) ** 3
    found = gaussian_prior(torch.from_numpy(maps)).numpy()
    assert np.allclose(found, np.stack([whole(m) for m in maps]), atol=1e-4)


@pytest.mark.parametrize("min_area", [1, 4])
@pytest.mark.parametrize("shape", [(12, 21), (20, 20), (1, 40)])
def test_contour_prior_equals_naive(shape: tuple[int, int], min_area: int) -> None:
    maps = np.stack([hills(seed, *shape) for seed in range(6)])
    maps /= maps.max((1, 2), keepdims=True)
    params = ContourParams(min_area=min_area, spread=0.3)
    expected = np.stack([naive_contours(m, params) for m in maps])
    assert max(len(naive_components((m >= params.low) & (m <= params.high))) for m in maps) > 1
    assert expected.max() > 0.5
    assert np.allclose(contour_prior(torch.from_numpy(maps), params).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("shape", [(SIDE, SIDE), (9, 13)])
def test_labels_equal_naive(name: str, shape: tuple[int, int]) -> None:
    params = FORMS[name]
    maps = np.stack([hills(seed, *shape) for seed in range(8)])
    found = pseudo_labels(torch.from_numpy(maps), params).numpy()
    seen = set()
    for score_map, labels in zip(maps, found, strict=True):
        values = cv2.resize(score_map, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        values = values / values.max()
        gaussian = naive_contours(values, params.contours) if params.form == "contours" else whole(values)
        expected = np.vectorize(naive_label)(values, gaussian, name)
        near = [np.abs(each - edge) < 1e-4 for each in (values, gaussian) for edge in (0.004, 0.01, 0.25, 0.5, 0.7)]
        assert ((labels == expected) | np.any(near, axis=0)).all()
        seen |= set(labels.flat)
    assert seen == ({0, 1} if name == "without threshold" else {0, 1, 255})


def test_two_pixels_by_hand() -> None:
    """Equal responses at x = 1 and x = 3: mean 2, sigma 1, so the Gaussian is exp(-.5) one pixel off the mean."""
    score_map = torch.zeros(1, 1, 5)
    score_map[0, 0, [1, 3]] = 0.8
    found = gaussian_prior(score_map)[0, 0]
    assert found[2] == pytest.approx(1)
    assert found[1] == pytest.approx(math.exp(-0.5), abs=1e-5)
    assert found[0] == pytest.approx(math.exp(-2), abs=1e-5)


def test_correlation_by_hand() -> None:
    """Responses 3, 3, 1, 1 at (1, 1), (3, 3), (1, 3), (3, 1): mean (2, 2), both sigmas 1, rho = (6 - 2) / 8 = .5.

    Eq. 5 one pixel to the right is Theta = 1, in Eq. 6 exp(-1 / 1.5); diagonally Theta = 2 - 1 = 1 with the
    correlation and 2 + 1 = 3 against it.
    """
    score_map = torch.zeros(1, 5, 5)
    score_map[0, [1, 3, 1, 3], [1, 3, 3, 1]] = torch.tensor([0.3, 0.3, 0.1, 0.1])
    found = gaussian_prior(score_map)[0]
    assert found[2, 2] == pytest.approx(1)
    assert found[2, 3] == found[1, 2] == pytest.approx(math.exp(-1 / 1.5), abs=1e-5)
    assert found[1, 1] == pytest.approx(math.exp(-1 / 1.5), abs=1e-5)
    assert found[1, 3] == pytest.approx(math.exp(-3 / 1.5), abs=1e-5)


def test_spread_by_hand() -> None:
    """Equal responses at x = 0 and x = 8 have variance 16; a quarter of it is sigma 2."""
    score_map = torch.zeros(1, 1, 9)
    score_map[0, 0, [0, 8]] = 1
    assert gaussian_prior(score_map, 0.25)[0, 0, 6] == pytest.approx(math.exp(-0.5), abs=1e-5)


def test_each_contour_leaves_the_ground_between_alone() -> None:
    """Two blobs of middling scores beside the maximum: one Gaussian covers the gap, two do not."""
    score_map = torch.zeros(1, 24, 40)
    score_map[0, 8:16, [2, 37]] = 0.4
    score_map[0, 8:16, 2:10] = score_map[0, 8:16, 30:38] = 0.4
    score_map[0, 0, 0] = 1
    contours, gap = contour_prior(score_map, ContourParams())[0], (12, 20)
    assert gaussian_prior(score_map)[0][gap] > 0.7
    assert contours[gap] < 1e-6
    assert contours[11:13, 5:7].min() > 0.5 < contours[11:13, 33:35].min()


def test_small_regions_get_no_gaussian() -> None:
    score_map = torch.zeros(1, 9, 9)
    score_map[0, 2:6, 2:6] = 0.3
    assert contour_prior(score_map, ContourParams(min_area=17)).eq(0).all()
    assert contour_prior(score_map, ContourParams(min_area=16)).max() > 0.1


def test_degenerate_maps() -> None:
    assert gaussian_prior(torch.zeros(1, 4, 4)).abs().sum() == 0
    assert gaussian_prior(torch.ones(1, 1, 1)).item() == 1
    one = torch.zeros(1, 5, 5)
    one[0, 2, 2] = 0.3
    assert gaussian_prior(one)[0, 2, 2] == 1 > gaussian_prior(one)[0, 2, 3] > 0
    line = gaussian_prior(torch.eye(9)[None])
    assert torch.isfinite(line).all()
    assert line.max() <= 1
    for prior in (gaussian_prior, lambda maps: contour_prior(maps, ContourParams())):
        assert prior(torch.zeros(0, 4, 4)).shape == (0, 4, 4)
        assert prior(torch.zeros(2, 3, 5)).eq(0).all()


def test_labels_by_hand() -> None:
    params = GaussianParams(maps="cam", resolution=4, enhancement=1.0, foreground=0.5, background=0.1)
    maps = torch.tensor([0.02, 0.06, 0.26, 0.4]).repeat(1, 4, 1)
    assert pseudo_labels(maps, params)[0, 0].tolist() == [0, 255, 1, 1]


def test_gaussian_fills_what_the_map_leaves_out() -> None:
    score_map = torch.zeros(1, 9, 9)
    score_map[0, [2, 6, 4, 4], [4, 4, 2, 6]] = 1
    plain = pseudo_labels(score_map, GaussianParams(maps="cam", resolution=9, enhancement=1.0))
    joined = pseudo_labels(score_map, GaussianParams(maps="cam", resolution=9, enhancement=0.7))
    alone = pseudo_labels(score_map, GaussianParams(maps="cam", form="alone", resolution=9, enhancement=0.7))
    assert plain[0, 4, 4] == 0
    assert joined[0, 4, 4] == alone[0, 4, 4] == 1
    assert joined[0, 0, 0] == alone[0, 0, 0] == 0
    assert joined[0, 2, 4] == 1 != alone[0, 2, 4]


@pytest.mark.parametrize("name", FORMS)
def test_labels_of_empty_constant_and_one_pixel_maps(name: str) -> None:
    params = FORMS[name]
    assert pseudo_labels(torch.zeros(2, 3, 5), params).eq(0).all()
    constant = pseudo_labels(torch.full((1, 3, 5), 0.2), params)
    assert constant[0, SIDE // 2, SIDE // 2] == 1
    assert constant.eq(1).all() == (name != "without threshold")
    assert pseudo_labels(torch.full((1, 1, 1), 0.2), params).eq(constant).all()
    assert pseudo_labels(torch.zeros(0, 3, 5), params).shape == (0, SIDE, SIDE)
    only: Any = torch.zeros(1, SIDE, SIDE)
    only[0, 3, 5] = 0.1
    found = pseudo_labels(only, params)
    assert found[0, 3, 5] == 1
    assert found.eq(1).sum() == 1
