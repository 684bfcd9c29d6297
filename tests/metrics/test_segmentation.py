"""Segmentation, seeds, saliency and points against scikit-learn, loops and tables made by hand."""

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, jaccard_score, precision_score, recall_score

from wsol_core.core.errors import InputError
from wsol_core.metrics.saliency import LEVELS, SaliencyAP, centre_points, peak, peak_distance, point_map
from wsol_core.metrics.segmentation import Confusion, SeedScores

CLASSES = 3
UINT8 = np.uint8
shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)
true_labels = st.sampled_from([0, 1, 2, 255])


def label_masks(values: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    return shapes.flatmap(
        lambda shape: st.tuples(
            hnp.arrays(UINT8, shape, elements=values), hnp.arrays(UINT8, shape, elements=true_labels)
        )
    )


def flattened(images: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Predicted and true labels of all counted pixels."""
    found, true = (np.concatenate([pair[side].ravel() for pair in images]) for side in (0, 1))
    return found[true != 255], true[true != 255]


@given(images=st.lists(label_masks(st.sampled_from([0, 1, 2])), min_size=1, max_size=4))
@settings(max_examples=80)
def test_miou_equals_scikit_learn_over_all_pixels(images: list[Any]) -> None:
    confusion = Confusion(CLASSES)
    for number, (predicted, truth) in enumerate(images):
        confusion.add(predicted, truth, str(number))
    found, true = flattened(images)
    present = [label for label in range(CLASSES) if label in found or label in true]
    expected = dict.fromkeys(range(CLASSES), np.nan)
    if present:
        expected |= dict(zip(present, jaccard_score(true, found, labels=present, average=None), strict=True))
    figures = confusion.figures()
    assert figures.per_class == pytest.approx(expected, nan_ok=True)
    mean = np.mean([expected[label] for label in present]) if present else np.nan
    assert figures.miou == pytest.approx(mean, nan_ok=True)


def test_miou_over_images_is_that_of_all_their_pixels() -> None:
    rng = np.random.default_rng(0)
    confusion, true, found = Confusion(5), [], []
    for number in range(20):
        shape = rng.integers(1, 30, 2)
        truth = rng.choice(np.array([0, 1, 2, 3, 255], UINT8), shape)
        predicted = np.where((rng.random(shape) < 0.6) & (truth != 255), truth, rng.choice([0, 1, 2, 3], shape))
        confusion.add(predicted, truth, str(number))
        true.append(truth[truth != 255])
        found.append(predicted[truth != 255])
    expected = jaccard_score(np.concatenate(true), np.concatenate(found), average="macro")
    assert confusion.figures().miou == pytest.approx(expected, abs=1e-6)


def test_miou_by_hand() -> None:
    confusion = Confusion(4)
    confusion.add(np.array([[0, 1, 1]]), np.array([[0, 0, 1]]), "a")
    confusion.add(np.array([[2, 0]]), np.array([[255, 0]]), "b")
    assert confusion.figures().per_class == pytest.approx({0: 2 / 3, 1: 1 / 2, 2: np.nan, 3: np.nan}, nan_ok=True)
    assert confusion.figures().miou == pytest.approx(7 / 12)
    confusion.add(np.array([[3]]), np.array([[0]]), "c")
    assert confusion.figures().per_class[3] == 0


def test_interval_is_that_of_whole_images_drawn_anew() -> None:
    """Of 40 images of one pixel each half are right; the IoU of the only true class is the share of them."""
    confusion = Confusion(2)
    for number in range(40):
        confusion.add(np.array([[number % 2]]), np.array([[0]]), str(number))
    draws = np.random.default_rng(1).binomial(40, 0.5, 100_000) / 40
    low, high = confusion.interval(1, seed=0)
    assert (low, high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.03)
    assert confusion.interval(1, seed=0) == (low, high)
    assert confusion.interval(1, seed=3) != confusion.interval(2, seed=3)


def test_interval_of_equal_images_is_a_point() -> None:
    confusion = Confusion(3)
    for number in range(5):
        confusion.add(np.array([[0, 1]]), np.array([[0, 0]]), str(number))
    assert confusion.interval(3, seed=0) == (0.25, 0.25)


def test_nothing_added_gives_no_figure() -> None:
    assert np.isnan(Confusion(2).figures().miou)
    assert np.isnan(Confusion(2).interval(2, seed=0)).all()
    assert np.isnan(SeedScores(2).figures().precision)
    assert np.isnan(SaliencyAP().figures().saliency_ap)


@given(images=st.lists(label_masks(st.sampled_from([0, 1, 2, 255])), min_size=1, max_size=4))
@settings(max_examples=80)
def test_seeds_equal_scikit_learn_with_one_class_for_none(images: list[Any]) -> None:
    scores = SeedScores(CLASSES)
    for number, (seed, truth) in enumerate(images):
        scores.add(seed, truth, str(number))
    found, true = flattened(images)
    figures = scores.figures()
    for label in range(CLASSES):
        own, theirs = true == label, found == label
        precision = precision_score(own, theirs) if theirs.any() else np.nan
        recall = recall_score(own, theirs) if own.any() else np.nan
        assert figures.precision_per_class[label] == pytest.approx(precision, nan_ok=True)
        assert figures.recall_per_class[label] == pytest.approx(recall, nan_ok=True)


def test_seed_means_are_over_the_classes_with_a_figure() -> None:
    scores = SeedScores(3)
    scores.add(np.array([[0, 255, 0, 255]]), np.array([[0, 0, 1, 1]]), "a")
    figures = scores.figures()
    assert (figures.precision, figures.recall) == (0.5, 0.25)
    assert figures.precision_per_class == pytest.approx({0: 0.5, 1: np.nan, 2: np.nan}, nan_ok=True)


@pytest.mark.parametrize("measure", [Confusion, SeedScores])
@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ([[0, 1]], [[0], [1]], r"img: masks of shape \(1, 2\) and \(2, 1\)"),
        ([0, 1], [0, 1], r"img: masks of shape \(2,\)"),
        ([[2]], [[0]], "img: the predicted mask holds 2, which is not one of the 2 classes"),
        ([[0]], [[2]], "img: the true mask holds 2"),
        ([[-1]], [[0]], "img: the predicted mask holds -1"),
    ],
)
def test_bad_masks_are_refused_with_their_image(measure: Any, predicted: Any, truth: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(2).add(np.array(predicted), np.array(truth), "img")


def test_a_prediction_of_nothing_is_refused_where_the_truth_counts() -> None:
    Confusion(2).add(np.array([[255]]), np.array([[255]]), "img")
    with pytest.raises(InputError, match="img: the predicted mask holds 255"):
        Confusion(2).add(np.array([[255]]), np.array([[1]]), "img")


steps = st.integers(0, 8).map(lambda step: step * 2048 % LEVELS / (LEVELS - 1))
saliency_pairs = shapes.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, shape, elements=steps),
        hnp.arrays(UINT8, shape, elements=st.sampled_from([0, 1, 255])),
        st.integers(0, 2),
    )
)


@given(pairs=st.lists(saliency_pairs, min_size=1, max_size=5))
@settings(max_examples=80)
def test_saliency_ap_equals_scikit_learn(pairs: list[Any]) -> None:
    measure = SaliencyAP()
    for number, (score_map, mask, label) in enumerate(pairs):
        measure.add(score_map, mask, label, str(number))
    figures = measure.figures()
    groups = {label: [pair for pair in pairs if pair[2] == label] for label in {pair[2] for pair in pairs}}
    assert figures.per_class.keys() == groups.keys()
    assert figures.pairs == len(pairs)
    for own, found in [(pairs, figures.saliency_ap), *((groups[label], figures.per_class[label]) for label in groups)]:
        scores, true = flattened([pair[:2] for pair in own])
        expected = average_precision_score(true, scores) if true.any() else np.nan
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_saliency_of_smooth_maps_is_that_of_their_floats() -> None:
    rng = np.random.default_rng(0)
    measure, scores, true = SaliencyAP(), [], []
    for number in range(20):
        mask = (cv2.GaussianBlur(rng.random((60, 80)), (0, 0), 8) > 0.5).astype(np.uint8)
        score_map = np.clip(cv2.resize(mask.astype(np.float32), (12, 9)) * 0.3 + rng.random((9, 12)) * 0.6, 0, 1)
        measure.add(score_map, mask, number % 2, str(number))
        scores.append(cv2.resize(score_map.astype(np.float32), (80, 60), interpolation=cv2.INTER_LINEAR).ravel())
        true.append(mask.ravel())
    expected = average_precision_score(np.concatenate(true), np.concatenate(scores))
    assert 0.5 < expected < 0.95
    assert measure.figures().saliency_ap == pytest.approx(expected, abs=1e-4)


def test_a_perfect_map_gets_one_and_a_constant_one_the_share_of_the_object() -> None:
    mask = np.zeros((6, 4), UINT8)
    mask[2:5, 1:3] = 1
    perfect, constant = SaliencyAP(), SaliencyAP()
    perfect.add(mask.astype(np.float32), mask, 0, "a")
    constant.add(np.full((1, 1), 0.4), mask, 0, "a")
    assert perfect.figures().saliency_ap == 1
    assert constant.figures().saliency_ap == pytest.approx(6 / 24)


@pytest.mark.parametrize(
    ("score_map", "mask", "message"),
    [
        ([[0.5, np.nan]], [[0, 1]], "img: the map has a value that is NaN"),
        ([[1.5]], [[1]], r"img: the map has a value that is NaN or outside \[0, 1\]"),
        ([[-0.1]], [[1]], "img: the map has a value that is NaN"),
        ([[0.5]], [[2]], "img: the mask holds values other than 0, 1 and 255"),
        ([0.5], [[1]], r"img: a map of shape \(1,\)"),
        ([[0.5]], [1], r"img: a map of shape \(1, 1\) for a picture of \(1,\)"),
        ([[]], [[1]], r"img: a map of shape \(1, 0\)"),
    ],
)
def test_a_bad_pair_is_refused_with_its_image(score_map: Any, mask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SaliencyAP().add(np.array(score_map, float), np.array(mask), 0, "img")


def test_the_peak_stands_in_pixels_of_the_picture() -> None:
    score_map = np.zeros((4, 6))
    score_map[1, 4] = 0.75
    x, y, score = peak(score_map, width=60, height=20, name="img")
    assert 40 <= x < 50
    assert 5 <= y < 10
    assert score == pytest.approx(0.75, abs=0.1)
    assert peak(score_map, 6, 4, "img") == (4, 1, 0.75)
    assert peak(np.full((2, 2), 0.5), 9, 9, "img") == (0, 0, 0.5)


Row = dict[str, Any]


def points(*rows: Row) -> pd.DataFrame:
    columns: Any = {"image_id": object, "x": "int32", "y": "int32", "score": "float32", "label": "int32"}
    return pd.DataFrame(list(rows), columns=list(columns)).astype(columns)


def boxes(*rows: Row) -> pd.DataFrame:
    columns = ["image_id", "label", "x0", "y0", "x1", "y1", "difficult"]
    table = pd.DataFrame(list(rows), columns=columns)
    return table.astype(dict.fromkeys(columns[2:6], "float32") | {"label": "int32", "difficult": bool})


def truth_row(corners: tuple[int, int, int, int], image_id: str = "a", difficult: bool = False) -> Row:
    named = dict(zip(("x0", "y0", "x1", "y1"), corners, strict=True))
    return {"image_id": image_id, "label": 0, "difficult": difficult, **named}


def point(x: int, y: int, image_id: str = "a", score: float = 0.5) -> Row:
    return {"image_id": image_id, "x": x, "y": y, "score": score, "label": 0}


@pytest.mark.parametrize(
    ("x", "y", "right"),
    [
        (50, 50, 1),
        (32, 50, 1),
        (31, 50, 0),
        (77, 50, 1),
        (78, 50, 0),
        (50, 12, 1),
        (50, 11, 0),
        (77, 87, 1),
        (50, 88, 0),
    ],
)
def test_a_point_may_miss_its_box_by_18_pixels(x: int, y: int, right: int) -> None:
    assert point_map(points(point(x, y)), boxes(truth_row((50, 30, 60, 70))), 1).mean == right


def test_points_in_difficult_boxes_are_left_out() -> None:
    true = boxes(truth_row((0, 0, 10, 10), "a", difficult=True), truth_row((0, 0, 10, 10), "b"))
    ignored, right = point(5, 5, "a", 0.9), point(5, 5, "b", 0.3)
    assert point_map(points(ignored, right), true, 1).mean == 1
    assert point_map(points(point(90, 90, "a", 0.9), right), true, 1).mean == 0.5


def naive_point_ap(found: list[Row], true: list[Row], tolerance: int) -> float:
    outcomes = []
    for one in sorted(found, key=lambda each: (-each["score"], each["image_id"])):
        own = [
            box["difficult"]
            for box in true
            if box["image_id"] == one["image_id"]
            and one["x"] in range(box["x0"] - tolerance, box["x1"] + tolerance)
            and one["y"] in range(box["y0"] - tolerance, box["y1"] + tolerance)
        ]
        if not own or not all(own):
            outcomes.append(bool(own))
    positives = len({box["image_id"] for box in true if not box["difficult"]})
    if not positives:
        return np.nan
    precisions = [Fraction(sum(outcomes[:n]), n) for n in range(1, len(outcomes) + 1)]
    return float(sum((max(precisions[n:]) for n, hit in enumerate(outcomes) if hit), Fraction(0)) / positives)


place = {"image_id": st.sampled_from("abcd"), "label": st.integers(0, 1)}
found_points = st.lists(
    st.fixed_dictionaries({**place, "x": st.integers(0, 20), "y": st.integers(0, 20), "score": st.integers(0, 3)}),
    max_size=8,
    unique_by=lambda one: (one["image_id"], one["label"]),
)
corner, side = st.integers(0, 15), st.integers(1, 8)
true_boxes = st.lists(
    st.builds(
        lambda rest, x, y, w, h: rest | {"x0": x, "y0": y, "x1": x + w, "y1": y + h},
        st.fixed_dictionaries({**place, "difficult": st.booleans()}),
        *(corner, corner, side, side),
    ),
    max_size=8,
)


@given(found=found_points, true=true_boxes)
@settings(max_examples=80)
def test_point_map_equals_looking_at_every_box(found: list[Row], true: list[Row]) -> None:
    figures = point_map(points(*found), boxes(*true), 2, tolerance=2)
    own = [[[one for one in rows if one["label"] == label] for rows in (found, true)] for label in range(2)]
    expected = [naive_point_ap(pair[0], pair[1], 2) for pair in own]
    assert list(figures.per_class.values()) == pytest.approx(expected, nan_ok=True)
    present = [value for value in expected if not np.isnan(value)]
    assert figures.mean == pytest.approx(np.mean(present) if present else np.nan, nan_ok=True)


def test_two_points_for_one_class_of_an_image_are_refused() -> None:
    with pytest.raises(InputError, match="image 'a' has two points of label 0"):
        point_map(points(point(1, 1), point(2, 2)), boxes(), 1)


SIZES = pd.DataFrame([("a", 30, 40), ("b", 1, 1), ("c", 5, 12)], columns=["image_id", "width", "height"])


def test_centre_points_keep_their_scores() -> None:
    moved = centre_points(points(point(0, 0, "c", 0.25), point(7, 7, "a", 0.5), point(0, 0, "b", 0.75)), SIZES)
    assert moved[["image_id", "x", "y", "score"]].to_numpy().tolist() == [
        ["c", 2, 5, 0.25],
        ["a", 14, 19, 0.5],
        ["b", 0, 0, 0.75],
    ]


def test_distance_of_peaks_by_hand() -> None:
    first = points(point(0, 0, "a"), point(1, 1, "c"), point(0, 0, "b") | {"label": 1})
    second = points(point(4, 8, "c"), point(30, 40, "a"), point(0, 0, "b"))
    found = peak_distance(first, second, SIZES)
    assert found.pairs == 2
    assert found.pixels == pytest.approx((50 + np.hypot(3, 7)) / 2)
    assert found.diagonals == pytest.approx((1 + np.hypot(3, 7) / 13) / 2)
    assert peak_distance(first, first, SIZES).pixels == 0


@given(first=found_points, second=found_points)
@settings(max_examples=50, deadline=None)
def test_distance_of_peaks_equals_looking_at_every_pair(first: list[Row], second: list[Row]) -> None:
    sizes = pd.DataFrame({"image_id": list("abcd"), "width": [3, 4, 5, 6], "height": [9, 8, 7, 6]})
    diagonals = dict(zip("abcd", np.hypot(sizes["width"], sizes["height"]), strict=True))
    expected = [
        (np.hypot(one["x"] - two["x"], one["y"] - two["y"]), diagonals[one["image_id"]])
        for one in first
        for two in second
        if (one["image_id"], one["label"]) == (two["image_id"], two["label"])
    ]
    found = peak_distance(points(*first), points(*second), sizes)
    assert found.pairs == len(expected)
    assert found.pixels == pytest.approx(np.mean([d for d, _ in expected]) if expected else np.nan, nan_ok=True)
    assert found.diagonals == pytest.approx(np.mean([d / e for d, e in expected]) if expected else np.nan, nan_ok=True)


def test_a_point_of_an_image_without_size_is_refused() -> None:
    far, message = points(point(1, 1, "z")), "image 'z' has a point, but its size is not known"
    with pytest.raises(InputError, match=message):
        centre_points(far, SIZES)
    with pytest.raises(InputError, match=message):
        peak_distance(far, far, SIZES)
