"""Objectness against a loop over boxes, on maps and boxes of every awkward kind."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.data.index import ImageIndex
from wsol_core.proposals import objectness as module
from wsol_core.proposals.objectness import objectness, score_proposals

TOLERANCE = 1.6e-5


def boxes_of(*rows: tuple[float, float, float, float]) -> npt.NDArray[np.float32]:
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


def by_loop(score_map: npt.NDArray[np.float32], boxes: npt.NDArray[np.float32], width: int, height: int) -> list[float]:
    upsampled = cv2.resize(score_map, (width, height), interpolation=cv2.INTER_LINEAR)
    means = []
    for x0, y0, x1, y1 in boxes.tolist():
        inside = [
            float(upsampled[y, x])
            for y in range(height)
            for x in range(width)
            if x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1
        ]
        means.append(sum(inside) / len(inside) if inside else 0.0)
    return means


@pytest.mark.parametrize(
    ("shape", "width", "height"), [((7, 7), 23, 17), ((3, 9), 16, 31), ((1, 1), 5, 4), ((14, 14), 6, 8), ((4, 4), 1, 1)]
)
def test_equals_the_loop(shape: tuple[int, int], width: int, height: int) -> None:
    rng = np.random.default_rng(0)
    score_map = rng.random(shape, dtype=np.float32)
    corners = rng.uniform(-3, (width + 3, height + 3), (60, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    whole = np.rint(boxes)
    for some in (boxes, whole, boxes_of((0, 0, width, height))):
        scores = objectness(score_map, some, width, height)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, by_loop(score_map, some, width, height), atol=TOLERANCE)


def test_no_boxes() -> None:
    assert objectness(np.ones((7, 7), np.float32), boxes_of(), 10, 10).shape == (0,)


def test_boxes_without_a_pixel_score_zero() -> None:
    boxes = boxes_of((3, 3, 3, 9), (9, 9, 2, 2), (20, 0, 30, 5), (-4, -4, 0, 0), (2.6, 2, 3.4, 5), (8, 1, 2, 5))
    assert not objectness(np.ones((7, 7), np.float32), boxes, 10, 10).any()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_map_gives_its_value_exactly(value: float) -> None:
    boxes = boxes_of((0, 0, 40, 30), (39, 29, 40, 30), (0, 0, 1, 1), (3, 4, 30, 5))
    assert objectness(np.full((5, 9), value, np.float32), boxes, 40, 30).tolist() == [value] * 4


def test_halves_by_hand() -> None:
    left = np.array([[1, 0]], dtype=np.float32)
    boxes = boxes_of((0, 0, 1, 3), (3, 0, 4, 3), (0, 0, 4, 3), (1, 1, 2, 2))
    np.testing.assert_allclose(objectness(left, boxes, 4, 3), [1, 0, 0.5, 0.75], atol=TOLERANCE)


def test_a_large_picture_is_averaged_on_a_smaller_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    score_map = np.random.default_rng(1).random((6, 6), dtype=np.float32)
    boxes = boxes_of((0, 0, 600, 400), (100, 60, 400, 300))
    expected = objectness(score_map, boxes, 600, 400)
    monkeypatch.setattr(module, "MAX_PIXELS", 60 * 40)
    np.testing.assert_allclose(objectness(score_map, boxes, 600, 400), expected, atol=0.02)


def test_sums_of_the_largest_grid_do_not_overflow() -> None:
    assert objectness(np.ones((2, 2), np.float32), boxes_of((0, 0, 4096, 2048)), 4096, 2048).tolist() == [1.0]


def index_of(*image_ids: str) -> ImageIndex:
    rows = {"image_id": image_ids, "path": [f"{i}.jpg" for i in image_ids], "width": 8, "height": 6}
    return ImageIndex(pd.DataFrame(rows), ("thing",), "toy")


def table_of(*image_ids: str) -> pd.DataFrame:
    return pd.DataFrame({"image_id": image_ids, "x0": 0, "y0": 0, "x1": 4, "y1": 6, "score": 0.5, "label": -1})


def store_of(path: Path, rows: list[tuple[str, int, float]], kind: Kind = Kind.SCORE) -> MapStore:
    with create(path, kind, 1, 1) as writer:
        for image_id, label, value in rows:
            writer.append([image_id], [label], np.full((1, 1, 1), value))
    return MapStore(path)


def test_scores_of_a_table_keep_its_rows(tmp_path: Path) -> None:
    table = table_of("a", "b", "b")
    with store_of(tmp_path / "maps.h5", [("a", -1, 0.25), ("b", 0, 0.125), ("b", 3, 0.75)]) as store:
        scored = score_proposals(table, index_of("a", "b"), store)
    assert scored["score"].dtype == np.float32
    np.testing.assert_allclose(scored["score"], [0.25, 0.75, 0.75], atol=TOLERANCE)
    pd.testing.assert_frame_equal(scored.drop(columns="score"), table.drop(columns="score"))


def test_an_image_without_a_map_is_named(tmp_path: Path) -> None:
    with store_of(tmp_path / "maps.h5", [("a", -1, 0.25)]) as store, pytest.raises(InputError, match="'b'"):
        score_proposals(table_of("a", "b"), index_of("a", "b"), store)


def test_proposals_of_an_unknown_image_are_refused(tmp_path: Path) -> None:
    with store_of(tmp_path / "maps.h5", [("a", -1, 0.25)]) as store, pytest.raises(InputError, match="'a'"):
        score_proposals(table_of("a"), index_of("b"), store)


def test_tristate_labels_are_refused(tmp_path: Path) -> None:
    with store_of(tmp_path / "m.h5", [("a", -1, 1)], Kind.TRISTATE) as store, pytest.raises(InputError, match="tri-st"):
        score_proposals(table_of("a"), index_of("a"), store)
