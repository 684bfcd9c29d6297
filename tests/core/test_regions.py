from collections import deque
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from wsol_core.core.boxes import Boxes
from wsol_core.core.regions import (
    Scale,
    boxes_at_thresholds,
    largest_component,
    largest_component_box,
    map_box,
    map_boxes,
    otsu_threshold,
    rescale,
    upsample,
)


def f32(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


Pixels = list[tuple[int, int]]


def naive_components(binary: npt.NDArray[np.bool_]) -> list[Pixels]:
    """Flood fill from every pixel: the pixels (y, x) of each 8-connected component."""
    seen, found = np.zeros(binary.shape, bool), []
    for start in zip(*np.nonzero(binary), strict=True):
        if seen[start]:
            continue
        queue, pixels = deque([start]), []
        seen[start] = True
        while queue:
            y, x = queue.popleft()
            pixels.append((int(y), int(x)))
            for v in range(max(0, y - 1), min(binary.shape[0], y + 2)):
                for u in range(max(0, x - 1), min(binary.shape[1], x + 2)):
                    if binary[v, u] and not seen[v, u]:
                        seen[v, u] = True
                        queue.append((v, u))
        found.append(pixels)
    return found


def bounds(pixels: Pixels) -> tuple[int, int, int, int]:
    ys, xs = zip(*pixels, strict=True)
    return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def by_place(pixels: Pixels) -> tuple[int, int, int, int]:
    """The documented order of ties: highest, leftmost, lower, narrower."""
    x0, y0, x1, y1 = bounds(pixels)
    return y0, x0, y1 - y0, x1 - x0


def naive_largest(binary: npt.NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    found = naive_components(binary)
    return bounds(min(found, key=lambda pixels: (-len(pixels), *by_place(pixels)))) if found else None


@pytest.mark.parametrize("density", [0.05, 0.2, 0.4, 0.9])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 12), (20, 20)])
def test_largest_component_is_that_of_a_flood_fill(shape: tuple[int, int], density: float) -> None:
    rng = np.random.default_rng([*shape, int(100 * density)])
    for _ in range(20):
        binary = rng.random(shape) < density
        assert largest_component_box(binary) == naive_largest(binary)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.2, 0.4, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 12), (20, 20)])
def test_the_pixels_of_the_largest_component_are_those_of_its_box(shape: tuple[int, int], density: float) -> None:
    rng = np.random.default_rng([*shape, int(100 * density)])
    for _ in range(20):
        binary = rng.random(shape) < density
        found, box = largest_component(binary), largest_component_box(binary)
        pixels = [(int(y), int(x)) for y, x in zip(*np.nonzero(found), strict=True)]
        assert found.shape == shape
        assert sorted(pixels) in [sorted(each) for each in naive_components(binary)] or not binary.any()
        assert (bounds(pixels) if pixels else None) == box


def test_diagonal_pixels_are_connected_and_pixels_count_rather_than_extent() -> None:
    binary = np.zeros((10, 10), bool)
    binary[np.arange(5), np.arange(5)] = True
    binary[7:9, 6:9] = True
    assert largest_component_box(binary) == (6, 7, 9, 9)
    binary[5, 5] = binary[6, 6] = True
    assert largest_component_box(binary) == (0, 0, 9, 9)


def test_of_equal_components_the_highest_wins_then_the_leftmost() -> None:
    binary = np.zeros((6, 9), bool)
    binary[1, 7] = binary[2, 0] = binary[5, 3] = True
    assert largest_component_box(binary) == (7, 1, 8, 2)
    binary[1, 2] = True
    assert largest_component_box(binary) == (2, 1, 3, 2)


def test_more_components_than_16_bits_count() -> None:
    binary = np.zeros((600, 600), bool)
    binary[::2, ::2] = True
    binary[599, 590:599] = True
    assert largest_component_box(binary) == (590, 598, 599, 600)


SCALES: tuple[Scale, ...] = ("value", "maximum", "percentile", "otsu", "otsu_root", "otsu_logit")


def naive_otsu(grid: npt.NDArray[np.float32]) -> float:
    """Between which two neighbouring scores the two sides vary least within themselves; halfway between them."""
    values = sorted({float(value) for value in grid.ravel()})
    scores = grid.astype(np.float64).ravel()
    best, found = np.inf, values[0]
    for lower, upper in pairwise(values):
        sides = scores[scores <= lower], scores[scores >= upper]
        within = sum(((side - side.mean()) ** 2).sum() for side in sides)
        if within < best - 1e-12:
            best, found = within, (lower + upper) / 2
    return found


def naive_rescale(grid: npt.NDArray[np.float32], scale: Scale) -> npt.NDArray[np.float32]:
    if scale == "value":
        return grid
    if scale == "maximum":
        return f32([[value / grid.max() if grid.max() > 0 else 0 for value in row] for row in grid])
    if scale in ("otsu", "otsu_root", "otsu_logit"):
        if scale == "otsu_logit":
            inner = np.clip(grid, np.float32(1e-3), np.float32(0.999))
            grid = np.log(inner / (1 - inner)) + np.float32(np.log(999))
        grid = np.sqrt(grid) if scale == "otsu_root" else grid
        low, middle, high = float(grid.min()), naive_otsu(grid), float(grid.max())
        if np.isclose(low, high, rtol=1e-6, atol=0):
            return np.zeros_like(grid)
        return f32([[
            0.5 + 0.5 * (value - middle) / (high - middle) if value > middle else 0.5 * (value - low) / (middle - low)
            for value in row
        ] for row in grid.astype(np.float64)])  # fmt: skip
    return f32([[(grid < value).sum() / grid.size for value in row] for row in grid])


def on_image(box: tuple[int, ...], width: int, height: int, resolution: int) -> Boxes:
    return f32(box) * f32([width, height, width, height]) / np.float32(resolution)


def naive_box(
    score_map: npt.NDArray[np.float32], threshold: float, width: int, height: int, resolution: int, scale: Scale
) -> Boxes:
    grid = naive_rescale(upsample(score_map, resolution, resolution), scale)
    found = naive_largest(grid > np.float32(threshold))
    return on_image(found or (0, 0, resolution, resolution), width, height, resolution)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 9), (30, 30)])
def test_rescale_equals_naive(shape: tuple[int, int], scale: Scale) -> None:
    rng = np.random.default_rng(shape)
    for grid in (rng.random(shape), np.round(rng.random(shape), 1), np.zeros(shape), np.full(shape, 0.3)):
        found = rescale(f32(grid), scale)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, naive_rescale(f32(grid), scale), rtol=1e-6, atol=1e-7)


def test_rescale_by_hand() -> None:
    grid = f32([[0.1, 0.4], [0.1, 0.2]])
    assert rescale(grid, "value") is grid
    np.testing.assert_allclose(rescale(grid, "maximum"), [[0.25, 1], [0.25, 0.5]])
    np.testing.assert_array_equal(rescale(grid, "percentile"), [[0, 0.75], [0, 0.5]])
    # Otsu parts .2 from .4, halfway at .3.
    np.testing.assert_allclose(rescale(grid, "otsu"), f32([[0, 1], [0, 0.25]]), rtol=1e-6)
    # From the logit of .001 those of .5 and .9 are log 999 and log 8991; Otsu parts below both.
    half, high = np.log(999) / 2, np.log(8991)
    expected = [[0, 0.5 + 0.5 * half / (high - half), 1]]
    np.testing.assert_allclose(rescale(f32([[0, 0.5, 0.9]]), "otsu_logit"), expected, rtol=1e-4)
    # The roots .4 and .9 of .16 and .81 are parted at .65, so .16 lies halfway to it from 0.
    np.testing.assert_allclose(rescale(f32([[0, 0.16, 0.81]]), "otsu_root"), [[0, 0.4 / 1.3, 1]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 2), (3, 11), (40, 25)])
def test_on_otsus_scale_a_half_parts_the_pixels_as_otsus_threshold_does(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape)
    for grid in (f32(rng.random(shape) ** 4), f32(np.round(rng.random(shape), 1)), f32(rng.random(shape) < 0.3)):
        if grid.min() == grid.max():
            continue
        scores = rescale(grid, "otsu")
        np.testing.assert_array_equal(scores > np.float32(0.5), grid > otsu_threshold(grid))
        assert otsu_threshold(grid) == pytest.approx(naive_otsu(grid), abs=1e-6)
        assert (scores.min(), scores.max()) == (0, 1)
        assert (np.diff(scores.ravel()[np.argsort(grid, axis=None)]) >= 0).all()


def test_a_score_a_hair_above_otsus_threshold_is_foreground() -> None:
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    grid = f32([[0, 0, low, high, 1, 1]])
    above = grid > otsu_threshold(grid)
    np.testing.assert_array_equal(rescale(grid, "otsu") > np.float32(0.5), above)
    assert above.any()
    assert not above.all()


@pytest.mark.parametrize(("shape", "value"), [((1, 1), 0.0), ((1, 1), 0.7), ((4, 9), 1.0)])
def test_a_constant_map_is_zero_on_otsus_scale(shape: tuple[int, int], value: float) -> None:
    np.testing.assert_array_equal(rescale(np.full(shape, value, np.float32), "otsu"), np.zeros(shape))
    assert otsu_threshold(np.full(shape, value, np.float32)) == np.float32(value)


def test_a_percentile_leaves_that_share_of_different_scores() -> None:
    grid = f32(np.random.default_rng(0).permutation(100).reshape(10, 10) / 200)
    for threshold in (0.0, 0.25, 0.5, 0.9):
        assert (rescale(grid, "percentile") > threshold).sum() == 99 - 100 * threshold


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (14, 14), (40, 40)])
def test_boxes_at_thresholds_are_those_of_each_threshold_alone(shape: tuple[int, int], scale: Scale) -> None:
    rng = np.random.default_rng(shape)
    thresholds = np.arange(0, 1, 0.07)
    for _ in range(5):
        score_map = f32(rng.random(shape) ** 2 / 2)
        boxes = boxes_at_thresholds(score_map, thresholds, 50, 33, 24, scale)
        assert boxes.dtype == np.float32
        expected = [naive_box(score_map, threshold, 50, 33, 24, scale) for threshold in thresholds]
        np.testing.assert_array_equal(boxes, expected)
        alone = [map_box(score_map, threshold, 50, 33, 24, scale) for threshold in thresholds]
        np.testing.assert_array_equal(boxes, alone)


def test_the_scale_is_of_the_upsampled_map_and_halving_a_map_changes_only_its_values() -> None:
    score_map = f32(np.random.default_rng(3).random((7, 7)))
    for scale in ("maximum", "percentile", "otsu"):
        whole, half = (
            boxes_at_thresholds(each, f32([0.3, 0.6]), 70, 70, 56, scale) for each in (score_map, score_map / 2)
        )
        np.testing.assert_array_equal(whole, half)
    assert (map_box(score_map, 0.6, 70, 70, 56) != map_box(score_map / 2, 0.6, 70, 70, 56)).any()


def naive_boxes(
    score_map: npt.NDArray[np.float32], threshold: float, size: tuple[int, int, int], scale: Scale, min_area: float
) -> list[tuple[float, Boxes]]:
    grid = upsample(score_map, size[2], size[2])
    found = naive_components(naive_rescale(grid, scale) > np.float32(threshold))
    if not found:
        return [(float(grid.mean()), on_image((0, 0, size[2], size[2]), *size))]
    kept = [pixels for pixels in found if len(pixels) >= min(min_area * grid.size, max(map(len, found)))]
    scores = [sum(float(grid[point]) for point in pixels) / grid.size for pixels in kept]
    ranked = sorted(zip(scores, kept, strict=True), key=lambda pair: (-pair[0], *by_place(pair[1])))
    return [(score, on_image(bounds(pixels), *size)) for score, pixels in ranked]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("min_area", [0, 0.02, 1])
@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (20, 20)])
def test_all_components_equal_naive(shape: tuple[int, int], min_area: float, scale: Scale) -> None:
    rng = np.random.default_rng(shape)
    counts = set()
    for threshold in (0.1, 0.4, 0.8, 1.0):
        score_map = rng.random(shape).astype(np.float32)
        boxes, scores = map_boxes(score_map, threshold, 50, 33, 20, scale, min_area)
        expected = naive_boxes(score_map, threshold, (50, 33, 20), scale, min_area)
        assert boxes.dtype == scores.dtype == np.float32
        np.testing.assert_allclose(scores, [score for score, _ in expected], rtol=1e-5)
        np.testing.assert_array_equal(boxes, [box for _, box in expected])
        counts.add(len(boxes))
    assert 1 in counts
    if scale != "otsu_logit":  # the logits of noise leave specks, and one region
        assert (max(counts) > 1) == (shape != (1, 1) and min_area < 1)


def test_all_components_by_hand() -> None:
    """A large one at .5 (12 pixels: 6 / 64) comes before a small one at 1 (4 pixels: 4 / 64) and a speck."""
    score_map = np.zeros((8, 8), np.float32)
    score_map[0:2, 0:2] = 1
    score_map[4:7, 3:7] = 0.5
    score_map[7, 0] = 0.9
    boxes, scores = map_boxes(score_map, 0.4, 16, 8, 8, min_area=2 / 64)
    np.testing.assert_array_equal(boxes, [[6, 4, 14, 7], [0, 0, 4, 2]])
    np.testing.assert_allclose(scores, [6 / 64, 4 / 64])
    assert len(map_boxes(score_map, 0.4, 16, 8, 8)[0]) == 3
    np.testing.assert_array_equal(map_boxes(score_map, 0.4, 16, 8, 8, min_area=1)[0], [[6, 4, 14, 7]])
    np.testing.assert_array_equal(boxes[0], map_box(score_map, 0.4, 16, 8, 8))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_of_a_constant_map_the_whole_image_is_the_one_component(value: float, scale: Scale) -> None:
    for threshold in (0.0, 0.2, 0.99):
        boxes, scores = map_boxes(np.full((3, 4), value, np.float32), threshold, 31, 17, 24, scale)
        np.testing.assert_array_equal(boxes, [[0, 0, 31, 17]])
        np.testing.assert_allclose(scores, [value], rtol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_map_gives_the_whole_image_at_every_threshold(value: float, scale: Scale) -> None:
    boxes = boxes_at_thresholds(np.full((4, 4), value, np.float32), np.arange(100) / 100, 31, 17, 224, scale)
    np.testing.assert_array_equal(boxes, np.tile(f32([0, 0, 31, 17]), (100, 1)))


def test_the_threshold_is_strict() -> None:
    score_map = np.full((8, 8), 0.2, np.float32)
    score_map[2:4, 2:6] = 0.6
    np.testing.assert_array_equal(map_box(score_map, 0.6, 16, 8, 8), [0, 0, 16, 8])
    np.testing.assert_array_equal(map_box(score_map, 0.59, 16, 8, 8), [4, 2, 12, 4])
    np.testing.assert_array_equal(map_box(score_map, 0.2, 16, 8, 8), [4, 2, 12, 4])


def test_upsample_aligns_pixel_centres() -> None:
    np.testing.assert_allclose(upsample(np.array([[0.0, 1.0]]), 1, 4), [[0, 0.25, 0.75, 1]])
    np.testing.assert_allclose(upsample(np.array([[0.5]]), 3, 2), np.full((3, 2), 0.5))
    np.testing.assert_allclose(upsample(np.arange(8.0).reshape(1, 8), 1, 2), [[1.5, 5.5]])
    assert upsample(np.zeros((3, 5), np.float16), 6, 7).shape == (6, 7)
