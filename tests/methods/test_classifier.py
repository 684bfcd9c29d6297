"""The standalone classifier, and its table of class scores."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from tests.small_project import entry, run_network, write_params, write_set
from wsol_core.backbones.create import BackboneParams
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table, write_table
from wsol_core.data.class_scores import COLUMNS, TOP, read_ranked, top_classes, write_scores
from wsol_core.data.images import decode_squashed
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import Batch
from wsol_core.engine.devices import launch
from wsol_core.engine.inference import predictions
from wsol_core.engine.recipe import load_network
from wsol_core.engine.training_params import TrainingParams
from wsol_core.external.ground_truth import Truth
from wsol_core.external.ranked_classes import read_ranked_classes
from wsol_core.methods.classifier.network import (
    Classifier,
    ClassifierParams,
    build,
    class_probabilities,
    classification_loss,
    ten_crops,
)

SMALL = {"name": "mobilenetv3_small_050", "weights": "none", "frozen_batch_norm": False}
TRAINING = {"epochs": 1, "batch": 8, "lr_backbone": 0.01, "lr_head": 0.1, "image_side": 32, "precision": "32-true"}


def params(ten_crop: bool = False, **training: int) -> ClassifierParams:
    return ClassifierParams.model_validate(
        {"backbone": SMALL, "ten_crop": ten_crop, "training": {**TRAINING, **training}}
    )


class Pixels(torch.nn.Module):
    """Says of an image its first and last pixel, as logits."""

    def __init__(self, crop_side: int | None) -> None:
        super().__init__()
        self.crop_side = crop_side

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[:, 0, 0, 0], images[:, 0, -1, -1]], dim=1).float()


def test_ten_crops_are_corners_and_centre_and_their_mirror_images() -> None:
    images = torch.arange(20, dtype=torch.uint8).reshape(1, 1, 4, 5)
    crops = ten_crops(images, 2)
    firsts = [crop[0, 0].tolist() for crop in crops[:5]]
    assert firsts == [
        [[6, 7], [11, 12]],
        [[0, 1], [5, 6]],
        [[3, 4], [8, 9]],
        [[10, 11], [15, 16]],
        [[13, 14], [18, 19]],
    ]
    assert [crop[0, 0].tolist() for crop in crops[5:]] == [[row[::-1] for row in crop] for crop in firsts]


def test_probabilities_are_the_mean_over_views_not_of_logits() -> None:
    images = torch.randint(0, 9, (3, 3, 6, 6), dtype=torch.uint8)
    at_once: Any = Pixels(None)
    whole = class_probabilities(at_once, images, torch.zeros(3, 1))
    assert torch.allclose(whole, torch.softmax(torch.stack([images[:, 0, 0, 0], images[:, 0, 5, 5]], 1).float(), 1))
    in_crops: Any = Pixels(4)
    cropped = class_probabilities(in_crops, images, torch.zeros(3, 1))
    naive = torch.zeros(3, 2)
    for top, left in [(1, 1), (0, 0), (0, 2), (2, 0), (2, 2)]:
        crop = images[:, 0, top : top + 4, left : left + 4].float()
        for view in (crop, crop.flip(2)):
            naive += torch.softmax(torch.stack([view[:, 0, 0], view[:, 3, 3]], dim=1), dim=1) / 10
    assert torch.allclose(cropped, naive)
    assert torch.allclose(cropped.sum(1), torch.ones(3))


def test_loss_is_the_mean_cross_entropy() -> None:
    images = torch.tensor([[[[2, 0], [0, 1]]], [[[0, 0], [0, 3]]]], dtype=torch.uint8)
    loss = classification_loss(Pixels(None), Batch(images, torch.tensor([0, 0])))
    assert loss.item() == pytest.approx((np.log1p(np.exp(-1)) + np.log1p(np.exp(3))) / 2, rel=1e-6)


@pytest.mark.parametrize("classes", [1, 7])
def test_network_is_pooling_and_a_linear_layer_on_the_deepest_level(classes: int) -> None:
    model: Classifier = build(params(), classes).eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        pooled = model.backbone(images)[-1].flatten(2).mean(2)
        assert torch.allclose(model(images), pooled @ model.head.weight.T + model.head.bias, atol=1e-6)
        probabilities = class_probabilities(model, images, torch.zeros(2, 1))
    assert probabilities.shape == (2, classes)
    assert torch.allclose(probabilities.sum(1), torch.ones(2))
    assert all(layer.p == 0 for layer in model.modules() if isinstance(layer, torch.nn.Dropout))


def test_ten_crops_need_room() -> None:
    assert build(params(True, resize=40), 2).crop_side == 32
    assert build(params(resize=40), 2).crop_side is None
    for resize in (0, 32):
        with pytest.raises(ValidationError, match="ten_crop needs a training"):
            params(True, resize=resize)


@pytest.mark.parametrize("name", ["densenet161", "tf_efficientnet_b7", "efficientnet_lite0"])
def test_papers_backbones_are_known(name: str) -> None:
    with torch.device("meta"):
        backbone = BackboneParams(name=name, weights="none")
        model = build(ClassifierParams(backbone=backbone, training=TrainingParams.model_validate(TRAINING)), 200)
    assert model.head.in_features == {"densenet161": 2208, "tf_efficientnet_b7": 640, "efficientnet_lite0": 1280}[name]


levels = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=levels))
@settings(max_examples=60)
def test_top_classes_equal_sorting_each_row(probabilities: npt.NDArray[np.float32]) -> None:
    ranked, scores = top_classes(probabilities)
    for row, classes, values in zip(probabilities.tolist(), ranked.tolist(), scores.tolist(), strict=True):
        expected = sorted(range(len(row)), key=lambda label: (-row[label], label))[:TOP]
        assert classes == expected
        assert values == [row[label] for label in expected]


NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "7")


def an_index(classes: int, images: int = 4) -> ImageIndex:
    table = pd.DataFrame({"image_id": [f"{n}" for n in range(images)], "labels": [[0]] * images})
    return ImageIndex(table, NAMES[-classes:], "zoo")


@pytest.mark.parametrize("classes", [1, 3, 5, 7])
def test_table_comes_back(classes: int, tmp_path: Path) -> None:
    index = an_index(classes)
    probabilities = np.random.default_rng(0).random((4, classes), dtype=np.float32)
    ranked, scores = top_classes(probabilities)
    write_scores(tmp_path / "s.parquet", index, ranked, scores)
    assert np.array_equal(read_ranked(tmp_path / "s.parquet", index), ranked)
    table, _ = read_table(tmp_path / "s.parquet")
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 4 * min(TOP, classes)
    assert table["class"][0] == index.classes[ranked[0, 0]]


def test_images_without_scores_have_no_class(tmp_path: Path) -> None:
    index, path = an_index(7), tmp_path / "s.parquet"
    write_table(path, pd.DataFrame({"image_id": ["2", "0", "2"], "class": ["7", "bee", "ant"], "score": [0.6, 1, 0.4]}))
    assert read_ranked(path, index).tolist() == [[1, -1, -1, -1, -1], [-1] * 5, [6, 0, -1, -1, -1], [-1] * 5]
    write_table(path, pd.DataFrame({"image_id": [], "class": [], "score": []}))
    assert (read_ranked(path, index) == -1).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("9", "ant", 0.5)], "'9' is not in the index"),
        ([("0", "ant", 0.5), ("1", "gnu", 0.5)], "'1' has an unknown class"),
        ([("0", "ant", 0.5), ("0", "ant", 0.5)], "'0' has a class twice"),
        ([("0", name, 0.1) for name in NAMES[:6]], "'0' has too many classes"),
        ([("0", "ant", 0.4), ("1", "ant", 0.1), ("0", "bee", 0.5)], "'0' has its classes in the wrong order"),
        ([("0", "ant", 1.1)], r"'0' has a score that is not in \[0, 1\]"),
        ([("0", "ant", np.nan)], r"'0' has a score that is not in \[0, 1\]"),
    ],
)
def test_a_wrong_table_is_refused_with_its_image(
    rows: list[tuple[str, str, float]], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.parquet"
    write_table(path, pd.DataFrame(rows, columns=COLUMNS))
    with pytest.raises(InputError, match=message):
        read_ranked(path, an_index(7))


def test_a_table_without_scores_or_a_missing_one_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "s.parquet", pd.DataFrame({"image_id": ["0"], "class": ["ant"]}))
    with pytest.raises(InputError, match="no column 'score'"):
        read_ranked(tmp_path / "s.parquet", an_index(7))
    with pytest.raises(InputError, match="not a readable table"):
        read_ranked(tmp_path / "t.parquet", an_index(7))


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    scores = np.array([[1], [1], [np.nan], [1]], dtype=np.float32)
    with pytest.raises(InputError, match="'2': a class score"):
        write_scores(tmp_path / "s.parquet", an_index(1), np.zeros((4, 1), int), scores)
    assert not list(tmp_path.iterdir())


def test_stages_write_the_likeliest_classes(
    small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(small_index)
    write_params({"lite": entry("classifier", "", params(True, resize=40))})
    outputs = run_network("lite")
    assert [path.name for path in outputs.iterdir()] == ["classes.parquet"]
    assert Path("data/models/loss-lite.csv").is_file()
    model = load_network(Path("data/models/lite.safetensors")).model
    side = model.backbone.interpolation
    images = [decode_squashed(small_index.root / name, 40, 40, side) for name in small_index.table["path"]]
    with torch.no_grad():
        crops = ten_crops(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), 32)
        expected = torch.stack([torch.softmax(model(crop), 1) for crop in crops]).mean(0).numpy()
    table, _ = read_table(outputs / "classes.parquet")
    assert table["image_id"].tolist() == np.repeat(small_index.table["image_id"], 2).tolist()
    assert table["class"].tolist() == [small_index.classes[label] for row in expected for label in np.argsort(-row)]
    assert np.allclose(table["score"], -np.sort(-expected, axis=1).ravel(), atol=1e-5)


def test_one_class_is_certain(small_index: ImageIndex) -> None:
    small_index.table["labels"] = [[0]] * 24
    index = ImageIndex(small_index.table, ("all",), "squares", small_index.source)
    found = predictions(launch("32-true"), build(params(), 1), class_probabilities, index, params().training)
    assert torch.equal(torch.cat(list(found)), torch.ones(24, 1))


def test_the_table_serves_wsol_evaluate(tmp_path: Path) -> None:
    index, path = an_index(7), tmp_path / "s.parquet"
    ranked, scores = top_classes(np.random.default_rng(1).random((4, 7), dtype=np.float32))
    write_scores(path, index, ranked, scores)
    truth = Truth(index.table, pd.DataFrame(), index.classes, lambda _: None, class_numbers={n: n for n in range(9)})
    assert np.array_equal(read_ranked_classes(path, truth), read_ranked(path, index))
