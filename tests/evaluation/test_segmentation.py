"""Mean IoU of label masks over a data set: against scikit-learn, tables made by hand, and every bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

from stages import evaluate_segmentation as stage
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.data.class_masks import ClassMasks
from wsol_core.data.index import ANNOTATION_COLUMNS, ImageIndex, write_annotations, write_index
from wsol_core.data.label_masks import LabelMasks
from wsol_core.evaluation.segmentation import evaluate

NAMES = ("cat", "dog", "owl")
Mask = npt.NDArray[np.uint8]


def write_mask(path: Path, mask: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(mask, np.uint8)).save(path)


class Workspace:
    """True masks, whose instance k + 1 is of label k, and predicted ones of the method `sec`."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data/detection"
        self.segments = self.data / "segments/sec"
        self.segments.mkdir(parents=True)
        self._images: list[tuple[Any, ...]] = []
        self._objects: list[tuple[Any, ...]] = []

    def add(self, name: str, truth: Any, predicted: Any = None, split: str = "test") -> None:
        mask = np.asarray(truth, np.uint8)
        height, width = mask.shape
        shown = [int(value) - 1 for value in np.unique(mask) if 0 < value < 255]
        self._images.append((name, f"{name}.jpg", "", split, shown, width, height))
        self._objects += [(name, label, 0, 0, width, height, False, label + 1) for label in shown]
        write_mask(self.data / "truth/masks" / f"{name}.png", mask)
        if predicted is not None:
            write_mask(self.segments / f"{name}.png", predicted)

    def tables(self) -> tuple[ImageIndex, pd.DataFrame]:
        columns = ["image_id", "path", "digest", "split", "labels", "width", "height"]
        table = pd.DataFrame(self._images, columns=columns).sort_values("image_id", ignore_index=True)
        objects = pd.DataFrame(self._objects, columns=list(ANNOTATION_COLUMNS))
        return ImageIndex(table, NAMES, "made-up"), objects.astype(dict.fromkeys(BOX_COLUMNS, "float32"))

    def evaluate(self) -> tuple[dict[str, Any], pd.DataFrame]:
        index, annotations = self.tables()
        return evaluate(
            LabelMasks(self.segments), ClassMasks(self.data / "truth/masks", index, annotations), index, seed=0
        )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_equals_scikit_learn(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    true, found = [], []
    for number in range(12):
        shape = rng.integers(1, 12, 2)
        truth = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), shape)
        truth.flat[0] = 1
        predicted = np.where((rng.random(shape) < 0.6) & (truth != 255), truth, rng.choice([0, 1, 2, 3], shape))
        workspace.add(f"{number % 2}/{number}", truth, predicted)
        true.append(truth[truth != 255])
        found.append(predicted[truth != 255])
    figures, table = workspace.evaluate()
    expected = jaccard_score(np.concatenate(true), np.concatenate(found), average=None)
    assert table["class"].tolist() == ["background", *NAMES]
    np.testing.assert_allclose(table["iou"], expected, atol=1e-6)
    assert figures["test"]["miou"] == pytest.approx(expected.mean(), abs=1e-5)
    assert figures["test"]["images"] == 12


def test_an_absent_class_is_left_out_and_counted(workspace: Workspace) -> None:
    workspace.add("a", [[0, 0, 1, 255]], [[0, 1, 1, 3]])
    figures, table = workspace.evaluate()
    assert figures == {
        "test": {
            "miou": 0.5,
            "miou_low": 0.5,
            "miou_high": 0.5,
            "classes_absent": 2,
            "images": 1,
            "images_without_prediction": 0,
        },
    }
    np.testing.assert_array_equal(table["iou"], [0.5, 0.5, np.nan, np.nan])


def test_without_a_prediction_every_pixel_is_wrong(workspace: Workspace) -> None:
    workspace.add("a", [[0, 1]], [[0, 1]])
    workspace.add("b", [[0, 0, 0, 2]])
    figures, table = workspace.evaluate()
    assert figures["test"]["images_without_prediction"] == 1
    np.testing.assert_array_equal(table["iou"], [1 / 4, 1, 0, np.nan])
    assert figures["test"]["miou"] == pytest.approx(1.25 / 3, abs=1e-6)


def test_splits_stand_apart_and_one_without_predictions_is_left_out(workspace: Workspace) -> None:
    workspace.add("a", [[1]], [[1]], "train-fullsup")
    workspace.add("b", [[1]], [[0]])
    workspace.add("c", [[1]], None, "train-weaksup")
    figures, table = workspace.evaluate()
    assert {split: found["miou"] for split, found in figures.items()} == {"train-fullsup": 1, "test": 0}
    assert table["split"].unique().tolist() == ["train-fullsup", "test"]


def test_images_without_a_true_mask_do_not_count(workspace: Workspace) -> None:
    workspace.add("a", [[1]], [[1]])
    workspace.add("b", [[0]], [[2]])
    assert workspace.evaluate()[0]["test"] == {
        "miou": 1,
        "miou_low": 1,
        "miou_high": 1,
        "classes_absent": 3,
        "images": 1,
        "images_without_prediction": 0,
    }


@pytest.mark.parametrize(
    ("name", "predicted", "message"),
    [
        ("a", [[0]], r"a\.png: 1 x 1 pixels, not the image's 2 x 1"),
        ("a", [[0, 4]], r"a\.png: holds class 4, but there are 3"),
        ("a", [[0, 255]], r"a\.png: holds class 255"),
        ("b", [[0, 0]], r"b\.png: no image 'b' in the index"),
    ],
)
def test_bad_predictions_are_refused(workspace: Workspace, name: str, predicted: Any, message: str) -> None:
    workspace.add("a", [[0, 1]], [[0, 1]])
    write_mask(workspace.segments / f"{name}.png", predicted)
    with pytest.raises(InputError, match=message):
        workspace.evaluate()


def test_stage_writes_the_same_figures_twice(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("preset: small\nseed: 0\n")
    workspace.add("a", [[0, 1, 1]], [[0, 1, 0]])
    index, annotations = workspace.tables()
    write_index(workspace.data / "index.parquet", index)
    write_annotations(workspace.data / "truth/annotations.parquet", annotations)
    stage.main("sec")
    figures = Path("results/small/segmentation/sec.json").read_bytes()
    assert json.loads(figures)["test"]["miou"] == 0.5
    table = Path("results/small/curves/sec-segmentation.csv")
    assert table.read_text() == "split,class,iou\ntest,background,0.5\ntest,cat,0.5\ntest,dog,\ntest,owl,\n"
    stage.main("sec")
    assert Path("results/small/segmentation/sec.json").read_bytes() == figures
    write_annotations(workspace.data / "truth/annotations.parquet", annotations[:0])
    stage.main("sec")
    assert "nothing to evaluate" in capsys.readouterr().out
    assert Path("results/small/segmentation/sec.json").read_text() == "{}\n"
    assert table.read_text() == "split,class,iou\n"
