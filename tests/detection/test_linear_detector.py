"""Features of proposals from a frozen network, their store, and the detector of linear heads on them."""

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
from wsol_core.backbones.create import Backbone, BackboneParams, create_backbone
from wsol_core.backbones.stages_behind import divide_at
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
    ProposalFeatureNetwork,
    ProposalFeatureParams,
    ProposalFeatureStore,
    aligned_regions,
    write_proposal_features,
)
from wsol_core.detection.proposal_targets import ProposalTargets, relative_proposals
from wsol_core.detection.writer import rebuild_detector
from wsol_core.engine.checkpoints import save_checkpoint
from wsol_core.engine.training import parameter_groups
from wsol_core.engine.training_params import FitParams

BACKBONE = BackboneParams(name="efficientnet_lite0", weights="none")
FEATURES = ProposalFeatureParams(backbone=BACKBONE, level=-4, cells=4, image_side=32, precision="32-true")
LEARNING = FitParams(epochs=2, batch=4, lr_head=0.05)
CELLS = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.45], [0.5, 0.5, 1, 1], [0.5, 0, 1, 0.5]])
BOXES = [(0, 0, 64, 48), (7, 7, 7, 40), (10, 10, 40, 40), (20, 5, 60, 45)]
"""In pictures of 64x48 pixels; the second has no area."""


def create(name: str = "efficientnet_lite0", seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    return create_backbone(BackboneParams(name=name, weights="none")).eval()


def feature_network(**change: Any) -> ProposalFeatureNetwork:
    return ProposalFeatureNetwork(create(), FEATURES.model_copy(update=change)).eval()


def noise(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def proposals_of(index: ImageIndex) -> pd.DataFrame:
    """Four for each image but "03", the first of objectness 1."""
    ids = [name for name in index.table["image_id"] if name != "03"]
    rows = [(name, *box, 1 - i / 10, -1) for name in ids for i, box in enumerate(BOXES)]
    table = pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS, "score", "label"])
    return table.astype(dict.fromkeys([*BOX_COLUMNS, "score"], np.float32) | {"label": np.int32})


# The network in two


@pytest.mark.parametrize("name", ["efficientnet_lite0", "vgg16"])
@pytest.mark.parametrize("level", [-5, -2])
def test_a_divided_backbone_is_the_whole_one(name: str, level: int) -> None:
    """The stages behind a level, run on its features, give the last level's."""
    backbone, images = create(name), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        whole = backbone(images)
        channels = divide_at(backbone, level)
        assert len(backbone(images)) == len(whole) + level + 1
        torch.testing.assert_close(backbone.behind(backbone(images)[-1]), whole[-1])  # type: ignore[operator]
    assert channels == whole[-1].shape[1]


@pytest.mark.parametrize("level", [9, -9])
def test_a_level_that_is_not_there_is_refused(level: int) -> None:
    with pytest.raises(InputError, match=f"level {level}: the backbone has 6 levels"):
        divide_at(create(), level)


def test_nothing_stands_behind_the_last_level() -> None:
    with pytest.raises(InputError, match="no stages behind it"):
        divide_at(create(), -1)


def test_regions_by_hand() -> None:
    boxes = torch.tensor([[[0.25, 0, 0.75, 1], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0.5, 1, 1]]])
    assert aligned_regions(boxes, height=4, width=8).tolist() == [[0, 2, 0, 6, 4], [1, 0, 2, 8, 4]]


def test_the_box_of_the_whole_picture_has_the_features_of_the_picture() -> None:
    """A box of all cells, cut out cell by cell, is what the stages see anyway; its mean has length sqrt(D)."""
    with torch.no_grad():
        found = feature_network()(noise(1), bits(torch.tensor([[[0.0, 0, 1, 1]]])))
        expected = create()(noise(1))[-1].mean((2, 3))
    torch.testing.assert_close(found[0], expected / expected.norm() * expected.shape[1] ** 0.5)


def test_parts_of_proposals_have_the_same_features_and_gaps_are_zero() -> None:
    boxes = CELLS.repeat(2, 1, 1)
    boxes[1, 1] = 0
    with torch.no_grad():
        whole, parts = (feature_network(proposals_at_once=count)(noise(2), bits(boxes)) for count in (100, 3))
    torch.testing.assert_close(whole, parts)
    assert whole.shape == (2, 4, 1280)
    assert (whole.norm(dim=2) > 0).tolist() == solid(boxes).tolist()


def test_features_of_pictures_without_proposals_are_zeros() -> None:
    with torch.no_grad():
        assert not feature_network()(noise(2), bits(torch.zeros(2, 3, 4))).any()


# The store


@pytest.fixture(name="stored")
def stored_features(small_index: ImageIndex, tmp_path: Path) -> Path:
    path = tmp_path / "features.h5"
    boxes, _ = relative_proposals(proposals_of(small_index), small_index.table, 4)
    write_proposal_features(FEATURES, small_index, boxes, path)
    return path


def test_a_store_has_every_proposal_in_its_place(small_index: ImageIndex, stored: Path) -> None:
    """Batches do not matter: each image's rows are those of the image alone."""
    from wsol_core.data.images import decode_squashed

    boxes, _ = relative_proposals(proposals_of(small_index), small_index.table, 4)
    model = feature_network()
    with ProposalFeatureStore(stored) as store:
        assert store.width == 1280
        for position, row in enumerate(small_index.table.itertuples()):
            count = 0 if row.image_id == "03" else 3
            found = store.find(str(row.image_id), count)
            assert found.shape == (count, 1280)
            assert found.dtype == np.float16
            if count:
                image = decode_squashed(small_index.root / str(row.path), 32, 32, model.backbone.interpolation)
                picture = torch.from_numpy(image).permute(2, 0, 1)[None]
                with torch.no_grad():
                    alone = model(picture, bits(torch.from_numpy(boxes[position : position + 1])))[0]
                assert not alone[1].any()
                np.testing.assert_allclose(found, alone[[0, 2, 3]].numpy(), atol=2e-3, rtol=2e-3)


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
    with pytest.raises(InputError, match="3 rows for 4 proposals"):
        ProposalFeatureStore(path)
    with pytest.raises(InputError, match="not a readable store of proposal features"):
        ProposalFeatureStore(tmp_path / "missing.h5")


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
    model = LinearDetector(params(max_proposals=3), 1280, classes=2)
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
