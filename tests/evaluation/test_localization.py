import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from stages import evaluate_localization as stage
from tests.small_workspace import build, make_boxes, make_index, make_map, rows_of
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.data.index import SPLITS, TEST, TRAIN_FULLSUP, TRAIN_WEAKSUP, ImageIndex
from wsol_core.evaluation.localization import Evaluation, evaluate
from wsol_core.evaluation.map_scores import TruthMasks
from wsol_core.localization.localize import Threshold, find_targets, localize
from wsol_core.metrics.errors import ERROR_TYPES, SIZE_EDGES
from wsol_core.metrics.max_box import TAUS, MaxBoxAcc
from wsol_core.metrics.pixels import PixelScores

KEYS = {
    "gt_known", "gt_known_low", "gt_known_high", "gt_known_fullsup", "gt_known_oracle", "gt_known_class_mean",
    "mean_iou", "centre_box", "centre_box_oracle", "threshold", "threshold_fullsup", "threshold_oracle", "images",
    "missing", "max_box_acc_centre", "max_box_acc_v2_centre", "max_box_acc", "max_box_acc_fullsup",
    "max_box_acc_calibrated", "max_box_acc_v2", "max_box_acc_v2_fullsup", "max_box_acc_v2_calibrated", "px_ap",
    "pixel_iou", "pixel_iou_fullsup", "pixel_iou_oracle", "masks", "calibrated_by",
}  # fmt: skip
THRESHOLD = 0.45
Mask = npt.NDArray[np.uint8]


def annotate(index: ImageIndex) -> pd.DataFrame:
    return make_boxes(index).drop(columns="score").assign(difficult=False, instance=3)


def filled(box: npt.NDArray[np.float32], width: int, height: int) -> Mask:
    x0, y0, x1, y1 = box.round().astype(int)
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = 3
    return mask


def write_mask(folder: Path, image_id: str, mask: Mask) -> None:
    path = folder / f"{image_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), mask)


@pytest.fixture
def index() -> ImageIndex:
    return make_index()


@pytest.fixture
def masks(tmp_path: Path, index: ImageIndex) -> Path:
    """Masks of all images but those of train-fullsup: each is its box, filled."""
    folder = tmp_path / "masks"
    boxes = make_boxes(index)[list(BOX_COLUMNS)].to_numpy()
    for row, box in zip(rows_of(index.table), boxes, strict=True):
        if row.split != TRAIN_FULLSUP:
            write_mask(folder, row.image_id, filled(box, row.width, row.height))
    return folder


def write_store(path: Path, index: ImageIndex, without: tuple[str, ...] = ()) -> MapStore:
    """Maps of the boxes at various levels, so that no threshold suits all."""
    boxes = make_boxes(index)[list(BOX_COLUMNS)].to_numpy()
    with create(path, Kind.SCORE, 28, 28) as writer:
        for number, (row, box) in enumerate(zip(rows_of(index.table), boxes, strict=True)):
            if row.image_id not in without:
                found = make_map(box, row.width, row.height, (0.2, 0.5, 0.8)[number % 3 - number % 2])
                writer.append([row.image_id], [-1], found[None])
    return MapStore(path)


def evaluated(store: MapStore, index: ImageIndex, masks: Path, annotations: pd.DataFrame | None = None) -> Evaluation:
    truth = annotate(index) if annotations is None else annotations
    return evaluate(
        store,
        localize(store, index, THRESHOLD, 64),
        index,
        truth,
        masks,
        Threshold(THRESHOLD),
        64,
        seed=0,
    )


def test_figures_of_maps_are_those_of_the_accumulators(tmp_path: Path, index: ImageIndex, masks: Path) -> None:
    with write_store(tmp_path / "maps.h5", index) as store:
        found = evaluated(store, index, masks)
        for split in SPLITS:
            targets = find_targets(index, annotate(index), split)
            boxes, pixels = MaxBoxAcc(), PixelScores()
            for position, row in enumerate(rows_of(targets.images)):
                score_map = store.find(row.image_id)
                assert score_map is not None
                boxes.add(score_map, targets.boxes_by_image()[position], row.width, row.height, row.image_id)
                truth = cv2.imread(str(masks / f"{row.image_id}.png"), cv2.IMREAD_UNCHANGED)
                if truth is not None:
                    pixels.add(score_map, (truth == 3).astype(np.uint8), row.image_id)
            figures, of_boxes = found.figures[split], boxes.figures()
            assert figures["max_box_acc"] == of_boxes.max_box_acc
            assert figures["max_box_acc_v2"] == of_boxes.max_box_acc_v2
            centre = (figures["max_box_acc_centre"], figures["max_box_acc_v2_centre"])
            assert centre == (of_boxes.centre, of_boxes.centre_v2)
            np.testing.assert_array_equal(found.tables["max-box"][split], of_boxes.curves["v1@50"])
            at = np.abs(TAUS - THRESHOLD).argmin()
            assert figures["max_box_acc_calibrated"] == of_boxes.curves["v1@50"][at]
            v2 = np.mean([of_boxes.curves[name][at] for name in ("v2@30", "v2@50", "v2@70")])
            assert figures["max_box_acc_v2_calibrated"] == pytest.approx(v2)
            if split != TRAIN_FULLSUP:
                assert figures["px_ap"] == pixels.figures().px_ap
                assert figures["pixel_iou_oracle"] == pixels.figures().pixel_iou
                assert figures["pixel_iou"] == pixels.figures().pixel_iou_at(THRESHOLD)


def test_honest_figures_stand_beside_each_oracle(tmp_path: Path, index: ImageIndex, masks: Path) -> None:
    with write_store(tmp_path / "maps.h5", index) as store:
        found = evaluated(store, index, masks).figures
    for figures in found.values():
        assert set(figures) == KEYS
        for name in ("max_box_acc", "max_box_acc_v2"):
            assert 0 < max(figures[f"{name}_fullsup"], figures[f"{name}_calibrated"]) <= figures[name] <= 1
    for name in ("max_box_acc", "max_box_acc_v2"):
        assert found[TRAIN_FULLSUP][f"{name}_fullsup"] == found[TRAIN_FULLSUP][name]
    assert any(each["max_box_acc_calibrated"] < each["max_box_acc"] for each in found.values())


def test_a_split_without_masks_has_no_figures_of_pixels(tmp_path: Path, index: ImageIndex, masks: Path) -> None:
    with write_store(tmp_path / "maps.h5", index) as store:
        found = evaluated(store, index, masks).figures
    names = ("px_ap", "pixel_iou", "pixel_iou_fullsup", "pixel_iou_oracle", "masks")
    assert [found[TRAIN_FULLSUP][name] for name in names] == [None, None, None, None, 0]
    assert found[TEST]["pixel_iou_fullsup"] is None
    assert found[TEST]["masks"] == found[TRAIN_WEAKSUP]["masks"] == 8
    assert found[TEST]["px_ap"] > 0.5
    assert found[TEST]["pixel_iou_oracle"] >= found[TEST]["pixel_iou"] > 0.4


def test_pixel_iou_at_the_best_threshold_of_fullsup(tmp_path: Path, index: ImageIndex, masks: Path) -> None:
    boxes = make_boxes(index)[list(BOX_COLUMNS)].to_numpy()
    for row, box in zip(rows_of(index.table), boxes, strict=True):
        write_mask(masks, row.image_id, filled(box, row.width, row.height))
    with write_store(tmp_path / "maps.h5", index) as store:
        found = evaluated(store, index, masks).figures
    for figures in found.values():
        assert 0 < figures["pixel_iou_fullsup"] <= figures["pixel_iou_oracle"] <= 1
    assert found[TRAIN_FULLSUP]["pixel_iou_fullsup"] == found[TRAIN_FULLSUP]["pixel_iou_oracle"]


def test_each_map_is_read_once(tmp_path: Path, index: ImageIndex, masks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with write_store(tmp_path / "maps.h5", index) as store:
        boxes = localize(store, index, THRESHOLD, 64)
        read = []
        whole = MapStore.__getitem__

        def reading(self: MapStore, row: int) -> npt.NDArray[np.float32]:
            read.append(row)
            return whole(self, row)

        monkeypatch.setattr(MapStore, "__getitem__", reading)
        evaluate(store, boxes, index, annotate(index), masks, Threshold(THRESHOLD), 64, seed=0)
    assert sorted(read) == list(range(len(index.table)))


def test_an_image_without_a_map_is_wrong_everywhere(tmp_path: Path, index: ImageIndex, masks: Path) -> None:
    gone = index.split(TEST)["image_id"].iloc[0]
    with write_store(tmp_path / "all.h5", index) as store:
        whole = evaluated(store, index, masks).figures[TEST]
    with write_store(tmp_path / "maps.h5", index, without=(gone,)) as store:
        found = evaluated(store, index, masks)
    figures = found.figures[TEST]
    assert (whole["missing"], figures["missing"], figures["images"], figures["masks"]) == (0, 1, 8, 8)
    for name in ("gt_known_oracle", "max_box_acc", "px_ap", "pixel_iou_oracle"):
        assert figures[name] < whole[name]
    assert figures["max_box_acc"] <= 7 / 8
    errors = found.tables["errors"].set_index("error")[TEST]
    assert errors["missing"] == 1 / 8


def test_tables_add_up(tmp_path: Path, index: ImageIndex, masks: Path) -> None:
    with write_store(tmp_path / "maps.h5", index) as store:
        found = evaluated(store, index, masks)
    assert list(found.tables) == ["thresholds", "max-box", "iou", "errors", "classes", "sizes"]
    errors = found.tables["errors"].set_index("error")
    assert tuple(errors.index) == ERROR_TYPES
    for split in SPLITS:
        figures = found.figures[split]
        assert errors[split].sum() == pytest.approx(1)
        assert errors[split]["correct"] == pytest.approx(figures["gt_known"])
        assert errors[split]["missing"] == figures["missing"] == 0
        for name, groups in (("classes", {"cat", "dog"}), ("sizes", set(SIZE_EDGES[1:]))):
            rows = found.tables[name].query("split == @split")
            assert set(rows[name[: -2 if name == "classes" else -1]]) <= groups
            assert rows["images"].sum() == figures["images"]
            for figure in ("gt_known", "mean_iou"):
                assert np.average(rows[figure], weights=rows["images"]) == pytest.approx(figures[figure])
        by_class = found.tables["classes"].query("split == @split")["gt_known"]
        assert by_class.mean() == pytest.approx(figures["gt_known_class_mean"])


def test_without_annotations_tables_keep_their_columns(tmp_path: Path, index: ImageIndex, masks: Path) -> None:
    with write_store(tmp_path / "maps.h5", index) as store:
        found = evaluated(store, index, masks, annotate(index)[:0])
    assert found.figures == {}
    assert list(found.tables["classes"].columns) == ["split", "class", "images", "gt_known", "mean_iou"]
    assert list(found.tables["sizes"].columns) == ["split", "size", "images", "gt_known", "mean_iou"]
    assert len(found.tables["classes"]) == len(found.tables["sizes"]) == 0
    assert found.tables["errors"][list(SPLITS)].isna().all(axis=None)


def one_image(instances: list[int], labels: list[int], mask: Mask, folder: Path) -> TruthMasks:
    index = make_index(count=1)
    write_mask(folder, "0/picture00", mask)
    annotations = pd.concat([annotate(index).assign(label=label) for label in labels]).assign(instance=instances)
    return TruthMasks(folder, annotations, find_targets(index, annotations, TRAIN_WEAKSUP))


def test_the_truth_is_every_object_of_the_images_own_label(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    found = one_image([1, 2, 3], [0, 1, 0], mask, tmp_path).read("0/picture00", 3, 2)
    np.testing.assert_array_equal(found, [[0, 1, 0], [1, 0, 0]])


def test_an_object_without_mask_leaves_its_image_out(tmp_path: Path) -> None:
    mask = np.ones((2, 3), np.uint8)
    assert one_image([1, 0], [0, 0], mask, tmp_path).read("0/picture00", 3, 2) is None
    assert one_image([1, 0], [0, 1], mask, tmp_path).read("0/picture00", 3, 2) is not None


def test_a_mask_of_another_size_or_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    found = one_image([1], [0], np.ones((2, 3), np.uint8), tmp_path)
    with pytest.raises(InputError, match=r"picture00\.png: not a mask of 2 x 3 pixels"):
        found.read("0/picture00", 2, 3)
    (tmp_path / "0/picture00.png").write_bytes(b"none")
    with pytest.raises(InputError, match=r"picture00\.png: not a mask"):
        found.read("0/picture00", 3, 2)


def test_the_stage_writes_flat_figures_and_six_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    index, data = make_index(), tmp_path / "data/localization"
    with MapStore(data / "outputs/ddt/maps.h5") as store:
        (data / "boxes").mkdir()
        localize(store, index, 0.2, 64).to_parquet(data / "boxes/ddt.parquet")
    (data / "thresholds").mkdir()
    (data / "thresholds/ddt.json").write_text('{"threshold": 0.2, "scale": "value", "calibrated_by": "constant"}')
    row, box = next(rows_of(index.split(TEST))), make_boxes(index).set_index("image_id")[list(BOX_COLUMNS)]
    write_mask(data / "truth/masks", row.image_id, filled(box.loc[row.image_id].to_numpy(), row.width, row.height) // 3)
    stage.main("ddt")
    figures: dict[str, dict[str, Any]] = json.loads((tmp_path / "results/small/localization/ddt.json").read_text())
    for found in figures.values():
        assert set(found) == KEYS
        assert found.pop("calibrated_by") == "constant"
        assert all(value is None or isinstance(value, int | float) for value in found.values())
    assert (figures[TEST]["masks"], figures[TRAIN_WEAKSUP]["masks"]) == (1, 0)
    assert figures[TEST]["px_ap"] > 0.9
    names = {path.name for path in (tmp_path / "results/small/curves").iterdir()}
    assert names == {f"ddt-{name}.csv" for name in ("thresholds", "max-box", "iou", "errors", "classes", "sizes")}
