from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from wsol_core.boxes import Boxes
from wsol_core.regions import boxes_at_thresholds, largest_component_box, map_box, upsample


def f32(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def naive_largest(binary: npt.NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Flood fill from every pixel; the order of ties is the documented one."""
    seen, found = np.zeros(binary.shape, bool), []
    for start in zip(*np.nonzero(binary), strict=True):
        if seen[start]:
            continue
        queue, pixels = deque([start]), []
        seen[start] = True
        while queue:
            y, x = queue.popleft()
            pixels.append((y, x))
            for v in range(max(0, y - 1), min(binary.shape[0], y + 2)):
                for u in range(max(0, x - 1), min(binary.shape[1], x + 2)):
                    if binary[v, u] and not seen[v, u]:
                        seen[v, u] = True
                        queue.append((v, u))
        ys, xs = zip(*pixels, strict=True)
        x0, y0, x1, y1 = min(xs), min(ys), max(xs) + 1, max(ys) + 1
        found.append((-len(pixels), y0, x0, y1 - y0, x1 - x0))
    if not found:
        return None
    _, y0, x0, height, width = min(found)
    return x0, y0, x0 + width, y0 + height


@pytest.mark.parametrize("density", [0.05, 0.2, 0.4, 0.9])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 12), (20, 20)])
def test_largest_component_is_that_of_a_flood_fill(shape: tuple[int, int], density: float) -> None:
    rng = np.random.default_rng([*shape, int(100 * density)])
    for _ in range(20):
        binary = rng.random(shape) < density
        assert largest_component_box(binary) == naive_largest(binary)


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


def naive_box(score_map: npt.NDArray[np.float32], threshold: float, width: int, height: int, resolution: int) -> Boxes:
    found = naive_largest(upsample(score_map, resolution, resolution) > np.float32(threshold))
    box = np.array(found or (0, 0, resolution, resolution), dtype=np.float32)
    return box * np.array([width, height, width, height], dtype=np.float32) / np.float32(resolution)


@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (14, 14), (40, 40)])
def test_boxes_at_thresholds_are_those_of_each_threshold_alone(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape)
    thresholds = np.arange(0, 1, 0.07)
    for _ in range(5):
        score_map = rng.random(shape).astype(np.float32) ** 2
        boxes = boxes_at_thresholds(score_map, thresholds, 50, 33, 24)
        assert boxes.dtype == np.float32
        expected = [naive_box(score_map, threshold, 50, 33, 24) for threshold in thresholds]
        np.testing.assert_array_equal(boxes, expected)
        alone = [map_box(score_map, threshold, 50, 33, 24) for threshold in thresholds]
        np.testing.assert_array_equal(boxes, alone)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_map_gives_the_whole_image_at_every_threshold(value: float) -> None:
    boxes = boxes_at_thresholds(np.full((4, 4), value, np.float32), np.arange(100) / 100, 31, 17, 224)
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
