from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from stages import localize as localize_stage
from stages import report as report_stage
from tests.small_workspace import build, make_boxes, make_index, rows_of, write_images
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_json
from wsol_core.core.map_store import Kind, create
from wsol_core.data.index import read_index
from wsol_core.visualization.contact_sheets import (
    COLUMNS_OF_CASES,
    Report,
    ReportParams,
    draw_boxes,
    draw_image,
    draw_result,
    worst_by_error,
)
from wsol_core.visualization.pictures import (
    ABSENT,
    CAPTION_HEIGHT,
    GAP,
    GREEN,
    GREY,
    HEADING_HEIGHT,
    RED,
    Picture,
    heat,
    outline,
    sheet,
    shrink,
    stain,
    write_jpeg,
)


def f32(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


THRESHOLD = {"threshold": 0.5, "scale": "value", "calibrated_by": "constant"}
PARAMS = ReportParams(images=2, worst=2, proposals=1, side=64)
BLACK = np.zeros((40, 30, 3), np.uint8)


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch, annotated: bool = True) -> None:
    build(folder, annotated)
    monkeypatch.chdir(folder)
    for method in ("ddt", "foreground", "segmentation-foreground"):
        write_json(folder / f"data/localization/thresholds/{method}.json", THRESHOLD)
        localize_stage.main(method)


def pictures(folder: Path) -> dict[str, bytes]:
    for name in ("localization", "detection"):
        report_stage.main(name)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_shrink_keeps_the_shape_of_the_picture() -> None:
    assert shrink(np.zeros((100, 50, 3), np.uint8), 20).shape == (20, 10, 3)
    assert shrink(np.zeros((1, 500, 3), np.uint8), 20).shape == (1, 20, 3)


def test_heat_goes_from_blue_to_red_on_an_absolute_scale() -> None:
    cold, warm, half = (heat(BLACK, np.full((2, 2), score)) for score in (0.0, 1.0, 0.5))
    assert cold.shape == BLACK.shape
    assert cold[0, 0, 2] > cold[0, 0, 0]
    assert warm[0, 0, 0] > warm[0, 0, 2]
    assert half[0, 0, 1] > max(half[0, 0, 0], half[0, 0, 2])


def test_stain_has_three_colours_with_hard_edges() -> None:
    stained = stain(BLACK, np.array([[0, 1, 255]]))
    assert len(np.unique(stained.reshape(-1, 3), axis=0)) == 3
    np.testing.assert_array_equal(stained[0, 10], np.round(np.array(RED) / 2))
    np.testing.assert_array_equal(stained[39, 29], np.round(np.array(GREY) / 2))


def test_outline_scales_the_box_to_the_picture_and_leaves_it_unchanged() -> None:
    drawn = outline(BLACK, f32([[20, 20, 50, 70]]), 60, 80, GREEN, thickness=1)
    ys, xs = np.nonzero(drawn.any(axis=2))
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (10, 10, 24, 34)
    assert not BLACK.any()
    assert not outline(BLACK, np.zeros((0, 4), np.float32), 60, 80, GREEN).any()


def test_sheet_places_pictures_in_squares_and_absent_ones_in_grey() -> None:
    white = np.full((10, 20, 3), 255, np.uint8)
    captioned = sheet([[(white, "a"), (None, "b")]], 20)
    plain = sheet([[(white, ""), (None, "")]], 20)
    assert plain.shape == (28, 52, 3)
    assert captioned.shape[0] > plain.shape[0]
    np.testing.assert_array_equal(plain[10, 40], ABSENT)


def test_a_heading_stands_above_its_row() -> None:
    white, row = np.full((20, 20, 3), 255, np.uint8), [(BLACK[:20, :20], "")]
    plain, headed = sheet([row], 20), sheet(["x", row], 20)
    strip = len(headed) - len(plain)
    assert strip > 0
    assert (headed[:strip] < 128).any()
    np.testing.assert_array_equal(headed[strip + 4 :], plain[4:])
    assert sheet(["", [(white, "")]], 20).min() == 255


def test_pictures_stay_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=np.uint8)
    write_jpeg(tmp_path / "noise.jpg", noise)
    assert (tmp_path / "noise.jpg").stat().st_size <= 300_000
    assert Image.open(tmp_path / "noise.jpg").size == (700, 700)


def test_steps_that_show_nothing_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    index = make_index()
    write_images(tmp_path, index)
    report = Report(index, PARAMS, seed=0)
    nothing = draw_boxes(make_boxes(index)[:0], RED)
    images = report.choose("test")
    assert len(images) == 2
    two = report.steps(images, {"image": draw_image, "boxes": draw_boxes(make_boxes(index), RED)})
    three = report.steps(images, {"image": draw_image, "none": nothing, "boxes": draw_boxes(make_boxes(index), RED)})
    assert two is not None
    assert three is not None
    np.testing.assert_array_equal(two, three)
    assert report.steps(images[:0], {"image": draw_image}) is None


def test_best_and_worst_cases_are_those_of_highest_and_lowest_iou(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    index = make_index(count=12)
    write_images(tmp_path, index)
    truth = make_boxes(index)
    boxes = truth.copy()
    boxes["x1"] -= np.arange(12) % 5
    seen: list[tuple[str, float]] = []

    def note(row: Any, picture: Picture) -> Picture:
        seen.append((row.image_id, row.iou))
        return picture

    best, worst = Report(index, PARAMS, 0).cases(boxes, truth, "test", (note, draw_result(boxes, truth)))
    assert best.shape[1] == worst.shape[1]
    assert len(best) < len(worst)
    ious = [value for _, value in seen]
    assert ious == sorted(ious[:2], reverse=True) + sorted(ious[2:])
    assert min(ious[:2]) >= max(ious[2:])
    assert len({image_id for image_id, _ in seen}) == 4


def test_the_worst_are_grouped_by_error_the_commonest_first() -> None:
    errors = ["too_big", "part", "too_big", "background", "multi_instance", "correct", "correct", "correct"]
    ious = [0.5, 0.1, 0.2, 0.3, 0.4, 0.9, 0.6, 0.7]
    images = pd.DataFrame({"image_id": list("abcdefgh"), "iou": ious, "error": errors})
    groups = [(heading, "".join(part["image_id"])) for heading, part in worst_by_error(images, 7)]
    expected = ["too big: 2 of 7", "multi instance: 1 of 7", "part: 1 of 7", "background: 1 of 7", "correct: 2 of 7"]
    assert groups == list(zip(expected, ["ca", "e", "b", "d", "gh"], strict=True))
    assert [part["image_id"].tolist() for _, part in worst_by_error(images, 1)] == [["b"]]
    assert list(worst_by_error(images[:0], 3)) == []


def test_the_sheet_of_the_worst_has_a_heading_and_rows_for_each_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boxes of the whole image and of a corner of the object."""
    monkeypatch.chdir(tmp_path)
    index = make_index(count=12)
    write_images(tmp_path, index)
    truth = make_boxes(index).assign(x0=10, y0=10, x1=20, y1=20)
    boxes = truth.assign(x0=0, y0=0, x1=40, y1=40)
    part = np.arange(12) % 2 == 0
    boxes.loc[part, list(BOX_COLUMNS)] = 10, 10, 14, 14
    report = Report(index, PARAMS.model_copy(update={"worst": 24}), 0)
    _, worst = report.cases(boxes, truth, "test", [draw_image])
    tiles = part[index.table["split"] == "test"]
    assert 1 < tiles.sum() < len(tiles) <= COLUMNS_OF_CASES
    assert len(worst) == 2 * (HEADING_HEIGHT + CAPTION_HEIGHT + PARAMS.side + GAP) + GAP
    assert worst.shape[1] == max(tiles.sum(), (~tiles).sum()) * (PARAMS.side + GAP) + GAP


def test_the_final_box_is_red_over_the_green_truth() -> None:
    index = make_index(count=1)
    boxes = make_boxes(index).assign(x0=4, y0=4, x1=20, y1=20)
    row = next(rows_of(index.table.assign(label=0)))
    picture = np.zeros((60, 40, 3), np.uint8)
    drawn = draw_result(boxes, boxes.assign(x0=10, y0=10, x1=30, y1=40))(row, picture)
    assert drawn is not None
    np.testing.assert_array_equal(drawn[4, 12], RED)
    np.testing.assert_array_equal(drawn[25, 10], GREEN)


def test_stage_writes_every_sheet_twice_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch)
    folder = tmp_path / "results/small/pictures"
    first = pictures(folder)
    methods = ("ddt", "foreground", "segmentation-foreground")
    expected = {f"{method}-{end}.jpg" for method in methods for end in ("best", "worst")}
    steps = {"steps-train-weaksup.jpg", "steps-test.jpg"}
    assert set(first) == {f"localization/{name}" for name in expected | steps} | {"detection/foreground-objectness.jpg"}
    eight_columns = cv2.imread(str(folder / "localization/steps-test.jpg"))
    assert eight_columns is not None
    assert eight_columns.shape[1] == 8 * 68 + 4
    assert pictures(folder) == first


def test_without_annotations_there_are_no_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch, annotated=False)
    report_stage.main("localization")
    names = {path.stem for path in (tmp_path / "results/small/pictures/localization").iterdir()}
    assert names == {"steps-train-weaksup", "steps-test"}


def test_a_method_without_maps_is_named_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch)
    (tmp_path / "data/localization/outputs/ddt/maps.h5").unlink()
    with pytest.raises(InputError, match=r"ddt/maps\.h5: not a readable map store"):
        report_stage.main("localization")
    assert not list((tmp_path / "results").rglob("*localization*"))


def test_layers_are_shown_for_the_images_that_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch)
    report = Report(read_index(Path("data/localization/index.parquet")), PARAMS, seed=0)
    held = report.index.split("test")["image_id"].tolist()[-1:]
    with create(Path("data/localization/outputs/ddt/layers.h5"), Kind.SCORE, 2, 2) as writer:
        writer.append(held * 3, [0, 1, 2], np.stack([np.full((2, 2), k / 2, np.float32) for k in range(3)]))
    assert report.choose("test", held)["image_id"].tolist() == held
    names = pictures(tmp_path)
    assert "results/small/pictures/localization/ddt-layers.jpg" in names
    assert "results/small/pictures/localization/foreground-layers.jpg" not in names
    sheet_of_five = Image.open(tmp_path / "results/small/pictures/localization/ddt-layers.jpg")
    assert sheet_of_five.width > 4 * PARAMS.side
