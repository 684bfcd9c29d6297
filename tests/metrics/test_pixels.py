"""PxAP and the pixel IoU against loops over thresholds, and against scikit-learn."""

import cv2
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from wsol_core.core.errors import InputError
from wsol_core.metrics.max_box import SIDE, TAUS
from wsol_core.metrics.pixels import PixelScores


def naive(images):
    """PxAP, precision, recall and IoU by threshold: the pixels at or above each, over all images."""
    scores, truths = [], []
    for score_map, mask in images:
        scores.append(np.clip(cv2.resize(score_map.astype(np.float32), (SIDE, SIDE)), 0, 1).ravel())
        truths.append(cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST).ravel())
    score, truth = np.concatenate(scores), np.concatenate(truths)
    ap, before, rows = 0.0, 0.0, []
    for threshold in TAUS[::-1]:
        found = score >= threshold
        true, false, missed = (found & (truth == 1)).sum(), (found & (truth == 0)).sum(), (~found & (truth == 1)).sum()
        recall = true / (true + missed)
        precision = true / (true + false) if true + false else np.nan
        ap += precision * (recall - before) if true + false else 0
        before = recall
        rows.append((precision, recall, true / (true + false + missed)))
    return ap, np.array(rows[::-1]).T


@pytest.mark.parametrize("seed", range(200))
def test_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(rng.integers(1, 4)):
        score_map = rng.random(rng.integers(1, 40, 2)) ** 2
        mask = rng.choice([0, 1, 255], rng.integers(2, 300, 2)).astype(np.uint8)
        mask[0, 0] = 1
        images.append((score_map, mask))
    pixels = PixelScores()
    for score_map, mask in images:
        pixels.add(score_map, mask, "bird")
    figures = pixels.figures()
    ap, (precision, recall, iou) = naive(images)
    assert figures.px_ap == pytest.approx(ap, abs=1e-9)
    np.testing.assert_allclose([figures.precision, figures.recall, figures.iou], [precision, recall, iou], atol=1e-9)
    assert figures.pixel_iou == pytest.approx(iou.max(), abs=1e-9)
    assert figures.pixel_iou_at(figures.pixel_iou_threshold) == figures.pixel_iou
    assert figures.pixel_iou_at(0.304) == figures.iou[30]


def test_agrees_with_scikit_learn_on_scores_that_are_thresholds():
    rng = np.random.default_rng(0)
    scores = rng.choice(TAUS[::10], (SIDE, SIDE)).astype(np.float32) + np.float32(0.001)
    mask = (rng.random((SIDE, SIDE)) < scores).astype(np.uint8)
    pixels = PixelScores()
    pixels.add(scores, mask, "bird")
    assert pixels.figures().px_ap == pytest.approx(average_precision_score(mask.ravel(), scores.ravel()), abs=1e-9)


def test_a_perfect_map():
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[50:90, 20:60] = 1
    scores = mask.astype(np.float32)
    mask[:10] = 255
    scores[:10] = 1
    pixels = PixelScores()
    pixels.add(scores, mask, "bird")
    figures = pixels.figures()
    assert figures.px_ap == figures.pixel_iou == 1
    assert figures.pixel_iou_threshold == TAUS[50]


def test_a_map_of_zeros_finds_everything_at_zero():
    mask = np.zeros((4, 4), np.uint8)
    mask[:2] = 1
    pixels = PixelScores()
    pixels.add(np.zeros((1, 1)), mask, "bird")
    figures = pixels.figures()
    assert figures.px_ap == figures.pixel_iou == 0.5
    assert figures.pixel_iou_threshold == 0


@pytest.mark.parametrize("masks", [[], [np.zeros((2, 2), np.uint8)], [np.full((2, 2), 255, np.uint8)]])
def test_without_an_object_pixel_all_is_nan(masks):
    pixels = PixelScores()
    for mask in masks:
        pixels.add(np.ones((2, 2)), mask, "bird")
    figures = pixels.figures()
    assert np.isnan([figures.px_ap, figures.pixel_iou]).all()


@pytest.mark.parametrize(
    ("score_map", "mask"),
    [
        (np.full((2, 2), np.nan), np.zeros((2, 2), np.uint8)),
        (np.full((2, 2), 2.0), np.zeros((2, 2), np.uint8)),
        (np.ones((2, 2)), np.full((2, 2), 7, np.uint8)),
        (np.ones((2, 2)), np.zeros((2, 2, 3), np.uint8)),
        (np.ones((2, 2)), np.zeros((0, 2), np.uint8)),
    ],
)
def test_bad_input_names_the_image(score_map, mask):
    with pytest.raises(InputError, match="bird"):
        PixelScores().add(score_map, mask, "bird")
