"""Figures of a detector with their intervals, beside two baselines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages import evaluate_detection as stage
from tests.small_workspace import build, make_boxes, make_index
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_table
from wsol_core.data.index import ImageIndex
from wsol_core.evaluation.detection import evaluate
from wsol_core.metrics import detection_intervals
from wsol_core.metrics.detection import corloc, voc_ap
from wsol_core.metrics.detection_intervals import corloc_interval, resampled, voc_ap_gain_interval, voc_ap_interval

BOX = ["x0", "y0", "x1", "y1"]


def index_of(*rows: tuple[str, str, list[int]]) -> ImageIndex:
    table = pd.DataFrame(rows, columns=["image_id", "split", "labels"])
    table = table.assign(path=table["image_id"], digest="", width=100, height=50)
    return ImageIndex(table, ("cat", "dog"), "toy")


def found(*rows: tuple[str, float, float, float, float, float, int]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["image_id", *BOX, "score", "label"])
    return table.astype(dict.fromkeys([*BOX, "score"], np.float32) | {"label": np.int32})


def objects(*rows: tuple[str, int, float, float, float, float, bool]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["image_id", "label", *BOX, "difficult"])
    return table.astype(dict.fromkeys(BOX, np.float32)).assign(instance=0)


INDEX = index_of(("a", "test", [0]), ("b", "test", [0, 1]), ("c", "train-weaksup", [1]))
TRUTH = objects(
    ("a", 0, 0, 0, 90, 50, False),
    ("b", 0, 10, 10, 30, 30, False),
    ("b", 1, 60, 10, 80, 30, False),
    ("b", 1, 0, 0, 9, 9, True),
    ("c", 1, 0, 0, 50, 50, False),
)
DETECTIONS = found(
    ("a", 0, 0, 90, 50, 0.9, 0),
    ("a", 0, 0, 9, 9, 0.8, 0),
    ("b", 10, 10, 30, 30, 0.7, 0),
    ("b", 0, 0, 9, 9, 0.9, 1),
    ("b", 0, 30, 9, 49, 0.6, 1),
    ("b", 60, 10, 80, 30, 0.5, 1),
    ("c", 60, 0, 90, 50, 0.5, 1),
)
SCORED = found(
    ("a", 0, 0, 9, 9, 0.2, -1),
    ("a", 0, 0, 90, 50, 0.3, -1),
    ("b", 60, 10, 80, 30, 0.8, -1),
    ("b", 10, 10, 30, 30, 0.8, -1),
    ("c", 0, 0, 50, 50, 0.1, -1),
)


def test_figures_by_hand() -> None:
    figures, table = evaluate(DETECTIONS, SCORED, INDEX, TRUTH, seed=0)
    test = figures["test"]
    cat, dog = (6 + 5 * 2 / 3) / 11, 0.5
    assert test["ap_voc07"] == pytest.approx((cat + dog) / 2, abs=1e-6)
    assert test["ap_voc10"] == pytest.approx(((1 + 2 / 3) / 2 + 0.5) / 2, abs=1e-6)
    assert test["corloc"] == 1
    assert test["whole_image_ap_voc07"] == pytest.approx((6 / 11 + 0) / 2, abs=1e-6)
    assert test["whole_image_corloc"] == (0.5 + 0) / 2
    assert test["best_proposal_ap_voc07"] == pytest.approx((6 / 11 + 1) / 2, abs=1e-6)
    assert test["best_proposal_corloc"] == (0.5 + 1) / 2
    assert [test[key] for key in ("images", "objects", "detections", "images_without_detection")] == [2, 4, 6, 0]
    train = figures["train-weaksup"]
    assert (train["corloc"], train["whole_image_corloc"], train["best_proposal_corloc"]) == (0, 1, 1)
    assert list(figures) == ["train-weaksup", "test"]
    assert table[["split", "class", "objects"]].to_numpy().tolist() == [
        ["train-weaksup", "cat", 0], ["train-weaksup", "dog", 1], ["test", "cat", 2], ["test", "dog", 2],
    ]  # fmt: skip
    assert np.isnan(table["ap_voc07"][0])
    assert table["ap_voc07"][2] == pytest.approx(cat)


def test_a_baseline_never_finds_a_class_that_the_detector_does_not() -> None:
    silent = DETECTIONS[DETECTIONS["label"] == 0]
    figures, table = evaluate(silent, SCORED, INDEX, TRUTH, seed=0)
    dogs = table[(table["class"] == "dog") & (table["split"] == "test")].iloc[0]
    assert (dogs["ap_voc07"], dogs["corloc"], dogs["best_proposal_ap_voc07"]) == (0, 0, 0)
    assert dogs["best_proposal_corloc"] == 1
    assert figures["train-weaksup"]["images_without_detection"] == 1


def test_no_detection_at_all_and_no_annotation_at_all() -> None:
    figures, _ = evaluate(DETECTIONS[:0], SCORED, INDEX, TRUTH, seed=0)
    assert (figures["test"]["ap_voc07"], figures["test"]["corloc"], figures["test"]["ap_voc07_high"]) == (0, 0, 0)
    figures, table = evaluate(DETECTIONS, SCORED, INDEX, TRUTH[:0], seed=0)
    assert figures == {}
    assert len(table) == 0


def test_difficult_objects_alone_give_no_precision_but_a_location() -> None:
    index, truth = index_of(("a", "test", [0])), objects(("a", 0, 0, 0, 90, 50, True))
    test = evaluate(DETECTIONS[:1], SCORED[:2], index, truth, seed=0)[0]["test"]
    assert (test["ap_voc07"], test["ap_voc07_low"], test["corloc"]) == (None, None, 1)


@pytest.mark.parametrize("which", ["detections", "proposals"])
def test_boxes_of_an_unknown_image_are_refused(which: str) -> None:
    strange = found(("z", 0, 0, 9, 9, 0.5, 0))
    tables = {"detections": DETECTIONS, "proposals": SCORED} | {which: strange}
    with pytest.raises(InputError, match=f"{which} of image 'z'"):
        evaluate(tables["detections"], tables["proposals"], INDEX, TRUTH, seed=0)


# Intervals


def random_case(seed: int, images: int = 9, classes: int = 3) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    rng = np.random.default_rng(seed)
    names = [f"p{number}" for number in range(images)]

    def boxes(count: int) -> pd.DataFrame:
        low = rng.integers(0, 4, (count, 2))
        corners = np.hstack([low, low + rng.integers(1, 4, (count, 2))])
        table = pd.DataFrame(corners.astype(np.float32), columns=BOX)
        return table.assign(image_id=rng.choice(names, count), label=rng.integers(0, classes, count))

    scores = rng.permutation(60).astype(np.float32)
    return boxes(60).assign(score=scores), boxes(25).assign(difficult=rng.random(25) < 0.2), names


def drawn_again(table: pd.DataFrame, names: list[str], weights: np.ndarray) -> pd.DataFrame:
    copies = [
        table[table["image_id"] == name].assign(image_id=f"{name}-{copy}")
        for name, weight in zip(names, weights, strict=True)
        for copy in range(weight)
    ]
    return pd.concat(copies, ignore_index=True)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_equal_a_loop_over_copies_of_images(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_intervals, "ROUNDS", 12)
    monkeypatch.setattr(detection_intervals, "AT_ONCE", 4)
    detections, truth, names = random_case(seed)
    labels = {name: sorted(set(truth.loc[truth["image_id"] == name, "label"])) for name in names}
    precisions, shares = [], []
    for weights in np.concatenate(list(resampled(len(names), seed))):
        assert weights.sum() == len(names)
        copies = (drawn_again(table, names, weights) for table in (detections, truth))
        own, real = copies
        given = {f"{n}-{c}": labels[n] for n, w in zip(names, weights, strict=True) for c in range(w)}
        precisions.append(voc_ap(own, real, 3, "11").mean)
        shares.append(corloc(own, real, given, 3).mean)
    for (low, high), values in (
        (voc_ap_interval(detections, truth, 3, names, seed), precisions),
        (corloc_interval(detections, truth, 3, labels, seed), shares),
    ):
        assert [low, high] == pytest.approx(np.quantile(values, [0.025, 0.975]).tolist())
        assert low <= high


@pytest.mark.parametrize("seed", range(2))
def test_a_gain_is_drawn_on_the_same_images_for_both(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_intervals, "ROUNDS", 12)
    monkeypatch.setattr(detection_intervals, "AT_ONCE", 4)
    (detections, truth, names), (others, _, _) = random_case(seed), random_case(seed + 9)
    gains = []
    for weights in np.concatenate(list(resampled(len(names), seed))):
        own, other, real = (drawn_again(table, names, weights) for table in (detections, others, truth))
        gains.append(voc_ap(own, real, 3, "11").mean - voc_ap(other, real, 3, "11").mean)
    found = voc_ap_gain_interval([detections], [others], truth, 3, names, seed)
    assert list(found) == pytest.approx(np.quantile(gains, [0.025, 0.975]).tolist())
    assert voc_ap_gain_interval([detections], [detections], truth, 3, names, seed) == (0, 0)


def test_intervals_where_nothing_could_be_right() -> None:
    detections, truth, names = random_case(0)
    assert np.isnan(voc_ap_interval(detections, truth[:0], 3, names, 0)).all()
    assert np.isnan(corloc_interval(detections, truth, 3, dict.fromkeys(names, ()), 0)).all()


# The stage


def test_stage_writes_figures_and_classes_twice_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    boxes = make_boxes(make_index("detection"))
    write_table(tmp_path / "data/detection/detections/oicr.parquet", boxes)

    def results() -> list[bytes]:
        stage.main("oicr", "foreground")
        return [
            Path(f"results/small/{name}").read_bytes() for name in ("detection/oicr.json", "curves/oicr-detection.csv")
        ]

    first = results()
    figures: dict[str, Any] = json.loads(first[0])
    assert figures["test"]["ap_voc07"] == figures["train-weaksup"]["corloc"] == 1
    assert figures["test"]["best_proposal_corloc"] == 1
    assert results() == first
