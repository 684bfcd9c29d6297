from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol_core.core.boxes import Boxes, iou
from wsol_core.metrics.localization import (
    CENTRE_SIDES,
    THRESHOLDS,
    GroundTruth,
    SplitIoU,
    best_index,
    best_iou,
    bootstrap_interval,
    centre_boxes,
    class_mean,
    figures,
    gt_known,
    iou_histogram,
    is_correct,
    mean_iou,
    per_group,
    threshold_grid,
    top_k,
)


def f32(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def random_boxes(rng: np.random.Generator, *shape: int) -> Boxes:
    corners = rng.random((*shape, 2, 2)) * 100
    return np.concatenate([corners.min(-2), corners.max(-2)], axis=-1).astype(np.float32)


def test_best_iou_is_the_largest_over_each_images_ground_truth() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 4, size=20)
    truth = GroundTruth(random_boxes(rng, counts.sum()), np.repeat(np.arange(20), counts))
    predicted = random_boxes(rng, 20, 7)
    found = best_iou(predicted, truth)
    for image in range(20):
        expected = iou(predicted[image], truth.boxes[truth.image == image]).max(axis=1)
        np.testing.assert_array_equal(found[image], expected)


def test_any_of_several_ground_truth_boxes_will_do_and_no_prediction_is_wrong() -> None:
    truth = GroundTruth(f32([[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10]]), np.array([0, 0, 1]))
    predicted = f32([[20, 20, 30, 30], [0, 0, 0, 0]])[:, None]
    np.testing.assert_array_equal(best_iou(predicted, truth)[:, 0], [1, 0])
    assert gt_known(best_iou(predicted, truth)[:, 0]) == 0.5


def test_an_iou_of_exactly_half_is_wrong() -> None:
    truth = GroundTruth(f32([[0, 0, 10, 10], [0, 0, 10, 10]]), np.array([0, 1]))
    ious = best_iou(f32([[[0, 0, 10, 5]], [[0, 0, 10, 5.1]]]), truth)[:, 0]
    assert ious[0] == 0.5
    np.testing.assert_array_equal(is_correct(ious), [False, True])


def test_no_images() -> None:
    truth = GroundTruth(np.zeros((0, 4), np.float32), np.zeros(0, np.intp))
    assert len(truth) == 0
    assert best_iou(np.zeros((0, 5, 4), np.float32), truth).shape == (0, 5)


@pytest.mark.parametrize("image", [[1], [0, 2], [1, 0], [0]])
def test_ground_truth_must_name_every_image_in_order(image: list[int]) -> None:
    boxes = np.zeros((max(2, len(image)) if image == [0] else len(image), 4), np.float32)
    with pytest.raises(ValueError, match="ground truth"):
        GroundTruth(boxes, np.array(image))


def test_predictions_must_match_the_ground_truth_in_number() -> None:
    with pytest.raises(ValueError, match="2 images, ground truth for 1"):
        best_iou(np.zeros((2, 1, 4), np.float32), GroundTruth(f32([[0, 0, 1, 1]]), np.array([0])))


@pytest.mark.parametrize(
    ("curve", "index"),
    [([3], 0), ([1, 3, 2], 1), ([1, 3, 3, 3, 2], 2), ([3, 3, 1], 0), ([0, 2, 1, 2, 2], 1), ([1, 1, 1, 1, 1], 2)],
)
def test_best_index_is_the_middle_of_the_first_plateau(curve: list[int], index: int) -> None:
    assert best_index(np.array(curve, float)) == index


def test_means_are_taken_over_images_for_each_threshold() -> None:
    ious = f32([[0.6, 0.5, 0.2], [0.7, 0.9, 0.1]])
    np.testing.assert_array_equal(gt_known(ious), [1, 0.5, 0])
    np.testing.assert_allclose(mean_iou(ious), [0.65, 0.7, 0.15])


def test_bootstrap_agrees_with_resampling_the_images() -> None:
    rng = np.random.default_rng(3)
    correct = rng.random(200) < 0.7
    resampled = correct[rng.integers(0, 200, size=(20_000, 200))].mean(axis=1)
    low, high = bootstrap_interval(correct, seed=0)
    np.testing.assert_allclose([low, high], np.quantile(resampled, [0.025, 0.975]), atol=0.006)
    assert bootstrap_interval(correct, seed=0) == (low, high)


def test_bootstrap_covers_the_true_share_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    intervals = [bootstrap_interval(rng.random(300) < 0.8, seed) for seed in range(400)]
    assert 0.91 <= np.mean([low <= 0.8 <= high for low, high in intervals]) <= 0.98


def test_bootstrap_of_all_correct_is_a_point() -> None:
    assert bootstrap_interval(np.ones(5, bool), 0) == (1, 1)


def test_centre_boxes_by_hand() -> None:
    boxes = centre_boxes([100, 40], [50, 40])
    assert boxes.shape == (2, len(CENTRE_SIDES), 4)
    assert (CENTRE_SIDES[0], CENTRE_SIDES[-1], len(CENTRE_SIDES)) == (0.3, 1.0, 15)
    np.testing.assert_allclose(boxes[0, 4], [25, 12.5, 75, 37.5], rtol=1e-6)
    np.testing.assert_allclose(boxes[:, -1], [[0, 0, 100, 50], [0, 0, 40, 40]])


def test_histogram_bins_hold_their_lower_edge_and_the_last_one_both() -> None:
    shares = iou_histogram(f32([0, 0.04, 0.05, 0.5, 1]))
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares[[0, 1, 10, 19]], [0.4, 0.2, 0.2, 0.2])


def test_per_group_by_hand() -> None:
    rows = per_group(f32([0.6, 0.5, 0.9]), np.array([0, 0, 2]), 3)
    np.testing.assert_allclose(rows, [[2, 0.5, 0.55], [0, np.nan, np.nan], [1, 1, 0.9]], rtol=1e-6)


def test_class_mean_by_hand() -> None:
    correct, labels = np.array([True, True, False, True]), np.array([0, 0, 0, 2])
    assert class_mean(correct, labels, 3) == pytest.approx((2 / 3 + 1) / 2)
    assert class_mean(correct, labels, 9) == class_mean(correct, labels, 3)
    assert np.isnan(class_mean(correct[:0], labels[:0], 3))


def test_top_k_by_hand() -> None:
    ranked = np.array([[3, 1, 2, 4, 5, 0], [3, 1, 2, 4, 5, 0], [3, 1, 2, 4, 5, 0], [3, 1, 2, 4, 5, 0], [-1] * 6])
    labels = np.array([3, 3, 5, 0, 0])
    found = top_k(np.array([True, False, True, True, True]), ranked, labels)
    np.testing.assert_array_equal(found["top1_cls"], [True, True, False, False, False])
    np.testing.assert_array_equal(found["top5_cls"], [True, True, True, False, False])
    np.testing.assert_array_equal(found["top1_loc"], [True, False, False, False, False])
    np.testing.assert_array_equal(found["top5_loc"], [True, False, True, False, False])


def test_top_k_wants_one_row_per_image() -> None:
    with pytest.raises(ValueError, match="2 boxes, 1 predicted and 2 true"):
        top_k(np.ones(2, bool), np.zeros((1, 5), int), np.zeros(2, int))


rankings = st.permutations(range(7)).map(lambda row: row[:6])
images = st.lists(st.tuples(st.booleans(), rankings, st.integers(0, 6)), min_size=1, max_size=30)


@given(images)
def test_top_k_and_class_mean_agree_with_counting(rows: list[tuple[bool, list[int], int]]) -> None:
    boxes, ranked, labels = (np.array(column) for column in zip(*rows, strict=True))
    found = top_k(boxes, ranked, labels)
    assert set(found) == {"top1_cls", "top5_cls", "top1_loc", "top5_loc"}
    for name, right in found.items():
        k = int(name[3])
        expected = [label in classes[:k] and (box or "cls" in name) for box, classes, label in rows]
        assert right.tolist() == expected
        by_class: dict[int, list[bool]] = {}
        for correct, (_, _, label) in zip(expected, rows, strict=True):
            by_class.setdefault(label, []).append(correct)
        shares = [sum(each) / len(each) for each in by_class.values()]
        assert class_mean(right, labels, 7) == pytest.approx(sum(shares) / len(shares))


def split_with(best_threshold: float, best_side: int, images: int = 4) -> SplitIoU:
    """Every image is right at one threshold and at one side of the centre box, and wrong at all others."""
    swept = np.zeros((images, len(THRESHOLDS)), np.float32)
    swept[:, best_threshold == THRESHOLDS] = 0.8
    centre = np.zeros((images, len(CENTRE_SIDES)), np.float32)
    centre[:, best_side] = 0.8
    final, labels = np.full(images, 0.6, np.float32), np.arange(images) % 2
    return SplitIoU(final, swept, centre, labels)


def test_thresholds_are_finest_near_zero() -> None:
    """Most values of a product of maps are far below a hundredth of its maximum."""
    grid = threshold_grid(0.1)
    assert grid[:7].tolist() == [0, 0.003125, 0.00625, 0.0125, 0.025, 0.05, 0.1]
    np.testing.assert_allclose(np.diff(grid[6:]), 0.1)
    assert 0.9 <= grid[-1] < 1


def test_figures_choose_on_fullsup_and_bound_by_the_oracle() -> None:
    splits = {"full": split_with(0.3, 2), "test": split_with(0.4, 5, images=6)}
    found = figures(splits, threshold=0.25, fullsup="full", seed=0)
    test = found["test"]
    assert (test["gt_known"], test["threshold"], test["images"]) == (1, 0.25, 6)
    assert (test["gt_known_fullsup"], test["threshold_fullsup"]) == (0, 0.3)
    assert (test["gt_known_oracle"], test["threshold_oracle"]) == (1, 0.4)
    assert (test["centre_box"], test["centre_box_oracle"]) == (0, 1)
    assert test["mean_iou"] == pytest.approx(0.6)
    assert test["gt_known_low"] == test["gt_known_high"] == 1
    assert test["gt_known_class_mean"] == 1
    assert found["full"]["gt_known_fullsup"] == found["full"]["gt_known_oracle"] == found["full"]["centre_box"] == 1


def test_the_mean_over_classes_stands_beside_the_mean_over_images() -> None:
    split = split_with(0.4, 5)
    final, labels = f32([0.6, 0.6, 0.6, 0.4]), np.array([0, 0, 0, 4])
    found = figures({"test": SplitIoU(final, split.swept, split.centre, labels)}, 0.25, "full", 0)["test"]
    assert (found["gt_known"], found["gt_known_class_mean"]) == (0.75, 0.5)


def test_without_fullsup_its_figures_are_none() -> None:
    test = figures({"test": split_with(0.4, 5)}, threshold=0.25, fullsup="full", seed=0)["test"]
    assert test["gt_known_fullsup"] is test["threshold_fullsup"] is test["centre_box"] is None
    assert test["gt_known_oracle"] == test["centre_box_oracle"] == 1
