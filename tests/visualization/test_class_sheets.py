"""Sheets of heat maps and label masks: colours, marks, which images they show, and the stage, on made-up stores."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml
from PIL import Image

from stages import report as stage
from tests.small_workspace import PARAMS, build, make_boxes, make_index, rows_of, write_images
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import IGNORE, Kind, MapStore, create
from wsol_core.data.class_masks import ClassMasks
from wsol_core.data.index import ImageIndex, write_annotations, write_index
from wsol_core.data.label_masks import LabelMasks
from wsol_core.visualization import class_sheets
from wsol_core.visualization.class_colours import COLOURS, class_colour, legend, paint
from wsol_core.visualization.class_sheets import heat_maps, image_iou, segmentations
from wsol_core.visualization.contact_sheets import Report, ReportParams, draw_store
from wsol_core.visualization.pictures import ABSENT, PAPER, Picture, mark, note

SIDE = 64
SHOWN = ReportParams(images=2, proposals=1, side=SIDE)
GREY = np.full((40, 30, 3), 100, np.uint8)
METHODS = ("one", "two")
NETWORKS = str({name: {"learns_from": f"data/detection/targets/cues-{name}.h5"} for name in METHODS})
CELLS = 4
Mask = npt.NDArray[np.uint8]


def blended(colour: Any, grey: float = 100) -> npt.NDArray[np.float64]:
    return np.round(0.35 * grey + 0.65 * np.asarray(colour))


def has_colour(picture: Picture, colour: Any) -> bool:
    return bool((picture == np.asarray(colour)).all(axis=2).any())


def true_mask(row: Any) -> Mask:
    """Instance 1, a cat, on the left; 2, a dog, on the right; background below."""
    mask = np.zeros((row.height, row.width), np.uint8)
    mask[: row.height // 2, : row.width // 2] = 1
    mask[: row.height // 2, row.width // 2 :] = 2
    return mask


class Workspace:
    """The detection set with a cat and a dog in each image, and what two methods made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data/detection"
        index = make_index("detection", 18)
        self.index = replace(index, table=index.table.assign(labels=pd.Series([[0, 1]] * 18, dtype=object)))
        (folder / "params.yaml").write_text(PARAMS)
        self.set(objectness="{sets: [], methods: []}")
        write_images(folder, self.index)
        write_index(self.data / "index.parquet", self.index)
        self.test = self.index.split("test")["image_id"].tolist()

    def annotate(self, ids: list[str]) -> None:
        """Write annotations of all images, with masks for these."""
        objects = pd.concat([make_boxes(self.index).assign(label=k, instance=k + 1) for k in (0, 1)])
        objects.loc[~objects["image_id"].isin(ids), "instance"] = 0
        write_annotations(self.data / "truth/annotations.parquet", objects.assign(difficult=False))
        for row in rows_of(self.index.table):
            if row.image_id in ids:
                self.write_mask("truth/masks", row.image_id, true_mask(row))

    def write_mask(self, folder: str, image_id: str, mask: Mask) -> None:
        path = self.data / folder / f"{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)

    def write_segments(self, method: str, flaws: dict[str, int]) -> None:
        """Masks of the test images, right but for the columns from the left that are said to be background."""
        for row in rows_of(self.index.split("test")):
            mask = true_mask(row)
            mask[:, : flaws.get(row.image_id, 0)] = 0
            self.write_mask(f"segments/{method}", row.image_id, mask)

    def write_cues(self, method: str) -> None:
        cells = np.full((1, CELLS, CELLS), IGNORE, np.uint8)
        cells[0, 0], cells[0, 3] = 2, 0
        with create(self.data / "targets" / f"cues-{method}.h5", Kind.LABELS, CELLS, CELLS) as writer:
            for row in rows_of(self.index.split("train-weaksup", "train-fullsup").sort_values("image_id")):
                writer.append([row.image_id], [-1], cells)

    def write_maps(self, name: str, peaks: dict[int, tuple[int, int]], ids: list[str] | None = None) -> None:
        """A map for each label, zero but at a cell (row, column)."""
        with create(self.data / "outputs" / name / "maps.h5", Kind.SCORE, CELLS, CELLS) as writer:
            for image_id in self.index.table["image_id"] if ids is None else ids:
                for label, (y, x) in peaks.items():
                    cells = np.zeros((1, CELLS, CELLS), np.float32)
                    cells[0, y, x] = 1
                    writer.append([image_id], [label], cells)

    def set(self, **lines: str) -> None:
        content = yaml.safe_load((self.folder / "params.yaml").read_text())
        content |= {key: yaml.safe_load(value) for key, value in lines.items()}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(content))

    def pictures(self) -> dict[str, bytes]:
        stage.main("detection")
        folder = self.folder / "results/small/pictures/detection"
        return {path.stem: path.read_bytes() for path in folder.iterdir()}

    def report(self) -> Report:
        return Report(self.index, SHOWN, seed=0)

    def truth(self) -> ClassMasks:
        annotations = pd.read_parquet(self.data / "truth/annotations.parquet")
        return ClassMasks(self.data / "truth/masks", self.index, annotations)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


# Drawing


def test_classes_have_21_colours_of_their_own_and_none_is_the_backgrounds() -> None:
    assert len({tuple(colour) for colour in COLOURS[:22].tolist()}) == 22
    assert class_colour(21) == class_colour(0)
    for hue, dark, light in zip(COLOURS[1:8].tolist(), COLOURS[8:15].tolist(), COLOURS[15:22].tolist(), strict=True):
        assert sum(dark) < sum(hue) < sum(light)


def test_paint_has_the_classes_colours_hard_edges_and_leaves_255_as_it_is() -> None:
    painted = paint(GREY, np.array([[0, 1], [2, 255]], np.uint8))
    assert painted.dtype == np.uint8
    quarters = painted[:20, :15], painted[:20, 15:], painted[20:, :15], painted[20:, 15:]
    expected = np.stack([*(blended(colour) for colour in ((0, 0, 0), class_colour(0), class_colour(1))), GREY[0, 0]])
    for quarter, colour in zip(quarters, expected, strict=True):
        np.testing.assert_array_equal(quarter, np.broadcast_to(colour, quarter.shape))


def test_paint_reduces_a_large_mask_without_mixing_classes() -> None:
    labels = np.repeat([[1, 2]], 500, axis=1).repeat(300, axis=0)
    assert {tuple(c) for c in paint(GREY, labels).reshape(-1, 3).tolist()} == {
        tuple(blended(class_colour(label)).astype(int).tolist()) for label in (0, 1)
    }
    assert paint(GREY[:1, :1], labels).shape == (1, 1, 3)


def test_mark_stands_on_the_pixel_and_leaves_the_picture_unchanged() -> None:
    before = GREY.copy()
    drawn = mark(GREY, 20, 60, 60, 80, (1, 2, 3), radius=5)
    ys, xs = np.nonzero((drawn == (1, 2, 3)).all(axis=2))
    assert (float(ys.mean()), float(xs.mean())) == (30, 10)
    assert (int(np.ptp(ys)), int(np.ptp(xs))) == (8, 8)
    np.testing.assert_array_equal(drawn[30, 16], PAPER)
    np.testing.assert_array_equal(GREY, before)


@pytest.mark.parametrize("point", [(0, 0), (59, 79)])
def test_mark_is_cut_at_the_corners(point: tuple[int, int]) -> None:
    drawn = mark(GREY, *point, 60, 80, (1, 2, 3), radius=5)
    np.testing.assert_array_equal(drawn[0 if point[1] == 0 else -1, 0 if point[0] == 0 else -1], (1, 2, 3))
    assert drawn.shape == GREY.shape


def test_note_is_on_paper_in_the_corner() -> None:
    noted = note(GREY, "a")
    np.testing.assert_array_equal(noted[0, 0], PAPER)
    assert noted[:15, :15].min() < 50
    np.testing.assert_array_equal(noted[20:], GREY[20:])
    assert note(GREY[:1, :1], "longer than the picture").shape == (1, 1, 3)


def test_legend_names_each_class_in_as_many_lines_as_it_takes() -> None:
    names = ("cat", "dog", "owl")
    wide, narrow = legend(names, 300), legend(names, 45)
    assert (wide.shape, narrow.shape) == ((16, 300, 3), (48, 45, 3))
    for strip in (wide, narrow):
        assert all(has_colour(strip, class_colour(label)) for label in range(3))
        assert not has_colour(strip, class_colour(3))
    assert legend((), 20).shape == (16, 20, 3)


def test_stores_of_labels_are_painted(workspace: Workspace) -> None:
    workspace.write_cues("one")
    row = next(rows_of(workspace.report().choose("train-weaksup")))
    with MapStore(workspace.data / "targets/cues-one.h5") as store:
        drawn = draw_store(store)(row, GREY)
    assert drawn is not None
    np.testing.assert_array_equal(drawn[0, 0], blended(class_colour(1)))
    np.testing.assert_array_equal(drawn[15, 0], GREY[0, 0])
    np.testing.assert_array_equal(drawn[39, 0], blended((0, 0, 0)))


# Heat maps


def tile(sheet: Picture, row: int, column: int, captions: int = 0) -> Picture:
    """A tile of a sheet whose first row has captions, and as many above this row beyond."""
    top, left = 20 + row * (SIDE + 4) + captions * 16, 4 + column * (SIDE + 4)
    return sheet[top : top + SIDE, left : left + SIDE]


def centre_of(picture: Picture, colour: Any) -> tuple[float, float]:
    """Of the pixels of a colour, in shares of the height and width of the drawing, which is not white."""
    drawn = np.nonzero((picture < 250).any(axis=2))
    found = np.nonzero((picture == colour).all(axis=2))
    y, x = ((own.mean() - all_.min() + 0.5) / (np.ptp(all_) + 1) for own, all_ in zip(found, drawn, strict=True))
    return float(y), float(x)


def test_peaks_are_marked_where_the_maps_are_greatest(workspace: Workspace) -> None:
    cells = {"one": {0: (0, 3), 1: (3, 1)}, "two": {0: (2, 0), 1: (1, 2)}}
    for name, peaks in cells.items():
        workspace.write_maps(name, peaks)
    with (
        MapStore(workspace.data / "outputs/one/maps.h5") as one,
        MapStore(workspace.data / "outputs/two/maps.h5") as two,
    ):
        sheet = heat_maps(workspace.report(), {"one": one, "two": two})
    assert sheet is not None
    assert sheet.shape == (2 * 84 + 4, 3 * 68 + 4, 3)
    pairs = workspace.report().choose_classes("test", workspace.test)
    for row, label in enumerate(pairs["label"]):
        for number, peaks in enumerate(cells.values()):
            where = (np.array(peaks[label]) + 0.5) / CELLS
            for column in (0, 1 + number):
                found = centre_of(tile(sheet, row, column, row), class_colour(number))
                np.testing.assert_allclose(found, where, atol=0.15)
        assert not has_colour(tile(sheet, row, 1, row), class_colour(1))


def test_the_first_peak_stands_on_top_of_one_in_its_place(workspace: Workspace) -> None:
    for name in METHODS:
        workspace.write_maps(name, {0: (2, 2), 1: (2, 2)})
    with (
        MapStore(workspace.data / "outputs/one/maps.h5") as one,
        MapStore(workspace.data / "outputs/two/maps.h5") as two,
    ):
        sheet = heat_maps(workspace.report(), {"one": one, "two": two})
    assert sheet is not None
    assert has_colour(tile(sheet, 0, 0), class_colour(0))
    assert has_colour(tile(sheet, 0, 0), class_colour(1))


def test_a_map_of_zeros_has_no_peak_and_a_missing_one_no_picture(workspace: Workspace) -> None:
    workspace.write_maps("one", {0: (2, 2), 1: (2, 2)}, workspace.test[:1])
    with create(workspace.data / "outputs/zero/maps.h5", Kind.SCORE, 2, 2) as writer:
        writer.append(workspace.test[:2], [-1, -1], np.zeros((2, 2, 2), np.float32))
    report = Report(workspace.index, ReportParams(images=4, proposals=1, side=SIDE), 0)
    with (
        MapStore(workspace.data / "outputs/one/maps.h5") as one,
        MapStore(workspace.data / "outputs/zero/maps.h5") as zero,
    ):
        sheet = heat_maps(report, {"one": one, "zero": zero})
    assert sheet is not None
    assert sheet.shape[0] == 4 * 84 + 4
    assert not has_colour(sheet, class_colour(1))
    assert has_colour(tile(sheet, 1, 1, 1), class_colour(0))
    np.testing.assert_array_equal(tile(sheet, 2, 1, 2), np.broadcast_to(ABSENT, (SIDE, SIDE, 3)))


def test_no_sheet_without_a_map_of_a_test_image(workspace: Workspace) -> None:
    workspace.write_maps("one", {0: (0, 0)}, workspace.index.split("train-weaksup")["image_id"].tolist())
    with MapStore(workspace.data / "outputs/one/maps.h5") as store:
        assert heat_maps(workspace.report(), {"one": store}) is None


def test_classes_are_drawn_from_what_images_show(tmp_path: Path) -> None:
    index = make_index(count=12)
    labels = pd.Series([np.array(own, int) for own in ([0, 1], [], [1])] * 4, dtype=object)
    index = ImageIndex(index.table.assign(labels=labels, split="test"), index.classes, index.name, index.source)
    write_images(tmp_path, index)
    report = Report(index, ReportParams(images=99, proposals=1, side=SIDE), 0)
    pairs = report.choose_classes("test", index.table["image_id"])
    assert len(pairs) == 12
    shown = {(row.image_id, int(label)) for row in rows_of(index.table) for label in row.labels}
    assert set(zip(pairs["image_id"], pairs["label"], strict=True)) == shown
    assert report.choose_classes("test", []).empty
    assert list(report.choose("test")["label"]) == [0, -1, 1] * 4


# Segmentations


def test_iou_of_an_image_by_hand() -> None:
    truth = np.array([[0, 0, 1, 255]])
    assert image_iou(np.array([[0, 0, 1, 2]]), truth, 2, "a") == 1
    assert image_iou(np.array([[0, 1, 1, 2]]), truth, 2, "a") == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert image_iou(np.array([[0, 0, 2, 0]]), truth, 2, "a") == pytest.approx((1 + 0 + 0) / 3)
    assert np.isnan(image_iou(np.array([[1]]), np.array([[255]]), 2, "a"))


def sheets(workspace: Workspace, cues: bool = False) -> dict[str, Picture]:
    masks = {name: LabelMasks(workspace.data / "segments" / name) for name in METHODS}
    if not cues:
        return dict(segmentations(workspace.report(), {}, masks, workspace.truth()))
    with MapStore(workspace.data / "targets/cues-one.h5") as store:
        return dict(segmentations(workspace.report(), {"one": store}, masks, workspace.truth()))


def test_masks_and_cues_stand_beside_the_truth(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_sheets, "note", lambda picture, _: picture)
    workspace.annotate(workspace.index.table["image_id"].tolist())
    workspace.write_cues("one")
    for name in METHODS:
        workspace.write_segments(name, {})
    found = sheets(workspace, cues=True)
    test, train = found["segments-test"], found["segments-train-weaksup"]
    assert test.shape == (16 + 2 * 68 + 4 + 16, 4 * 68 + 4, 3)
    assert train.shape == (16 + 2 * 68 + 4 + 16, 3 * 68 + 4, 3)
    for row, method in ((0, 1), (0, 2), (1, 1), (1, 2)):
        np.testing.assert_array_equal(tile(test, row, method), tile(test, row, 3))
        assert (tile(test, row, 0) != tile(test, row, 3)).any()
    assert all(has_colour(test[-16:], class_colour(label)) for label in (0, 1))


def test_worst_and_best_cases_are_those_of_lowest_and_highest_iou(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.annotate(workspace.index.table["image_id"].tolist())
    flaws = {image_id: 4 * k for k, image_id in enumerate(workspace.test)}
    workspace.write_segments("one", flaws)
    workspace.write_segments("two", {image_id: 20 - flaw for image_id, flaw in flaws.items()})
    noted: list[str] = []

    def keep(picture: Picture, text: str) -> Picture:
        noted.append(text)
        return picture

    monkeypatch.setattr(class_sheets, "note", keep)
    found = sheets(workspace)
    assert set(found) == {
        "segments-train-weaksup",
        "segments-test",
        *(f"{m}-{e}" for m in METHODS for e in ("best", "worst")),
    }
    ious = [float(text.removeprefix("IoU ")) for text in noted]
    random, best_one, worst_one, best_two, worst_two = (np.reshape(ious[k : k + 4], (2, 2)) for k in range(0, 20, 4))
    assert len(random) == 2
    assert best_one[0, 0] == best_two[0, 1] == 1
    for column, best, worst in ((0, best_one, worst_one), (1, best_two, worst_two)):
        order = [*worst[:, column], *best[::-1, column]]
        assert order == sorted(order)
        assert order[0] < order[-1]


def test_images_without_true_masks_show_no_truth_and_are_no_cases(workspace: Workspace) -> None:
    masked = workspace.test[0]
    workspace.annotate([masked])
    workspace.write_segments("one", {})
    workspace.write_segments("two", {})
    found = sheets(workspace)
    assert found["one-best"].shape[0] == 16 + 68 + 4 + 16
    workspace.annotate([])
    without = sheets(workspace)
    assert set(without) == {"segments-train-weaksup", "segments-test"}
    assert without["segments-test"].shape[1] == 3 * 68 + 4
    assert without["segments-train-weaksup"].shape[1] == 68 + 4


@pytest.mark.parametrize(("mask", "message"), [(np.zeros((1, 1), np.uint8), "shape"), (None, "holds 9")])
def test_a_bad_mask_is_named(workspace: Workspace, mask: Mask | None, message: str) -> None:
    workspace.annotate(workspace.test)
    for name in METHODS:
        workspace.write_segments(name, {})
    row = next(rows_of(workspace.index.split("test")))
    bad = np.full((row.height, row.width), 9, np.uint8) if mask is None else mask
    workspace.write_mask("segments/one", row.image_id, bad)
    with pytest.raises(InputError, match=rf"segments/one/{row.image_id}\.png.*{message}"):
        sheets(workspace)


# The stage


def test_stage_shows_nothing_of_this_without_entries(workspace: Workspace) -> None:
    assert workspace.pictures() == {}


def test_stage_writes_every_sheet_twice_the_same(workspace: Workspace) -> None:
    workspace.annotate(workspace.index.table["image_id"].tolist())
    for name in METHODS:
        workspace.write_maps(name, {0: (0, 0), 1: (3, 3)})
        workspace.write_segments(name, {workspace.test[0]: 9})
    workspace.write_cues("two")
    workspace.set(
        heat_maps="{both: one two, one: ''}", segments="{one: {network: one}, two: {network: two}}", networks=NETWORKS
    )
    first = workspace.pictures()
    cases = {f"{method}-{end}" for method in METHODS for end in ("best", "worst")}
    splits = {"segments-train-weaksup", "segments-test"}
    assert set(first) == {"both-heat-maps", "one-heat-maps"} | cases | splits
    widths = {name: Image.open(BytesIO(first[f"{name}-heat-maps"])).width for name in ("both", "one")}
    assert widths == {"both": 3 * 68 + 4, "one": 2 * 68 + 4}
    assert workspace.pictures() == first


def test_stage_leaves_the_other_data_set_alone_and_names_a_missing_store(workspace: Workspace) -> None:
    build(workspace.folder)
    workspace.set(heat_maps="{missing: ''}", segments="{}", methods="{}")
    stage.main("localization")
    with pytest.raises(InputError, match=r"missing/maps\.h5: not a readable map store"):
        stage.main("detection")
    assert not list((workspace.folder / "results").rglob("*detection*"))
