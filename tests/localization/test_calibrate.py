import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from stages import calibrate as calibrate_stage
from stages import evaluate_localization as evaluate_stage
from stages import localize as localize_stage
from tests.small_workspace import build, make_boxes, make_index, make_map, rows_of, write_maps
from wsol_core.core.boxes import BOX_COLUMNS, iou
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.core.regions import Scale, map_box
from wsol_core.data.index import TEST, TRAIN_WEAKSUP
from wsol_core.localization.calibrate import CalibrateParams, MethodParams, calibrate, draw, label_boxes
from wsol_core.localization.localize import Threshold, final_boxes, find_targets, localize, read_calibration, sweep
from wsol_core.metrics.localization import best_iou

GRID = np.round(np.arange(0, 1, 0.05), 6)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MapStore]:
    index = make_index()
    write_maps(tmp_path / "maps.h5", index, make_boxes(index), level=0.5)
    with MapStore(tmp_path / "maps.h5") as opened:
        yield opened


def test_sweep_is_the_iou_of_each_image_and_threshold_alone(store: MapStore) -> None:
    index = make_index()
    boxes = pd.concat([make_boxes(index), make_boxes(index).assign(x0=0, y0=0)])
    targets = find_targets(index, boxes, TEST)
    found = sweep(store, targets, GRID, 64, "test")
    for position, row in enumerate(rows_of(targets.images)):
        truth = targets.truth.boxes[targets.truth.image == position]
        assert len(truth) == 2
        for column, threshold in enumerate(GRID):
            box = map_box(store[list(store.image_ids).index(row.image_id)], threshold, row.width, row.height, 64)
            assert found[position, column] == iou(box[None], truth).max()


def test_sweep_gives_zero_where_there_is_no_map(tmp_path: Path) -> None:
    index = make_index()
    with create(tmp_path / "one.h5", Kind.SCORE, 4, 4) as writer:
        writer.append(["0/picture02"], [-1], np.ones((1, 4, 4)))
    targets = find_targets(index, make_boxes(index), TEST)
    with MapStore(tmp_path / "one.h5") as store:
        found = sweep(store, targets, GRID, 16, "test")
    has_map = targets.images["image_id"] == "0/picture02"
    assert (found[has_map] > 0).all()
    assert (found[~has_map] == 0).all()


def test_targets_are_boxes_of_the_images_own_label_or_of_none() -> None:
    index = make_index(count=6)
    boxes = make_boxes(index).iloc[[0, 0, 1, 2]].reset_index(drop=True)
    boxes.loc[1, "label"] = 1 - boxes["label"][1]
    boxes.loc[2, "label"] = -1
    boxes.loc[3, "label"] = 1 - boxes["label"][3]
    found = pd.concat(
        [find_targets(index, boxes, split).images for split in ("train-weaksup", "train-fullsup", "test")]
    )
    assert sorted(found["image_id"]) == sorted(boxes["image_id"][[0, 2]])


def test_targets_refuse_images_of_several_labels() -> None:
    index = make_index()
    index.table["labels"] = [[0, 1]] * len(index.table)
    with pytest.raises(InputError, match="has 2 labels"):
        find_targets(index, make_boxes(index), TEST)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_calibrate_finds_the_threshold_at_which_maps_give_the_pseudo_boxes(tmp_path: Path, level: float) -> None:
    index = make_index()
    write_maps(tmp_path / "maps.h5", index, make_boxes(index), level)
    with MapStore(tmp_path / "maps.h5") as store:
        found = calibrate(store, find_targets(index, make_boxes(index), TRAIN_WEAKSUP), GRID, 64)
    assert found.threshold.value == pytest.approx(level, abs=0.051)
    assert found.mean_iou == found.curve["mean_iou"].max() > 0.9
    assert found.images == 8


def test_a_plateau_is_answered_by_its_middle(tmp_path: Path) -> None:
    index = make_index(count=3)
    values = np.full((1, 8, 8), 0.1, np.float32)
    values[:, 2:6, 2:6] = 0.8
    boxes = make_boxes(index).assign(x0=10, y0=15, x1=30, y1=45)
    with create(tmp_path / "maps.h5", Kind.SCORE, 8, 8) as writer:
        writer.append(["0/picture00"], [-1], values)
    with MapStore(tmp_path / "maps.h5") as store:
        found = calibrate(store, find_targets(index, boxes, TRAIN_WEAKSUP), GRID, 8)
    assert found.threshold == Threshold(0.4)
    assert (found.curve["mean_iou"] == 1).sum() == 14


def test_calibrate_without_pseudo_boxes_says_so(store: MapStore) -> None:
    targets = find_targets(make_index(), make_boxes(make_index())[:0], TRAIN_WEAKSUP)
    with pytest.raises(InputError, match="no training image has a pseudo box"):
        calibrate(store, targets, GRID, 64)


def test_draw_keeps_each_image_with_its_own_boxes() -> None:
    index = make_index()
    targets = find_targets(index, pd.concat([make_boxes(index), make_boxes(index).assign(x0=0)]), TRAIN_WEAKSUP)
    drawn = draw(targets, 5, seed=1)
    assert len(drawn.images) == len(drawn.truth) == 5
    assert drawn.images["image_id"].is_monotonic_increasing
    for position, image_id in enumerate(drawn.images["image_id"]):
        whole = targets.images.index[targets.images["image_id"] == image_id][0]
        np.testing.assert_array_equal(
            drawn.truth.boxes[drawn.truth.image == position], targets.truth.boxes[targets.truth.image == whole]
        )
    assert draw(targets, 5, seed=1).images.equals(drawn.images)
    assert draw(targets, 8, seed=1) is targets


def test_parameters_have_defaults_and_refuse_ground_truth() -> None:
    assert (CalibrateParams().step, MethodParams(calibrated_on="boxes.parquet").calibrated_by) == (0.01, "pseudo_boxes")
    with pytest.raises(ValidationError, match="ground truth; a threshold must not have seen it"):
        MethodParams(calibrated_on="data/localization/truth/annotations.parquet")
    with pytest.raises(ValidationError, match=r"not a \.h5 file, which labels asks for"):
        MethodParams(calibrated_by="labels", calibrated_on="data/localization/pseudo_boxes.parquet")


def test_localize_boxes_every_map_in_pixels_of_its_image(store: MapStore) -> None:
    index = make_index()
    table = localize(store, index, 0.5, 64)
    assert list(table["image_id"]) == list(index.table["image_id"])
    assert table[list(BOX_COLUMNS)].to_numpy().dtype == np.float32
    assert table["score"].dtype == np.float32
    assert table["label"].dtype == np.int32
    for at, row in enumerate(rows_of(index.table)):
        expected = map_box(store[at], 0.5, row.width, row.height, 64)
        np.testing.assert_array_equal(table.loc[at, list(BOX_COLUMNS)].to_numpy(np.float32), expected)
        assert table["score"][at] == store[at].max()


@pytest.mark.parametrize("scale", ["maximum", "percentile", "otsu", "otsu_root", "otsu_logit"])
def test_sweep_calibrate_and_localize_agree_on_the_scale(store: MapStore, scale: Scale) -> None:
    index = make_index()
    targets = find_targets(index, make_boxes(index), TRAIN_WEAKSUP)
    swept = sweep(store, targets, GRID, 64, "test", scale=scale)
    found = calibrate(store, targets, GRID, 64, scale)
    np.testing.assert_array_equal(found.curve["mean_iou"], swept.mean(axis=0, dtype=np.float64))
    assert (swept != sweep(store, targets, GRID, 64, "test")).any()
    boxes = final_boxes(localize(store, index, found.threshold.value, 64, scale), targets.images)
    column = list(GRID).index(found.threshold.value)
    np.testing.assert_array_equal(best_iou(boxes[:, None], targets.truth)[:, 0], swept[:, column])


@pytest.fixture
def two_objects(tmp_path: Path) -> Iterator[MapStore]:
    """Per image a large object of score .6 and a small one of .9; the last image's map is empty."""
    index = make_index(count=4)
    score_map = np.zeros((8, 8), np.float16)
    score_map[1:3, 1:3] = 0.9
    score_map[4:8, 3:8] = 0.6
    with create(tmp_path / "two.h5", Kind.SCORE, 8, 8) as writer:
        for image_id in index.table["image_id"][:-1]:
            writer.append([image_id], [-1], score_map[None])
        writer.append([index.table["image_id"].iloc[-1]], [-1], np.zeros((1, 8, 8)))
    with MapStore(tmp_path / "two.h5") as opened:
        yield opened


def test_localize_gives_all_components_best_first(two_objects: MapStore) -> None:
    index = make_index(count=4)
    table = localize(two_objects, index, 0.5, 8, components="all")
    ids = list(index.table["image_id"])
    assert list(table["image_id"]) == [*np.repeat(ids[:3], 2), ids[3]]
    assert {column: str(kind) for column, kind in table.dtypes.items()} == {
        column: str(kind) for column, kind in localize(two_objects, index, 0.5, 8).dtypes.items()
    }
    width, height = index.table["width"][0], index.table["height"][0]
    expected = np.array([[3, 4, 8, 8], [1, 1, 3, 3]]) * [width, height, width, height] / 8
    np.testing.assert_allclose(table[list(BOX_COLUMNS)][:2], expected)
    np.testing.assert_allclose(table["score"], [20 * 0.6 / 64, 4 * 0.9 / 64] * 3 + [0], rtol=1e-3)
    assert len(localize(two_objects, index, 0.5, 8, components="all", min_area=0.1)) == 4


def test_the_best_of_all_components_is_the_images_box(two_objects: MapStore) -> None:
    index = make_index(count=4)
    images = index.table[["image_id"]].assign(label=0)
    largest, every = (localize(two_objects, index, 0.5, 8, components=each) for each in ("largest", "all"))
    np.testing.assert_array_equal(final_boxes(every, images), final_boxes(largest, images))


def test_stages_follow_the_parameters_of_localize(workspace: Path) -> None:
    text = (workspace / "params.yaml").read_text()
    tables, thresholds = [], []
    for block in ("{resolution: 64}", "{resolution: 64, scale: percentile, components: all, min_area: 0}"):
        (workspace / "params.yaml").write_text(text.replace("{resolution: 64}", block))
        calibrate_stage.main("ddt")
        localize_stage.main("ddt")
        tables.append(read_table(workspace / "data/localization/boxes/ddt.parquet")[0])
        thresholds.append(read_calibration(workspace / "data/localization/thresholds/ddt.json"))
    assert thresholds[0] != thresholds[1]
    assert not tables[0]["score"].equals(tables[1]["score"])
    evaluate_stage.main("ddt")


def test_localize_refuses_maps_of_unknown_images(store: MapStore) -> None:
    with pytest.raises(InputError, match="0/picture22' is not in the index"):
        localize(store, make_index(count=22), 0.5, 64)


def test_final_box_is_the_labels_own_then_the_class_agnostic_then_none() -> None:
    boxes = pd.DataFrame({
        "image_id": ["a", "a", "a", "b", "b", "c"],
        "label": [-1, 2, 1, -1, 7, 7],
        "score": [0.9, 0.1, 0.8, 0.5, 0.9, 0.9],
        "x0": range(6), "y0": 0, "x1": 10, "y1": 10,
    })  # fmt: skip
    images = pd.DataFrame({"image_id": ["a", "b", "c", "d"], "label": [2, 2, 2, 2]})
    np.testing.assert_array_equal(
        final_boxes(boxes, images), [[1, 0, 10, 10], [3, 0, 10, 10], [0, 0, 0, 0], [0, 0, 0, 0]]
    )


THRESHOLD = '{"threshold": 0.5, "scale": "value", "calibrated_by": "constant"}'


@pytest.mark.parametrize(
    "content",
    [
        None, "", "{}", "[1]", "[" * 100_000, '{"threshold": 0.5}', THRESHOLD.replace("0.5", "null"),
        THRESHOLD.replace("value", "no"), THRESHOLD.replace("0.5", "NaN"), THRESHOLD.replace("0.5", "7"),
        THRESHOLD.replace("0.5", "-0.1"),
    ],
)  # fmt: skip
def test_a_threshold_file_without_threshold_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ddt.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"ddt\.json: no threshold"):
        read_calibration(path)


def run_stages(method: str) -> None:
    for stage in (calibrate_stage, localize_stage, evaluate_stage):
        stage.main(method)


def digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_stages_write_figures_that_agree_with_their_tables(workspace: Path) -> None:
    run_stages("foreground")
    results = workspace / "results/small"
    figures = json.loads((results / "localization/foreground.json").read_text())
    assert list(figures) == ["test", "train-fullsup", "train-weaksup"]
    test = figures["test"]
    assert test["threshold"] == pytest.approx(0.5, abs=0.051)
    assert test["calibrated_by"] == "pseudo_boxes"
    assert test["gt_known"] == 1
    assert test["images"] == 8
    assert test["gt_known_low"] <= test["gt_known"] <= test["gt_known_high"]
    curve = pd.read_csv(results / "curves/foreground-thresholds.csv")
    assert list(curve.columns) == ["threshold", "train-weaksup", "train-fullsup", "test"]
    assert curve["test"].max() == test["gt_known_oracle"]
    assert curve.set_index("threshold")["test"][test["threshold"]] == test["gt_known"]
    classes = pd.read_csv(results / "curves/foreground-classes.csv").query("split == 'test'")
    assert np.average(classes["mean_iou"], weights=classes["images"]) == pytest.approx(test["mean_iou"], abs=1e-5)
    histogram = pd.read_csv(results / "curves/foreground-iou.csv")
    assert histogram["test"].sum() == pytest.approx(1)
    calibration = pd.read_csv(results / "curves/calibrate-foreground.csv")
    assert calibration.set_index("threshold")["mean_iou"].idxmax() == pytest.approx(test["threshold"])


def test_stages_give_the_same_bytes_twice_whatever_the_number_of_threads(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSOL_WORKERS", "1")
    run_stages("ddt")
    first = digests(workspace)
    monkeypatch.setenv("WSOL_WORKERS", "3")
    run_stages("ddt")
    assert digests(workspace) == first


def test_an_image_without_a_box_stays_in_the_denominator(workspace: Path) -> None:
    run_stages("foreground")
    boxes, _ = read_table(workspace / "data/localization/boxes/foreground.parquet")
    boxes[boxes["image_id"] != "0/picture02"].to_parquet(workspace / "data/localization/boxes/foreground.parquet")
    evaluate_stage.main("foreground")
    test = json.loads((workspace / "results/small/localization/foreground.json").read_text())["test"]
    assert (test["images"], test["gt_known"]) == (8, 0.875)


def calibrated(workspace: Path, method: str) -> dict[str, Any]:
    """What `thresholds/ddt.json` holds for a line of `methods.ddt`."""
    text = (workspace / "params.yaml").read_text()
    line = "ddt: {calibrated_on: data/localization/pseudo_boxes.parquet}"
    assert line in text
    (workspace / "params.yaml").write_text(text.replace(line, f"ddt: {method}"))
    calibrate_stage.main("ddt")
    (workspace / "params.yaml").write_text(text)
    found = json.loads((workspace / "data/localization/thresholds/ddt.json").read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("by", "threshold", "scale"),
    [
        ("constant", 0.35, "value"),
        ("otsu", 0.5, "otsu"),
        ("otsu_root", 0.5, "otsu_root"),
        ("otsu_logit", 0.5, "otsu_logit"),
    ],
)
def test_constant_and_otsu_compare_nothing(workspace: Path, by: str, threshold: float, scale: Scale) -> None:
    line = f"{{calibrated_by: {by}, calibrated_on: data/localization/index.parquet, constant: 0.35}}"
    assert calibrated(workspace, line) == {
        "threshold": threshold, "scale": scale, "calibrated_by": by, "mean_iou": None, "images": 0
    }  # fmt: skip
    assert (workspace / "results/small/curves/calibrate-ddt.csv").read_text() == "threshold,mean_iou\n"
    localize_stage.main("ddt")
    evaluate_stage.main("ddt")
    test = json.loads((workspace / "results/small/localization/ddt.json").read_text())["test"]
    assert (test["calibrated_by"], test["threshold"]) == (by, threshold)
    curve = pd.read_csv(workspace / "results/small/curves/ddt-thresholds.csv").set_index("threshold")
    assert curve["test"][threshold] == test["gt_known"]


def test_labels_calibrate_by_the_boxes_of_their_foreground(workspace: Path) -> None:
    by_boxes = calibrated(workspace, "{calibrated_on: data/localization/pseudo_boxes.parquet}")
    by_labels = calibrated(
        workspace, "{calibrated_by: labels, calibrated_on: data/localization/targets/gaussian-foreground.h5}"
    )
    assert (by_labels["calibrated_by"], by_boxes["calibrated_by"]) == ("labels", "pseudo_boxes")
    assert by_labels["images"] == by_boxes["images"] == 8
    # Foreground is above .6 in a map that has .5 at the box's sides, so these boxes are smaller.
    assert by_labels["threshold"] > by_boxes["threshold"]
    assert by_labels["mean_iou"] > 0.8


def test_a_threshold_of_an_oracle_says_so_in_the_methods_name(workspace: Path) -> None:
    write_maps(workspace / "oracle-lr.h5", make_index(), make_boxes(make_index()), 0.5, Kind.MASK)
    with pytest.raises(InputError, match="'ddt' learns from ground truth"):
        calibrated(workspace, "{calibrated_by: labels, calibrated_on: oracle-lr.h5}")


def test_boxes_of_labels_are_of_the_largest_foreground_scaled_to_the_image(tmp_path: Path) -> None:
    index = make_index(count=9)
    train = index.split(TRAIN_WEAKSUP)
    labels = np.zeros((3, 4, 8), np.uint8)
    labels[0, 1:3, 2:6] = 1
    labels[0, 0, 7] = 1
    labels[1] = 255
    labels[2, 3, 7] = 1
    with create(tmp_path / "labels.h5", Kind.TRISTATE, 4, 8) as writer:
        writer.append(train["image_id"].tolist(), [-1, -1, 1], labels)
    with MapStore(tmp_path / "labels.h5") as store:
        found = label_boxes(store, index)
    first, _, last = rows_of(train)
    assert found[["image_id", "label"]].to_numpy().tolist() == [[first.image_id, -1], [last.image_id, 1]]
    expected = [
        [first.width / 4, first.height / 4, first.width * 3 / 4, first.height * 3 / 4],
        [last.width * 7 / 8, last.height * 3 / 4, last.width, last.height],
    ]
    np.testing.assert_allclose(found[list(BOX_COLUMNS)].to_numpy(), expected)


def test_scores_are_no_labels(store: MapStore) -> None:
    with pytest.raises(InputError, match="holds no masks or tri-state labels"):
        label_boxes(store, make_index())


def test_without_annotations_evaluation_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path, annotated=False)
    monkeypatch.chdir(tmp_path)
    run_stages("ddt")
    assert json.loads((tmp_path / "results/small/localization/ddt.json").read_text()) == {}
    assert "no annotations" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "results/small/curves/ddt-thresholds.csv")["test"].isna().all()


def test_the_made_up_map_is_right_at_its_level() -> None:
    box = np.array([8, 4, 24, 16])
    np.testing.assert_allclose(map_box(make_map(box, 28, 28, 0.5), 0.5, 28, 28, 224), box, atol=0.6)
