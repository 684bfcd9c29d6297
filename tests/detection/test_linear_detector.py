"""Features of proposals, their store, and the detector of linear heads on them."""

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional

from stages import detect as detect_stage
from stages import proposal_features as features_stage
from stages import train_detector as train_stage
from tests.feature_files import write_store
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table, write_table
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.data.loading import Batch, unpack
from wsol_core.detection.box_tensors import bits, solid
from wsol_core.detection.heads import DetectorLoss
from wsol_core.detection.infer_linear import detect_by_features
from wsol_core.detection.linear_detector import LinearDetector, LinearDetectorParams, ProposalPairs, features_of
from wsol_core.detection.postprocess import PostprocessParams
from wsol_core.detection.proposal_features import (
    ProposalFeatureParams,
    ProposalFeatureStore,
    box_means,
    describe,
    widened,
    write_proposal_features,
)
from wsol_core.detection.proposal_targets import ProposalTargets, relative_proposals
from wsol_core.detection.writer import rebuild_detector
from wsol_core.engine.checkpoints import save_checkpoint
from wsol_core.engine.training import parameter_groups
from wsol_core.engine.training_params import FitParams

FEATURES = ProposalFeatureParams(sees="data/detection/features/frozen.h5", cells=2)
CHANNELS, WIDTH = 5, 5 * (1 + 1 + 4) + 2
LEARNING = FitParams(epochs=2, batch=4, lr_head=0.05)
CELLS = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.45], [0.5, 0.5, 1, 1], [0.5, 0, 1, 0.5]])
BOXES = [(0, 0, 64, 48), (7, 7, 7, 40), (10, 10, 40, 40), (20, 5, 60, 45)]
"""In pictures of 64x48 pixels; the second has no area."""


def proposals_of(index: ImageIndex) -> pd.DataFrame:
    """Four for each image but "03", the first of objectness 1."""
    ids = [name for name in index.table["image_id"] if name != "03"]
    rows = [(name, *box, 1 - i / 10, -1) for name in ids for i, box in enumerate(BOXES)]
    table = pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS, "score", "label"])
    return table.astype(dict.fromkeys([*BOX_COLUMNS, "score"], np.float32) | {"label": np.int32})


# Features of a box


def mean_inside(maps: Tensor, box: Tensor) -> Tensor:
    """The mean of a map over a box in shares, cell by cell, each by the part of it that the box covers: `(C,)`."""
    rows, columns = maps.shape[1:]
    total, area = torch.zeros(len(maps)), 0.0
    for row in range(rows):
        for column in range(columns):
            wide = min(float(box[2]) * columns, column + 1) - max(float(box[0]) * columns, column)
            high = min(float(box[3]) * rows, row + 1) - max(float(box[1]) * rows, row)
            part = max(0.0, wide) * max(0.0, high)
            total, area = total + part * maps[:, row, column], area + part
    return total / area


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 4), (6, 2)])
def test_means_are_those_of_a_loop_over_cells(rows: int, columns: int) -> None:
    maps = torch.randn(CHANNELS, rows, columns, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0, 0, 1, 1], [0.1, 0.2, 0.95, 0.6], [0.4, 0.4, 0.41, 0.43], [0.3, 0, 0.55, 1]])
    expected = torch.stack([mean_inside(maps, box) for box in boxes])
    torch.testing.assert_close(box_means(maps, boxes), expected)
    assert not box_means(maps, torch.zeros(1, 4)).any()


def test_features_are_inside_difference_cells_and_size() -> None:
    """Against the definition, part by part; each part has length 1, and the whole sqrt(D)."""
    maps = torch.rand(CHANNELS, 4, 6, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([0.2, 0.3, 0.6, 0.5])
    (found,) = describe(maps, box[None], FEATURES)
    inside = mean_inside(maps, box)
    wide, x, y = torch.tensor([0.04, 0.22, 0.76, 0.58]), 0.4, 0.4
    area, outer = 0.4 * 0.2, 0.72 * 0.36
    ring = (mean_inside(maps, wide) * outer - inside * area) / (outer - area)
    cells = [(0.2, 0.3, x, y), (x, 0.3, 0.6, y), (0.2, y, x, 0.5), (x, y, 0.6, 0.5)]
    means = [mean_inside(maps, torch.tensor(cell)) for cell in cells]
    parts = [functional.normalize(part, dim=0) for part in (inside, inside - ring, *means)]
    expected = torch.cat([*parts, 0.2 * torch.tensor([0.4, 0.2]).log()])
    torch.testing.assert_close(found, expected / expected.norm() * WIDTH**0.5, atol=1e-3, rtol=1e-3)
    assert len(found) == FEATURES.width(CHANNELS) == WIDTH


def test_a_box_of_the_whole_picture_has_no_ring_and_an_empty_map_no_features() -> None:
    whole, inner = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[0.3, 0.3, 0.6, 0.6]])
    plain = FEATURES.model_copy(update={"cells": 1})
    (found,) = describe(torch.rand(CHANNELS, 4, 4), whole, plain)
    assert found[:CHANNELS].all()
    assert not found[CHANNELS : 2 * CHANNELS].any()
    (found,) = describe(torch.zeros(CHANNELS, 4, 4), inner, plain)
    assert not found[: 2 * CHANNELS].any()
    assert describe(torch.rand(CHANNELS, 4, 4), inner[:0], plain).shape == (0, plain.width(CHANNELS))


def test_a_constant_map_has_no_difference() -> None:
    """What rounding leaves of it must not be stretched to length 1."""
    generator = torch.Generator().manual_seed(0)
    maps = (5 + 8 * torch.rand(CHANNELS, 1, 1, generator=generator)).expand(-1, 17, 13)
    corners = torch.rand(200, 2, 2, generator=generator).sort(dim=1).values
    found = describe(maps, corners.flatten(1), FEATURES)
    assert not found[:, CHANNELS : 2 * CHANNELS].any()
    assert found[:, :CHANNELS].all()


def test_widened_boxes_stay_in_the_picture() -> None:
    boxes = torch.tensor([[0.4, 0.4, 0.6, 0.6], [0, 0.9, 0.5, 1]])
    torch.testing.assert_close(widened(boxes, 2), torch.tensor([[0.3, 0.3, 0.7, 0.7], [0, 0.85, 0.75, 1]]))


@pytest.mark.parametrize("sees", ["data/detection/index.parquet", "data/localization/features/a.h5", "../a.h5"])
def test_what_is_no_store_of_pictures_is_refused(sees: str) -> None:
    with pytest.raises(ValueError, match="name data/detection/features/NAME"):
        ProposalFeatureParams(sees=sees)


# The store


def write_maps_of(index: ImageIndex, folder: Path) -> Tensor:
    """A feature store of given maps `(N, 1, C, 3, 4)`."""
    shape = (len(index.table), 1, CHANNELS, 3, 4)
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(0)).half().float()
    write_store(folder / FEATURES.sees, index.table["image_id"].tolist(), [maps])
    return maps


@pytest.fixture(name="stored")
def stored_features(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_maps_of(small_index, tmp_path)
    path = tmp_path / "features.h5"
    boxes, _ = relative_proposals(proposals_of(small_index), small_index.table, 4)
    write_proposal_features(FEATURES, small_index, boxes, path)
    return path


def test_a_store_has_every_proposal_in_its_place(small_index: ImageIndex, stored: Path, tmp_path: Path) -> None:
    boxes, _ = relative_proposals(proposals_of(small_index), small_index.table, 4)
    maps = write_maps_of(small_index, tmp_path)
    with ProposalFeatureStore(stored) as store:
        assert store.width == WIDTH
        for position, image_id in enumerate(small_index.table["image_id"]):
            count = 0 if image_id == "03" else 3
            found = store.find(image_id, count)
            assert found.shape == (count, WIDTH)
            assert found.dtype == np.float16
            own = torch.from_numpy(boxes[position])
            alone = describe(maps[position, 0], own[solid(own)], FEATURES)
            np.testing.assert_allclose(found, alone.numpy(), atol=2e-3, rtol=2e-3)


def test_a_level_that_the_features_lack_is_refused(small_index: ImageIndex, stored: Path, tmp_path: Path) -> None:
    del stored
    boxes, _ = relative_proposals(proposals_of(small_index), small_index.table, 4)
    with pytest.raises(InputError, match="has 1 levels, none of number -2"):
        write_proposal_features(FEATURES.model_copy(update={"level": -2}), small_index, boxes, tmp_path / "none.h5")
    assert not (tmp_path / "none.h5").exists()


def test_more_proposals_than_stored_are_refused(stored: Path) -> None:
    with ProposalFeatureStore(stored) as store:
        with pytest.raises(InputError, match=r"3 proposals of image '01' where 4 are asked for"):
            store.find("01", 4)
        with pytest.raises(InputError, match=r"0 proposals of image 'nowhere'"):
            store.find("nowhere", 1)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["maps"] = [1]
    with pytest.raises(InputError, match="not a readable store of proposal features"):
        ProposalFeatureStore(path)
    with h5py.File(path, "w") as file:
        file["features"], file["image_id"], file["count"] = np.zeros((3, 2)), ["a", "b"], [2, 2]
    with pytest.raises(InputError, match="3 rows for 4 proposals") as caught:
        ProposalFeatureStore(path)
    with h5py.File(path, "w"):  # closed, also while the error is kept
        assert caught.value.__traceback__
    with pytest.raises(InputError, match="not a readable store of proposal features"):
        ProposalFeatureStore(tmp_path / "missing.h5")


def test_a_fault_that_hdf5_has_no_class_for_is_one_line(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("wrong B-tree signature")

    monkeypatch.setattr("wsol_core.detection.proposal_features.texts", fail)
    with pytest.raises(InputError, match=r"not a readable store of proposal features \(wrong B-tree signature\)"):
        ProposalFeatureStore(stored)


# The detector


def params(**change: Any) -> LinearDetectorParams:
    given = {"method": "oicr", "training": LEARNING}
    return LinearDetectorParams(**(given | {"branches": 2, "dropout": 0.0} | change))


def test_blocks_to_drop_are_refused() -> None:
    with pytest.raises(ValueError, match="stored features have none"):
        params(method="mist", mist={"drop_block": {}})


@pytest.mark.parametrize("method", ["oicr", "mist"])
def test_answers_are_linear_in_the_features_of_solid_boxes(method: str) -> None:
    torch.manual_seed(0)
    model = LinearDetector(params(method=method), width=6, classes=3).eval()
    boxes, seen = CELLS.repeat(2, 1, 1), torch.randn(2, 4, 6).half()
    boxes[0, 2] = 0
    answers = model(seen, bits(boxes))
    rows = seen[solid(boxes)].float()
    expected = functional.linear(rows, model.heads.refine.weight, model.heads.refine.bias)
    torch.testing.assert_close(answers.refinements.flatten(1), expected)
    assert (answers.moves is not None) == (method == "mist")


def test_features_drop_out_while_training_alone() -> None:
    torch.manual_seed(0)
    model = LinearDetector(params(dropout=0.5), width=6, classes=3)
    seen, boxes = torch.randn(1, 4, 6), bits(CELLS[None])
    first, second = (model(seen, boxes).refinements for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    first, second = (model(seen, boxes).refinements for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("method", ["oicr", "mist"])
def test_all_heads_learn(method: str) -> None:
    torch.manual_seed(0)
    change = params(method=method)
    model = LinearDetector(change, width=6, classes=3)
    rows = [torch.cat([torch.tensor(labels), torch.ones(4), CELLS.flatten()]) for labels in ([1.0, 0, 0], [0.0, 1, 1])]
    loss = DetectorLoss(change, ("cat", "dog", "flower"))(model, Batch(torch.randn(2, 4, 6), torch.stack(rows)))
    loss.backward()
    assert all(each.grad is not None and each.grad.any() for each in model.parameters())
    (group,) = parameter_groups(model, LEARNING)
    assert group["peak"] == 0.05
    assert len(group["params"]) == len(list(model.parameters()))


def test_pairs_are_the_stored_rows_with_the_proposals_as_they_are(small_index: ImageIndex, stored: Path) -> None:
    rows = small_index.table
    boxes, scores = relative_proposals(proposals_of(small_index), rows, 3)
    targets = ProposalTargets(rows["labels"].tolist(), 4, boxes, scores)
    with ProposalFeatureStore(stored) as store:
        pairs = ProposalPairs(store, rows, targets)
        assert len(pairs) == len(rows)
        for epoch, position in ((0, 1), (5, 1), (-1, 1)):
            seen, target = pairs[epoch, position]
            assert not seen[1].any()
            np.testing.assert_array_equal(seen[[0, 2]].numpy(), store.find(str(rows["image_id"].iloc[position]), 2))
            _, objectness, own = unpack(target[None], 4)
            assert torch.equal(own[0], torch.from_numpy(boxes[position]))
            assert objectness[0].tolist() == pytest.approx([1, 0.9, 0.8])
        empty = rows["image_id"].tolist().index("03")
        assert not pairs[0, empty][0].any()


def test_detections_are_those_of_each_image_alone(small_index: ImageIndex, stored: Path) -> None:
    torch.manual_seed(0)
    model = LinearDetector(params(max_proposals=3), WIDTH, classes=2)
    table = proposals_of(small_index)
    selection = PostprocessParams(overlap=1.0, detections=100)
    with ProposalFeatureStore(stored) as store:
        found = detect_by_features(model, store, small_index, table, selection)
        assert found is not None
        assert set(found["image_id"]) == set(small_index.table["image_id"]) - {"03"}
        boxes = CELLS[:0].new_tensor(BOXES[:3]) / torch.tensor([64, 48, 64, 48])
        with torch.no_grad():
            answers = model.eval()(features_of(store, "01", boxes)[None], bits(boxes[None]))
    expected = answers.refinements.softmax(2).mean(1)[:, :2]
    own = found[found["image_id"] == "01"]
    for label in range(2):
        of_class = own[own["label"] == label]
        scores, order = expected[:, label].sort(descending=True)
        np.testing.assert_allclose(of_class["score"], scores, rtol=1e-5)
        corners = np.array(BOXES, np.float32)[[0, 2]][order]
        np.testing.assert_allclose(of_class[list(BOX_COLUMNS)], corners, rtol=1e-6)


# The stages


def write_workspace(folder: Path, index: ImageIndex, method: str) -> None:
    data = folder / "data" / "detection"
    write_index(data / "index.parquet", index)
    write_maps_of(index, folder)
    table = proposals_of(index)
    write_table(data / "proposals.parquet", table)
    write_table(data / "objectness" / "foreground.parquet", table)
    network = params(method=method, filter={"threshold": 0.2, "exempt": ["green"]}).model_dump(mode="json")
    sees, learns_from = "data/detection/proposal_features/lite0.h5", "data/detection/objectness/foreground.parquet"
    entry = {"sees": sees, "learns_from": learns_from, "network": network}
    detect = {"overlap": 0.3, "detections": 3}
    (folder / "params.yaml").write_text(yaml.safe_dump({
        "preset": "small", "seed": 0, "proposal_features": {"lite0": FEATURES.model_dump(mode="json")},
        "detectors": {"net": entry | {"detect": detect}},
    }))  # fmt: skip


@pytest.mark.parametrize("method", ["oicr", "mist"])
def test_stages_twice_give_the_same_bytes(
    method: str, small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, small_index, method)
    outputs = [
        Path(f"data/{name}")
        for name in (
            "detection/proposal_features/lite0.h5",
            "models/net.safetensors",
            "detection/detections/net.parquet",
        )
    ]
    found = []
    for number in range(2):
        torch.manual_seed(number)
        features_stage.main("lite0")
        train_stage.main("net")
        detect_stage.main("net")
        found.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in outputs])
    assert found[0] == found[1]
    table, _ = read_table(outputs[-1])
    assert table.columns.tolist() == ["image_id", *BOX_COLUMNS, "score", "label"]
    assert (table.groupby("image_id")["score"].diff().fillna(0) <= 0).all()
    assert (table[["x1", "y1"]].to_numpy() <= [64, 48]).all()
    assert len(pd.read_csv("data/models/loss-net.csv")) == LEARNING.epochs


def test_a_detector_of_other_classes_is_refused(tmp_path: Path) -> None:
    change, path = params(), tmp_path / "net.safetensors"
    model = LinearDetector(change, 6, 2)
    save_checkpoint(path, model.state_dict(), change.model_dump(mode="json"), ("red", "green"))

    def build(params: LinearDetectorParams, classes: int) -> LinearDetector:
        return LinearDetector(params, 6, classes)

    again = rebuild_detector(path, ("red", "green"), LinearDetectorParams, build)
    assert all(torch.equal(mine, own) for mine, own in zip(again.parameters(), model.parameters(), strict=True))
    with pytest.raises(InputError, match="it detects red, green, not the data set's classes; train it again"):
        rebuild_detector(path, ("green", "red"), LinearDetectorParams, build)
