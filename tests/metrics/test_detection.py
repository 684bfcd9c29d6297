"""Detection measures against naive references that loop over boxes and count with fractions."""

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol_core.core.errors import InputError
from wsol_core.metrics.detection import (
    COCO_KEYS,
    DetectionFigures,
    average_precision,
    coco_ap,
    corloc,
    corloc_class_agnostic,
    proposal_recall,
    voc_ap,
)

CLASSES = 3
IMAGES = ("a", "b", "c/d")
PLACE = ("image_id", "label", "x0", "y0", "x1", "y1")
Row = dict[str, Any]

corner = st.integers(0, 5)
side = st.integers(1, 5)
box = st.builds(lambda x, y, w, h: {"x0": x, "y0": y, "x1": x + w, "y1": y + h}, corner, corner, side, side)
place = {"image_id": st.sampled_from(IMAGES), "label": st.integers(0, CLASSES - 1)}
detection = st.builds(lambda own, rest: own | rest, box, st.fixed_dictionaries({**place, "score": st.integers(0, 3)}))
truth_row = st.builds(lambda own, rest: own | rest, box, st.fixed_dictionaries({**place, "difficult": st.booleans()}))
found_rows = st.lists(detection, max_size=14)
true_rows = st.lists(truth_row, max_size=8)


def detections(*rows: Row) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=["image_id", "x0", "y0", "x1", "y1", "score", "label"])
    floats = ["x0", "y0", "x1", "y1", "score"]
    return table.astype(dict.fromkeys(floats, "float32") | {"label": "int32"})


def objects(*rows: Row) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=["image_id", "label", "x0", "y0", "x1", "y1", "difficult"])
    return table.astype(dict.fromkeys(["x0", "y0", "x1", "y1"], "float32") | {"label": "int32", "difficult": bool})


def row(image_id: str, corners: tuple[float, float, float, float], label: int = 0, **rest: Any) -> Row:
    return {"image_id": image_id, "label": label, **dict(zip(("x0", "y0", "x1", "y1"), corners, strict=True)), **rest}


def naive_iou(first: Row, second: Row) -> Fraction:
    width = min(first["x1"], second["x1"]) - max(first["x0"], second["x0"])
    height = min(first["y1"], second["y1"]) - max(first["y0"], second["y0"])
    overlap = max(width, 0) * max(height, 0)
    areas = sum((one["x1"] - one["x0"]) * (one["y1"] - one["y0"]) for one in (first, second))
    return Fraction(overlap, areas - overlap)


def naive_ranking(found: list[Row]) -> list[Row]:
    return sorted(found, key=lambda one: (-one["score"], one["image_id"]))


def naive_outcomes(found: list[Row], true: list[Row]) -> list[bool]:
    taken: list[Row] = []
    outcomes = []
    for one in naive_ranking(found):
        best, owner = Fraction(-1), None
        for other in true:
            if other["image_id"] == one["image_id"] and naive_iou(one, other) > best:
                best, owner = naive_iou(one, other), other
        if owner is None or best < Fraction(1, 2):
            outcomes.append(False)
        elif not owner["difficult"]:
            outcomes.append(not any(owner is each for each in taken))
            taken.append(owner)
    return outcomes


def naive_ap(outcomes: list[bool], positives: int, points: str) -> Fraction:
    curve = [
        (Fraction(sum(outcomes[:n]), positives), Fraction(sum(outcomes[:n]), n)) for n in range(1, len(outcomes) + 1)
    ]
    if points == "11":
        best = [max([p for r, p in curve if r >= Fraction(k, 10)], default=Fraction(0)) for k in range(11)]
        return sum(best, Fraction(0)) / 11
    recalls = sorted({r for r, _ in curve} | {Fraction(0)})
    return sum(
        ((high - low) * max(p for r, p in curve if r >= high) for low, high in pairwise(recalls)),
        Fraction(0),
    )


@pytest.mark.parametrize("points", ["11", "all"])
@given(found=found_rows, true=true_rows)
@settings(max_examples=100)
def test_voc_ap_equals_counting_by_hand(points: Any, found: list[Row], true: list[Row]) -> None:
    figures = voc_ap(detections(*found), objects(*true), CLASSES, points)
    expected = {}
    for label in range(CLASSES):
        own_found, own_true = ([one for one in rows if one["label"] == label] for rows in (found, true))
        positives = sum(not one["difficult"] for one in own_true)
        outcomes = naive_outcomes(own_found, own_true)
        expected[label] = float(naive_ap(outcomes, positives, points)) if positives else np.nan
    assert figures.per_class == pytest.approx(expected, abs=1e-12, nan_ok=True)
    present = [value for value in expected.values() if not np.isnan(value)]
    assert figures.mean == pytest.approx(np.mean(present) if present else np.nan, abs=1e-12, nan_ok=True)


def test_two_of_three_objects_are_seven_elevenths_in_voc07_and_not_663() -> None:
    true = objects(*(row("a", (i * 10, 0, i * 10 + 8, 8), difficult=False) for i in range(3)))
    found = detections(*(row("a", (i * 10, 0, i * 10 + 8, 8), score=1 - i / 10) for i in range(2)))
    sizes = pd.DataFrame({"image_id": ["a"], "width": 30, "height": 8})
    assert voc_ap(found, true, 1, "11").mean == pytest.approx(7 / 11)
    assert round(7 / 11, 3) == 0.636
    assert voc_ap(found, true, 1, "all").mean == pytest.approx(2 / 3)
    assert coco_ap(found, true, sizes, 1)["ap50"] == pytest.approx(67 / 101)
    assert round(67 / 101, 3) == 0.663


@given(true=st.lists(truth_row, min_size=1, max_size=8, unique_by=lambda one: tuple(map(one.get, PLACE))))
@settings(max_examples=40)
def test_a_perfect_predictor_gets_one_everywhere(true: list[Row]) -> None:
    truth = objects(*({**one, "difficult": False} for one in true))
    found = truth.assign(score=np.float32(0.5))
    sizes = pd.DataFrame({"image_id": IMAGES, "width": 10, "height": 10})
    labels = {str(name): own["label"].tolist() for name, own in truth.groupby("image_id")}
    assert voc_ap(found, truth, CLASSES, "11").mean == 1
    assert voc_ap(found, truth, CLASSES, "all").mean == pytest.approx(1)
    assert corloc(found, truth, labels, CLASSES).mean == 1
    assert corloc_class_agnostic(found, truth, list(labels)) == 1
    assert (proposal_recall(found, truth, counts=(8,))["recall"] == 1).all()
    figures = coco_ap(found, truth, sizes, CLASSES)
    assert (figures["ap_coco"], figures["ar100"]) == pytest.approx((1, 1))


@pytest.mark.parametrize(
    ("hits", "positives", "eleven", "exact"),
    [
        ([], 4, 0, 0),
        ([1], 10, 2 / 11, 1 / 10),
        ([1, 1, 1], 10, 4 / 11, 3 / 10),
        ([0, 1], 1, 1 / 2, 1 / 2),
        ([1, 0, 1, 0], 2, (6 + 5 * 2 / 3) / 11, (1 + 2 / 3) / 2),
        ([0, 0, 1, 1], 4, 6 / 11 / 2, 1 / 4),
    ],
)
def test_average_precision_by_hand(hits: list[int], positives: int, eleven: float, exact: float) -> None:
    assert average_precision(np.array(hits, bool), positives, "11") == pytest.approx(eleven)
    assert average_precision(np.array(hits, bool), positives, "all") == pytest.approx(exact)


def test_an_iou_of_exactly_half_is_right_and_a_second_box_of_the_object_is_wrong() -> None:
    true = objects(row("a", (0, 0, 10, 10), difficult=False))
    half, less = row("a", (0, 0, 10, 5), score=0.9), row("a", (0, 0, 10, 4.9), score=0.9)
    assert voc_ap(detections(half), true, 1, "11").mean == 1
    assert voc_ap(detections(less), true, 1, "11").mean == 0
    again = row("a", (0, 0, 10, 10), score=0.95)
    assert voc_ap(detections(half, again), true, 1, "all").mean == 1
    other = row("b", (0, 0, 10, 10), difficult=False)
    last = row("b", (0, 0, 10, 10), score=0.1)
    both = objects(row("a", (0, 0, 10, 10), difficult=False), other)
    assert voc_ap(detections(half, again, last), both, 1, "all").mean == pytest.approx((1 + 2 / 3) / 2)


def test_difficult_objects_are_neither_found_nor_missed() -> None:
    true = objects(row("a", (0, 0, 10, 10), difficult=True), row("b", (0, 0, 10, 10), difficult=False))
    found = detections(
        row("a", (0, 0, 10, 10), score=0.9), row("a", (0, 0, 10, 9), score=0.8), row("b", (0, 0, 10, 10), score=0.7)
    )
    assert voc_ap(found, true, 1, "11").mean == 1


def test_equal_scores_are_ranked_by_image_then_by_row() -> None:
    true = objects(row("b", (0, 0, 10, 10), difficult=False))
    right, wrong = row("b", (0, 0, 10, 10), score=0.5), row("b", (20, 20, 30, 30), score=0.5)
    earlier = row("a", (0, 0, 10, 10), score=0.5)
    assert voc_ap(detections(right, wrong), true, 1, "all").mean == 1
    assert voc_ap(detections(wrong, right), true, 1, "all").mean == 0.5
    assert voc_ap(detections(right, earlier), true, 1, "all").mean == 0.5


def naive_coco(found: list[Row], true: list[Row], least: float) -> float:
    """One class at one IoU, as COCO words it: crowds absorb, the best free object wins, 101 levels of recall."""
    outcomes, taken = [], set()
    crowd_of = {number: one["difficult"] for number, one in enumerate(true)}
    for one in naive_ranking(found):
        best: tuple[float, int] | None = None
        for number, other in sorted(enumerate(true), key=lambda pair: pair[1]["difficult"]):
            if other["image_id"] != one["image_id"] or (number in taken and not crowd_of[number]):
                continue
            if best is not None and not crowd_of[best[1]] and crowd_of[number]:
                break
            shared = naive_iou(one, other)
            overlap = float(shared)
            if crowd_of[number]:
                area = (one["x1"] - one["x0"]) * (one["y1"] - one["y0"])
                theirs = (other["x1"] - other["x0"]) * (other["y1"] - other["y0"])
                overlap = float(shared * (area + theirs) / (1 + shared) / area)
            if overlap >= max(min(least, 1 - 1e-10), best[0] if best else 0):
                best = (overlap, number)
        if best is None:
            outcomes.append(False)
        elif not crowd_of[best[1]]:
            taken.add(best[1])
            outcomes.append(True)
    positives = sum(not crowd for crowd in crowd_of.values())
    found_so_far = np.cumsum(outcomes)
    levels = []
    for level in np.linspace(0, 1, 101):
        later = [found_so_far[n] / (n + 1) for n in range(len(outcomes)) if found_so_far[n] / positives >= level]
        levels.append(max(later, default=0))
    return float(np.mean(levels))


@given(found=found_rows, true=true_rows)
@settings(max_examples=60)
def test_coco_ap_equals_the_definition(found: list[Row], true: list[Row]) -> None:
    sizes = pd.DataFrame({"image_id": IMAGES, "width": 10, "height": 10})
    figures = coco_ap(detections(*found), objects(*true), sizes, CLASSES)
    by_iou: list[float] = []
    for least in np.linspace(0.5, 0.95, 10):
        own = [
            tuple([one for one in rows if one["label"] == label] for rows in (found, true)) for label in range(CLASSES)
        ]
        wanted = [pair for pair in own if any(not one["difficult"] for one in pair[1])]
        by_iou.append(float(np.mean([naive_coco(pair[0], pair[1], least) for pair in wanted])) if wanted else np.nan)
    expected = [np.mean(by_iou), by_iou[0], by_iou[5]]
    assert tuple(figures) == COCO_KEYS
    assert [figures[key] for key in ("ap_coco", "ap50", "ap75")] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_coco_ap_refuses_boxes_of_an_image_that_is_not_evaluated() -> None:
    sizes = pd.DataFrame({"image_id": ["a"], "width": 10, "height": 10})
    with pytest.raises(InputError, match="image 'b' has boxes"):
        coco_ap(detections(row("b", (0, 0, 1, 1), score=1)), objects(), sizes, 1)


def naive_best(found: list[Row], image_id: str) -> Row | None:
    own = [one for one in found if one["image_id"] == image_id]
    return max(own, key=lambda one: one["score"], default=None)


def is_on_object(best: Row | None, true: list[Row]) -> bool:
    return best is not None and any(
        one["image_id"] == best["image_id"] and naive_iou(best, one) >= Fraction(1, 2) for one in true
    )


@given(found=found_rows, true=true_rows, labels=st.fixed_dictionaries({name: st.sets(place["label"]) for name in "ab"}))
@settings(max_examples=100)
def test_corloc_equals_looking_at_every_image(found: list[Row], true: list[Row], labels: dict[str, set[int]]) -> None:
    figures = corloc(detections(*found), objects(*true), {k: list(v) for k, v in labels.items()}, CLASSES)
    for label in range(CLASSES):
        own_found, own_true = ([one for one in rows if one["label"] == label] for rows in (found, true))
        right = [is_on_object(naive_best(own_found, name), own_true) for name in labels if label in labels[name]]
        assert figures.per_class[label] == pytest.approx(np.mean(right) if right else np.nan, nan_ok=True)


@given(found=found_rows, true=true_rows)
@settings(max_examples=60)
def test_class_agnostic_corloc_equals_looking_at_every_image(found: list[Row], true: list[Row]) -> None:
    right = [is_on_object(naive_best(found, name), true) for name in IMAGES]
    assert corloc_class_agnostic(detections(*found), objects(*true), list(IMAGES)) == pytest.approx(np.mean(right))


def test_corloc_counts_difficult_objects_and_images_without_a_box_and_its_namesake_knows_no_class() -> None:
    true = objects(row("a", (0, 0, 10, 10), 0, difficult=True), row("b", (0, 0, 10, 10), 0, difficult=False))
    found = detections(row("a", (0, 0, 10, 10), 0, score=0.2), row("b", (0, 0, 10, 10), 1, score=0.9))
    assert corloc(found, true, {"a": [0], "b": [0]}, 2).per_class == pytest.approx({0: 0.5, 1: np.nan}, nan_ok=True)
    assert corloc_class_agnostic(found, true, ["a", "b"]) == 1
    assert corloc_class_agnostic(found, true, ["a", "b", "c", "c"]) == pytest.approx(2 / 3)


@given(found=found_rows, true=true_rows)
@settings(max_examples=60)
def test_proposal_recall_equals_looking_at_every_object(found: list[Row], true: list[Row]) -> None:
    figures = proposal_recall(detections(*found), objects(*true), counts=(1, 3, 2000), ious=(0.5, 0.6, 0.7, 0.9))
    wanted = [one for one in true if not one["difficult"]]
    assert len(figures) == 12
    for count, least, recall in figures.itertuples(index=False):
        right = []
        for one in wanted:
            own = [other for other in naive_ranking(found) if other["image_id"] == one["image_id"]][: int(count)]
            right.append(any(naive_iou(one, other) >= Fraction(round(least * 10), 10) for other in own))
        assert recall == pytest.approx(np.mean(right) if right else np.nan, nan_ok=True)


@pytest.mark.parametrize("tenths", [5, 6, 7, 8, 9])
def test_an_iou_that_equals_the_threshold_is_enough_for_every_measure(tenths: int) -> None:
    least = tenths / 10
    true = objects(row("a", (0, 0, 10, 10), difficult=False))
    equal, below = (detections(row("a", (0, 0, 10, height), score=1)) for height in (tenths, tenths - 0.01))
    for found, right in ((equal, 1), (below, 0)):
        assert proposal_recall(found, true, counts=(1,), ious=(least,))["recall"].tolist() == [right]
        assert voc_ap(found, true, 1, "all", iou=least).mean == right
        assert corloc(found, true, {"a": [0]}, 1, iou=least).mean == right
        assert corloc_class_agnostic(found, true, ["a"], iou=least) == right


def test_nothing_at_all_gives_no_figure() -> None:
    empty, none = detections(), objects()
    sizes = pd.DataFrame({"image_id": ["a"], "width": 10, "height": 10})
    nothing = pytest.approx({0: np.nan, 1: np.nan}, nan_ok=True)
    assert voc_ap(empty, none, 2, "11").per_class == nothing
    assert corloc(empty, none, {}, 2).per_class == nothing
    assert np.isnan(DetectionFigures.of([np.nan]).mean)
    assert np.isnan(corloc_class_agnostic(empty, none, []))
    assert np.isnan(coco_ap(empty, none, sizes, 2)["ap_coco"])
    assert proposal_recall(empty, none)["recall"].isna().all()


@pytest.mark.parametrize("measure", [lambda f, t: voc_ap(f, t, 2, "all"), lambda f, t: corloc(f, t, {"a": [0]}, 2)])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": np.nan}, "image 'a': a box or a score is not a finite number"),
        ({"x1": np.inf}, "image 'a': a box or a score is not a finite number"),
        ({"label": 2}, "image 'a': label 2 is not one of the 2 classes, 0 to 1"),
        ({"label": -1}, "image 'a': label -1 is not one of the 2 classes"),
    ],
)
def test_a_bad_detection_is_refused_with_its_image(measure: Any, change: Row, message: str) -> None:
    true = objects(row("a", (0, 0, 10, 10), difficult=False))
    with pytest.raises(InputError, match=message):
        measure(detections(row("a", (0, 0, 5, 5), score=1) | change), true)


def test_a_missing_column_and_an_unknown_label_of_an_image_are_refused() -> None:
    with pytest.raises(InputError, match="no column 'score'"):
        voc_ap(detections().drop(columns="score"), objects(), 1, "11")
    with pytest.raises(InputError, match="image 'a': label 5"):
        corloc(detections(), objects(), {"a": [5]}, 2)


def test_importing_the_measures_loads_neither_the_coco_evaluator_nor_torch() -> None:
    words = "import sys, wsol_core.metrics.detection, wsol_core.metrics.saliency; "
    words += "print(sorted({'torch', 'faster_coco_eval', 'sklearn'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout == "[]\n"
