"""Sheets of detections and of filtered proposals."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from stages import report as report_stage
from tests.small_workspace import PARAMS as WORKSPACE
from tests.small_workspace import build, make_boxes, make_index, write_images
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_table
from wsol_core.core.params import names
from wsol_core.visualization.class_colours import class_colour
from wsol_core.visualization.contact_sheets import Report, ReportParams, draw_image
from wsol_core.visualization.detection_sheets import best_of_images, detections, filtered
from wsol_core.visualization.pictures import GREEN, RED, Picture, tag

PARAMS = ReportParams(images=2, proposals=2, side=64)


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.chdir(tmp_path)
    index = make_index()
    write_images(tmp_path, index)
    return Report(index, PARAMS, seed=0)


def shows(picture: Picture, colour: tuple[int, int, int]) -> bool:
    return bool((picture.astype(int) == colour).all(axis=2).any())


def scored(*scores: float) -> pd.DataFrame:
    return pd.DataFrame({"image_id": "a", "score": scores, "label": 0})


def test_the_best_detections_of_an_image_by_hand() -> None:
    assert best_of_images(scored(0.3, 0.8, 0.4, 0.39), 9)["score"].tolist() == [0.8, 0.4]
    assert best_of_images(scored(0.5, 0.8, 0.7), 2)["score"].tolist() == [0.8, 0.7]
    assert len(best_of_images(scored(), 2)) == 0


def test_detections_have_their_classes_colours_and_a_column_each(report: Report) -> None:
    boxes = make_boxes(report.index)
    dogs = boxes.assign(label=1, score=np.float32(0.5))
    sheet = detections(report, {"one": dogs, "two": dogs[:0]}, boxes[:0])
    assert sheet is not None
    assert sheet.shape[1] == 2 * 68 + 4
    assert shows(sheet[:-16], class_colour(1))
    assert not shows(sheet[:-16], class_colour(0))
    whole = detections(report, {"one": dogs, "two": dogs}, boxes)
    assert whole is not None
    assert whole.shape[1] == 4 * 68 + 4


def test_kept_and_filtered_proposals_are_told_apart(report: Report) -> None:
    boxes = make_boxes(report.index)

    def colours(score: float) -> tuple[bool, bool]:
        sheet = filtered(report, boxes.assign(score=np.float32(score)), 0.25, draw_image)
        assert sheet is not None
        return shows(sheet, GREEN), shows(sheet, RED)

    assert colours(0.25) == (True, False)
    assert colours(0.2) == (False, True)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.99, 0.99), (-0.5, 2.0)])
def test_a_tag_stays_inside_the_picture(x: float, y: float) -> None:
    black: npt.NDArray[np.uint8] = np.zeros((40, 60, 3), np.uint8)
    drawn = tag(black, x, y, "0.87", (200, 200, 0))
    assert drawn.shape == black.shape
    assert (drawn == (200, 200, 0)).all(axis=2).sum() > 60
    assert not black.any()


def test_stage_writes_the_sheets_of_detectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    network = "{filter: {threshold: 0.7, exempt: []}}"
    scored = "data/detection/objectness/foreground.parquet"
    blocks = f"{{oicr: {{learns_from: {scored}, network: {network}}}, plain: {{network: {{filter: null}}}}}}"
    Path("params.yaml").write_text(WORKSPACE.replace("\ndetectors: {}", f"\ndetectors: {blocks}"))
    for name in ("oicr", "plain"):
        write_table(tmp_path / f"data/detection/detections/{name}.parquet", make_boxes(make_index("detection")))
    folder = tmp_path / "results/small/pictures/detection"
    sheets = []
    for _ in range(2):
        report_stage.main("detection")
        sheets.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert set(sheets[0]) == {"foreground-objectness.jpg", "detections.jpg", "oicr-filter.jpg"}
    assert sheets[0] == sheets[1]
    assert Image.open(folder / "oicr-filter.jpg").width == 4 * 68 + 4


@pytest.mark.parametrize("blocks", ["[oicr]", "1"])
def test_blocks_of_detectors_that_are_none_are_refused(
    blocks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"detectors: {blocks}\n")
    with pytest.raises(InputError, match="not blocks by NAME"):
        names("detectors")
