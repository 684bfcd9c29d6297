import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol_core.core.boxes import Boxes, area, clip, from_inclusive, from_xywh, iou, paired_iou

EMPTY = np.zeros((0, 4), np.float32)


def pixels(box: npt.NDArray[np.float32]) -> set[tuple[int, int]]:
    """The pixels that a half-open box with whole corners covers."""
    x0, y0, x1, y1 = (int(value) for value in box)
    return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}


boxes = st.lists(st.tuples(*[st.integers(0, 7)] * 4), max_size=5).map(
    lambda rows: np.array(rows, dtype=np.float32).reshape(-1, 4)
)


@given(boxes, boxes)
def test_area_and_iou_count_pixels(first: Boxes, second: Boxes) -> None:
    assert area(first).tolist() == [len(pixels(box)) for box in first]
    expected = np.zeros((len(first), len(second)))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            union = pixels(a) | pixels(b)
            expected[i, j] = len(pixels(a) & pixels(b)) / len(union) if union else 0
    found = iou(first, second)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    count = min(len(first), len(second))
    np.testing.assert_allclose(paired_iou(first[:count], second[:count]), np.diagonal(expected), rtol=1e-6)


def test_from_xywh() -> None:
    np.testing.assert_array_equal(from_xywh([[10, 20, 5, 6], [0, 0, 0, 1]]), [[10, 20, 15, 26], [0, 0, 0, 1]])


def test_from_inclusive_covers_the_last_pixel() -> None:
    found = from_inclusive([[1, 1, 3, 2], [5, 5, 5, 5]])
    np.testing.assert_array_equal(found, [[0, 0, 3, 2], [4, 4, 5, 5]])
    np.testing.assert_array_equal(area(found), [6, 1])


def test_clip_keeps_what_lies_inside() -> None:
    found = clip(np.array([[-5, -5, 20, 20], [2, 3, 4, 5], [50, 50, 60, 60]], np.float32), 10, 8)
    np.testing.assert_array_equal(found, [[0, 0, 10, 8], [2, 3, 4, 5], [10, 8, 10, 8]])
    assert area(found)[2] == 0


@pytest.mark.parametrize("found", [from_xywh(EMPTY), from_xywh([]), from_inclusive([]), clip(EMPTY, 3, 3)])
def test_no_boxes_stay_no_boxes(found: Boxes) -> None:
    assert found.shape == (0, 4)
    assert found.dtype == np.float32


def test_results_are_float32() -> None:
    box = np.array([[0, 0, 1, 1]], np.float32)
    for found in (from_xywh([[0, 0, 1, 1]]), from_inclusive([[1, 1, 1, 1]]), area(box), iou(box, box), clip(box, 9, 9)):
        assert found.dtype == np.float32
