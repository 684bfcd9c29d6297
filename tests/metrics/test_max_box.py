"""MaxBoxAcc against the written definition, contour by contour."""

import cv2
import numpy as np
import pytest

from wsol_core.core.errors import InputError
from wsol_core.metrics.component_tree import holes_have_islands
from wsol_core.metrics.max_box import IOUS, SIDE, TAUS, MaxBoxAcc, as_scores

SHAPES = [(224, 224), (224, 224), (14, 14), (1, 1), (7, 28), (300, 200)]
LAST = SIDE - 1


def one_iou(box, other) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0]) + 1
    height = min(box[3], other[3]) - max(box[1], other[1]) + 1
    common = max(width, 0) * max(height, 0)
    areas = [(x1 - x0 + 1) * (y1 - y0 + 1) for x0, y0, x1, y1 in (box, other)]
    return common / (sum(areas) - common)


def contour_boxes(image, threshold):
    """The box of the largest contour, and the boxes of all."""
    binary = (image > threshold).astype(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return (0, 0, 0, 0), [(0, 0, 0, 0)]
    boxes = []
    for contour in contours:
        x, y, width, height = cv2.boundingRect(contour)
        boxes.append((x, y, min(x + width, LAST), min(y + height, LAST)))
    areas = [cv2.contourArea(contour) for contour in contours]
    return boxes[areas.index(max(areas))], boxes


def naive(images):
    """Curves of V1 at .5, then V2 at each IoU, of (map, truth, width, height)."""
    correct = np.zeros((4, len(TAUS)))
    for score_map, truth, width, height in images:
        scores = cv2.resize(score_map.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        image = (np.clip(scores, 0, 1) * np.float32(255)).astype(np.uint8)
        scaled = [
            [int(float(value) * SIDE / side) for value, side in zip(box, (width, height) * 2, strict=True)]
            for box in truth
        ]
        known: dict = {}
        for index, tau in enumerate(TAUS):
            threshold = int(tau * image.max())
            if threshold not in known:
                largest, boxes = contour_boxes(image, threshold)
                known[threshold] = (
                    max(one_iou(largest, box) for box in scaled),
                    max(one_iou(found, box) for found in boxes for box in scaled),
                )
            first, best = known[threshold]
            correct[:, index] += [first >= 0.5, *(best >= iou for iou in IOUS)]
    return correct / len(images)


def smooth(rng):
    grid = rng.random((rng.integers(2, 29), rng.integers(2, 29))).astype(np.float32) ** rng.integers(1, 5)
    return cv2.resize(grid, (SIDE, SIDE))


def blocks(rng):
    grid = (rng.integers(0, 4, (rng.integers(3, 20), rng.integers(3, 20))) / 3).astype(np.float32)
    return cv2.resize(grid, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


def specks_and_rings(rng):
    score_map = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(rng.integers(1, 12)):
        x, y, radius = (int(value) for value in rng.integers((-5, -5, 0), 229))
        cv2.circle(score_map, (x, y), radius // 4, float(rng.integers(1, 5)) / 4, int(rng.choice([-1, 1, 2])))
    spots = rng.integers(0, SIDE, (2, rng.integers(1, 30)))
    score_map[spots[0], spots[1]] = rng.integers(0, 5, spots.shape[1]) / 4
    return score_map


def a_map(rng, shape):
    if shape != (SIDE, SIDE):
        return rng.random(shape).astype(rng.choice([np.float16, np.float32, np.float64]))
    if rng.random() < 0.1:
        return np.full(shape, rng.choice([0, 0.5, 1]), np.float32)
    return rng.choice([smooth, blocks, specks_and_rings])(rng)


def data_set(rng):
    images = []
    for _ in range(rng.integers(1, 4)):
        width, height = (int(side) for side in rng.integers(1, 600, 2))
        corners = np.sort(rng.random((rng.integers(1, 4), 2, 2)), axis=1) * (width, height)
        shape = SHAPES[rng.integers(len(SHAPES))]
        score_map = a_map(rng, shape)
        if score_map.shape == (300, 200):
            score_map = cv2.resize(smooth(rng), (200, 300))
        images.append((score_map, corners.reshape(-1, 4).astype(np.float32), width, height))
    return images


def measured(images):
    accuracy = MaxBoxAcc()
    for index, (score_map, truth, width, height) in enumerate(images):
        accuracy.add(score_map, truth, width, height, str(index))
    return accuracy.figures()


def naive_centre(images, wanted):
    """Share of correct images at the best of the sides .3, .35, ... 1."""
    shares = []
    for twentieths in range(6, 21):
        low = SIDE * (20 - twentieths) // 40
        high = min(SIDE - low, LAST)
        correct = 0
        for _, truth, width, height in images:
            scaled = [
                [int(float(value) * SIDE / side) for value, side in zip(box, (width, height) * 2, strict=True)]
                for box in truth
            ]
            correct += max(one_iou((low, low, high, high), box) for box in scaled) >= wanted
        shares.append(correct / len(images))
    return max(shares)


@pytest.mark.parametrize("seed", range(40))
def test_centre_box_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    images = [(np.zeros((1, 1)), *image[1:]) for _ in range(30) for image in data_set(rng)]
    figures = measured(images)
    assert figures.centre == naive_centre(images, 0.5)
    assert figures.centre_v2 == pytest.approx(np.mean([naive_centre(images, iou) for iou in IOUS]), abs=1e-12)
    assert 0 < figures.centre < 1


def test_centre_box_of_half_the_sides_by_hand():
    """At 224 it is 56, 56, 168, 168; no box around the centre meets one in a corner."""
    image = (np.zeros((1, 1)), np.array([[56, 56, 168, 168]], np.float32), SIDE, SIDE)
    assert (measured([image]).centre, measured([image]).centre_v2) == (1, 1)
    quarter = (np.zeros((1, 1)), np.array([[0, 0, 10, 10]], np.float32), SIDE, SIDE)
    assert (measured([image, quarter]).centre, measured([quarter]).centre_v2) == (0.5, 0)


@pytest.mark.parametrize("seed", range(200))
def test_agrees_with_the_definition(seed):
    images = data_set(np.random.default_rng(seed))
    expected, found = naive(images), measured(images)
    np.testing.assert_allclose(
        [found.curves[name] for name in ("v1@50", "v2@30", "v2@50", "v2@70")], expected, atol=1e-9
    )
    assert found.max_box_acc == pytest.approx(expected[0].max(), abs=1e-9)
    assert found.by_iou == pytest.approx(dict(zip(IOUS, expected[1:].max(axis=1), strict=True)), abs=1e-9)
    assert found.max_box_acc_v2 == pytest.approx(expected[1:].max(axis=1).mean(), abs=1e-9)
    assert found.curves["v1@50"][round(100 * found.tau)] == found.max_box_acc
    for iou, tau in found.taus_v2.items():
        assert found.curves[f"v2@{round(100 * iou)}"][round(100 * tau)] == found.by_iou[iou]


def test_noise_has_thousands_of_contours():
    score_map = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    images = [(score_map, np.array([[3, 3, 6, 6]], np.float32), SIDE, SIDE)]
    np.testing.assert_array_equal(list(measured(images).curves.values()), naive(images))


def test_a_perfect_map_is_right_and_an_empty_one_is_wrong_but_counts():
    score_map = np.zeros((SIDE, SIDE), np.float32)
    score_map[20:120, 30:180] = 1
    truth = np.array([[60, 10, 360, 60]], np.float32)
    figures = measured([(score_map, truth, 448, 112), (np.zeros((5, 5)), truth, 448, 112)])
    assert figures.max_box_acc == figures.max_box_acc_v2 == 0.5
    assert figures.by_iou == {0.3: 0.5, 0.5: 0.5, 0.7: 0.5}


def test_v2_finds_a_small_contour_and_a_hole():
    score_map = np.zeros((SIDE, SIDE), np.float32)
    score_map[:200, :200] = 1
    score_map[40:80, 40:80] = 0
    for box in ([39, 39, 81, 81], [0, 0, 200, 200]):
        figures = measured([(score_map, np.array([box], np.float32), SIDE, SIDE)])
        assert figures.max_box_acc_v2 == 1
        assert figures.max_box_acc == (box[0] == 0)


@pytest.mark.parametrize("peak", [0.4, 1.0])
def test_v2_finds_an_island_in_a_hole(peak):
    """Below and above the wall around the hole."""
    score_map = np.zeros((SIDE, SIDE), np.float32)
    score_map[20:200, 20:200] = 0.7
    score_map[40:180, 40:180] = 0.1
    score_map[90:120, 80:130] = peak
    images = [(score_map, np.array([[80, 90, 130, 120]], np.float32), SIDE, SIDE)]
    assert measured(images).by_iou == {0.3: 1, 0.5: 1, 0.7: 1}
    np.testing.assert_array_equal(list(measured(images).curves.values()), naive(images))


@pytest.mark.parametrize("seed", range(40))
def test_islands_are_found_by_the_euler_number(seed):
    rng = np.random.default_rng(seed)
    levels, steps = np.zeros((20, 30), np.uint8), 4
    for inset in range(1, 2 + seed % 9):
        height, width = 20 - 2 * inset, 30 - 2 * inset
        levels[inset : 20 - inset, inset : 30 - inset] = rng.integers(0, steps + 1)
        levels[inset : 20 - inset, inset : 30 - inset] += rng.random((height, width)) < seed / 400
    levels = np.minimum(levels, steps)
    filled, holes, nested = levels.copy(), np.zeros(steps, np.int32), False
    for step in range(steps):
        binary = (levels > step).astype(np.uint8)
        number, background = cv2.connectedComponents(1 - binary, connectivity=4)
        outside = background[0, 0]
        inside = (binary == 0) & (background != outside)
        filled[inside] = np.maximum(filled[inside], step + 1)
        holes[step] = number - 2
        _, tree = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        parents = np.empty(0, int) if tree is None else tree[0][:, 3]
        nested |= any(parents[parent] >= 0 for parent in parents if parent >= 0)
    assert holes_have_islands(levels, filled, holes) == nested


def test_more_maps_than_a_batch():
    rng = np.random.default_rng(1)
    images = [image for _ in range(40) for image in data_set(rng)]
    np.testing.assert_allclose(measured(images).curves["v2@50"], naive(images)[2], atol=1e-12)


def test_no_images_give_nan():
    assert np.isnan(measured([]).max_box_acc_v2)
    assert np.isnan(measured([]).centre_v2)


@pytest.mark.parametrize("value", [np.nan, -0.01, 1.01, np.inf])
def test_bad_values_name_the_image(value):
    score_map = np.zeros((3, 3))
    score_map[1, 1] = value
    with pytest.raises(InputError, match=r"bird\.jpg.*\[0, 1\]"):
        MaxBoxAcc().add(score_map, np.array([[0, 0, 1, 1]], np.float32), 2, 2, "bird.jpg")


@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 3), (4,)])
def test_bad_shapes_name_the_image(shape):
    with pytest.raises(InputError, match="bird"):
        as_scores(np.zeros(shape), "bird")


@pytest.mark.parametrize("truth", [np.zeros((0, 4), np.float32), np.zeros(4, np.float32)])
def test_an_image_without_a_box_is_refused(truth):
    with pytest.raises(InputError, match="bird"):
        MaxBoxAcc().add(np.zeros((3, 3)), truth, 2, 2, "bird")


def test_too_many_thresholds():
    with pytest.raises(ValueError, match="256"):
        MaxBoxAcc(np.arange(256) / 256)


def test_the_callers_map_may_change_afterwards():
    score_map = np.zeros((SIDE, SIDE), np.float32)
    score_map[:100, :100] = 1
    accuracy = MaxBoxAcc()
    accuracy.add(score_map, np.array([[0, 0, 100, 100]], np.float32), SIDE, SIDE, "bird")
    score_map[:] = 0
    assert accuracy.figures().max_box_acc == 1
