from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol_core.core.boxes import Boxes
from wsol_core.metrics.errors import ERROR_TYPES, SIZE_EDGES, error_types, shares_of_types, size_bins
from wsol_core.metrics.localization import GroundTruth

OBJECT = [0, 0, 20, 20]


def f32(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def types_of(predicted: list[int], *truth: list[int]) -> str:
    found = error_types(f32([predicted]), GroundTruth(f32(truth), np.zeros(len(truth), np.intp)))
    assert found.shape == (1,)
    return ERROR_TYPES[found[0]]


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([0, 0, 20, 11], "correct"),
        ([0, 0, 0, 0], "missing"),
        ([5, 5, 5, 9], "missing"),
        ([0, 0, 20, 40], "too_big"),
        ([0, 6, 40, 40], "too_big"),
        ([0, 7, 40, 40], "background"),
        ([0, 0, 20, 10], "too_small"),
        ([0, 0, 20, 5], "too_small"),
        ([0, 0, 19, 5], "part"),
        ([15, 15, 20, 24], "part"),
        ([15, 15, 20, 25], "background"),
        ([30, 30, 40, 40], "background"),
    ],
)
def test_one_object(predicted: list[int], expected: str) -> None:
    assert types_of(predicted, OBJECT) == expected


def test_two_objects() -> None:
    other = [30, 0, 50, 20]
    assert types_of([0, 0, 50, 20], OBJECT, other) == "multi_instance"
    assert types_of([13, 0, 37, 20], OBJECT, other) == "multi_instance"
    assert types_of([14, 0, 36, 20], OBJECT, other) == "background"
    assert types_of([30, 0, 50, 20], OBJECT, other) == "correct"
    assert types_of([0, 0, 20, 9], OBJECT, other) == "too_small"
    assert types_of([0, 0, 0, 0], OBJECT, other) == "missing"


def naive_type(p: list[int], objects: list[list[int]]) -> str:
    def size(box: list[int]) -> int:
        return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)

    def ratios(g: list[int]) -> tuple[float, float, float]:
        both = size([max(p[0], g[0]), max(p[1], g[1]), min(p[2], g[2]), min(p[3], g[3])])
        return both / (size(p) + size(g) - both), both / size(g), both / size(p)

    if size(p) == 0:
        return "missing"
    table = [ratios(g) for g in objects]
    iou, of_object, of_box = max(table, key=lambda row: row[0])
    if iou > 0.5:
        return "correct"
    if len([row for row in table if row[1] > 0.3]) >= 2:
        return "multi_instance"
    if of_object >= 0.7:
        return "too_big"
    if of_box <= 0.5:
        return "background"
    return "part" if of_object < 0.25 else "too_small"


sides = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 17), st.integers(1, 17))
boxes = sides.map(lambda row: [row[0], row[1], row[0] + row[2], row[1] + row[3]])
scenes = st.lists(st.tuples(boxes | st.just([0, 0, 0, 0]), st.lists(boxes, min_size=1, max_size=3)), max_size=8)


@given(scenes)
def test_types_agree_with_the_written_definition(scenes: list[tuple[list[int], list[list[int]]]]) -> None:
    truth = f32([box for _, objects in scenes for box in objects]).reshape(-1, 4)
    image = np.repeat(np.arange(len(scenes)), [len(objects) for _, objects in scenes])
    predicted = f32([p for p, _ in scenes]).reshape(-1, 4)
    found = error_types(predicted, GroundTruth(truth, image))
    assert [ERROR_TYPES[code] for code in found] == [naive_type(p, objects) for p, objects in scenes]
    assert shares_of_types(found).sum() == pytest.approx(1 if scenes else 0)


def test_a_box_of_type_too_big_is_larger_than_its_object_and_a_part_is_smaller() -> None:
    rng = np.random.default_rng(0)
    corners = rng.random((2, 5000, 2, 2))
    predicted, truth = (f32(np.concatenate([c.min(1), c.max(1)], axis=1)) for c in corners)
    found = error_types(predicted, GroundTruth(truth, np.arange(5000)))
    ratio = areas(predicted) / areas(truth)
    assert (ratio[found == ERROR_TYPES.index("too_big")] > 1).all()
    assert (ratio[found == ERROR_TYPES.index("part")] < 0.5).all()
    assert ERROR_TYPES.index("multi_instance") not in found
    assert {"too_big", "too_small", "part", "background", "correct"} == {ERROR_TYPES[code] for code in found}


def areas(boxes: Boxes) -> npt.NDArray[np.float32]:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def test_shares_by_hand() -> None:
    shares = shares_of_types(np.array([0, 0, 1, 6]))
    np.testing.assert_array_equal(shares, [0.5, 0.25, 0, 0, 0, 0, 0.25])
    np.testing.assert_array_equal(shares_of_types(np.zeros(0, np.intp)), np.zeros(7))


def test_size_bins_take_the_largest_object_and_hold_their_lower_edge() -> None:
    boxes = f32([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 1, 1], [0, 0, 2, 10], [0, 0, 4, 10]])
    truth = GroundTruth(boxes, np.array([0, 1, 1, 2, 3]))
    found = size_bins(truth, [10, 10, 20, 10], [10, 10, 20, 10])
    assert [SIZE_EDGES[place] for place in found] == [0.8, 0.4, 0.05, 0.4]
    assert size_bins(GroundTruth(f32(np.zeros((0, 4))), np.zeros(0, np.intp)), [], []).shape == (0,)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_size_bins_agree_with_a_search_by_hand(widths: list[int]) -> None:
    truth = GroundTruth(f32([[0, 0, width, 20] for width in widths]), np.arange(len(widths)))
    found = size_bins(truth, [400] * len(widths), [20] * len(widths))
    for width, place in zip(widths, found, strict=True):
        low, high = SIZE_EDGES[place], SIZE_EDGES[place + 1]
        assert low <= width / 400 < high or width == 400 == 400 * high
