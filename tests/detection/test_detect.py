"""Detectors from end to end: proposals on their way, the filter, the loss of a batch, detections, and the stages."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor

from stages import detect as detect_stage
from stages import oracle_objectness as oracle_stage
from stages import train_detector as train_stage
from wsol_core.backbones.create import Backbone, BackboneParams
from wsol_core.backbones.pyramid import Chain, Pyramid, Statistics
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table, write_table
from wsol_core.data.index import ImageIndex, write_annotations, write_index
from wsol_core.data.loading import Batch, Geometry, SquashedImages, TrainingSet, unpack
from wsol_core.detection import oicr
from wsol_core.detection.box_tensors import bits, mirrored, solid
from wsol_core.detection.detector import Detector, DetectorParams, regions
from wsol_core.detection.entry import detector_entry
from wsol_core.detection.heads import Answers, DetectorLoss
from wsol_core.detection.infer import DetectParams, average_views
from wsol_core.detection.mist import DropBlockParams, MistParams
from wsol_core.detection.postprocess import picture_detections
from wsol_core.detection.proposal_filter import FilterParams, ProposalFilter
from wsol_core.detection.proposal_targets import ProposalTargets, relative_proposals
from wsol_core.engine.training_params import TrainingParams

CLASSES = ("cat", "dog", "flower")
CELLS = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.45], [0.5, 0.5, 1, 1], [0.5, 0, 1, 0.5]])
"""Four boxes of which the first two overlap by .9."""
BACKBONE = BackboneParams(name="efficientnet_lite0", weights="none")
TRAINING = TrainingParams(epochs=1, batch=4, lr_backbone=0.01, lr_head=0.1, image_side=32, precision="32-true")


def params(**change: Any) -> DetectorParams:
    given = {"backbone": BACKBONE, "training": TRAINING, "method": "oicr"}
    return DetectorParams(**(given | {"width": 8, "cells": 2, "dropout": 0.0, "branches": 2} | change))


def small_detector(change: DetectorParams | None = None) -> Detector:
    """On one convolution of stride 4."""
    torch.manual_seed(0)
    chain = Chain([("first", torch.nn.Conv2d(3, 6, 4, stride=4)), ("second", torch.nn.Conv2d(6, 5, 1))], ["first"])
    backbone = Backbone(Pyramid(chain, (6,), (4,), Statistics((0.5,) * 3, (0.5,) * 3, "bilinear")))
    return Detector(backbone, change or params(), len(CLASSES))


def batch_of(labels: Sequence[Sequence[int]], boxes: Sequence[Tensor], count: int = 4) -> Batch:
    """Pictures of noise with their proposals, filled up to `count`, all of objectness 1."""
    rows = []
    for present, own in zip(labels, boxes, strict=True):
        table = torch.zeros(count, 4)
        table[: len(own)] = own
        shown = torch.zeros(len(CLASSES)).index_fill(0, torch.tensor(present, dtype=torch.int64), 1)
        rows.append(torch.cat([shown, torch.ones(count), table.flatten()]))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(rows), 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.stack(rows))


# Proposals on their way


def test_proposals_move_with_the_picture(small_index: ImageIndex) -> None:
    """A box drawn into the picture as bright pixels lies where the moved box says."""
    box = np.array([[4, 6, 14, 12]], np.float32) / np.float32(21)
    geometry = Geometry(side=15, resize=21, flip=True)
    image = torch.zeros(3, 21, 21)
    image[:, 6:12, 4:14] = 1

    class One(SquashedImages):
        def __getitem__(self, position: int) -> Tensor:
            return image

    images = One(small_index.root, small_index.table[:1], 21, 21, "bilinear")
    targets = ProposalTargets([[2, 0]], 3, box[None], np.full((1, 1), 0.7, np.float32))
    moves = set()
    for epoch in range(12):
        picture, target = TrainingSet(images, targets, geometry, seed=0)[(epoch, 0)]
        labels, objectness, boxes = unpack(target[None], 3)
        rows, columns = picture[0].nonzero().unbind(1)
        edges = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 15
        torch.testing.assert_close(boxes[0, 0], edges)
        assert labels.tolist() == [[1, 0, 1]]
        assert objectness.tolist() == [[pytest.approx(0.7)]]
        moves.add(tuple(edges.tolist()))
    assert len(moves) > 4


Corners = tuple[float, float, float, float]


def table_of(boxes: dict[str, list[Corners]]) -> pd.DataFrame:
    rows = [(name, *box, 1 - i / 10, -1) for name, own in boxes.items() for i, box in enumerate(own)]
    table = pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS, "score", "label"])
    return table.astype(dict.fromkeys([*BOX_COLUMNS, "score"], np.float32) | {"label": np.int32})


def test_relative_proposals_by_hand() -> None:
    rows = pd.DataFrame({"image_id": ["a", "b", "c"], "width": [10, 20, 5], "height": [20, 20, 5]})
    table = table_of({"c": [(0, 0, 5, 5)], "x": [(0, 0, 1, 1)] * 9, "a": [(1, 2, 10, 30), (0, 0, 5, 10), (0, 0, 1, 1)]})
    boxes, scores = relative_proposals(table, rows, limit=2)
    assert boxes.tolist() == [
        [pytest.approx([0.1, 0.1, 1, 1]), pytest.approx([0, 0, 0.5, 0.5])],
        [[0] * 4] * 2,
        [[0, 0, 1, 1], [0] * 4],
    ]
    assert scores.tolist() == [pytest.approx([1, 0.9]), [0, 0], [1, 0]]


def test_images_without_any_proposal_are_refused() -> None:
    rows = pd.DataFrame({"image_id": ["a"], "width": [10], "height": [20]})
    with pytest.raises(InputError, match="no image has proposals"):
        relative_proposals(table_of({"b": [(0, 0, 5, 5)]}), rows, 10)


# The filter


def refined(
    present: list[int], objectness: list[float], filter_params: FilterParams | None, scores: Tensor
) -> list[int]:
    keep = ProposalFilter(filter_params, CLASSES)
    seeds = oicr.top_seeds(scores, keep.ordered(torch.tensor(present)))
    return keep.apply(oicr.assign(CELLS, scores, seeds, 3).labels, torch.tensor(objectness)).tolist()


SCORES = torch.tensor([[0.9, 0, 0.8], [0, 0, 0], [0, 0.7, 0], [0, 0, 0]])


def test_low_objectness_is_background_and_the_threshold_is_not_low() -> None:
    assert refined([0, 1], [0.1, 0.2, 0.9, 0.9], FilterParams(), SCORES) == [3, 0, 1, 3]
    assert refined([0, 1], [0.1, 0.2, 0.9, 0.9], None, SCORES) == [0, 0, 1, 3]


def test_proposals_of_exempt_classes_stay() -> None:
    assert refined([0, 1], [0, 0, 0, 0], FilterParams(exempt=("cat",)), SCORES) == [0, 0, 3, 3]


def test_the_seed_of_an_exempt_class_stays_even_if_it_is_anothers_too() -> None:
    assert refined([0, 2], [0, 0, 0, 0], FilterParams(exempt=("flower",)), SCORES) == [2, 2, 3, 3]
    assert refined([0, 2], [1, 1, 1, 1], None, SCORES) == [0, 0, 3, 3]


@pytest.mark.parametrize("seed", range(20))
def test_no_seed_of_an_exempt_class_is_ever_filtered(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 3, (4, 3), generator=generator) / 2
    keep = ProposalFilter(FilterParams(threshold=1.0, exempt=("dog", "flower")), CLASSES)
    seeds = oicr.top_seeds(scores, keep.ordered(torch.arange(3)))
    labels = keep.apply(oicr.assign(CELLS, scores, seeds, 3).labels, torch.zeros(4))
    for proposal, label in seeds.tolist():
        assert label == 0 or labels[proposal] in (1, 2)


def test_an_unknown_exempt_class_is_named() -> None:
    with pytest.raises(InputError, match="no class 'flowers'; did you mean 'flower'"):
        ProposalFilter(FilterParams(exempt=("flowers",)), CLASSES)


def test_a_filter_without_objectness_is_refused() -> None:
    with pytest.raises(InputError, match=r"detectors\.a\.network: .*a filter needs objectness"):
        detector_entry({"network": params(filter=FilterParams())}, "detectors.a")


# The network and its loss


def test_a_proposal_covers_the_cells_whose_centres_it_holds() -> None:
    boxes = torch.tensor([[[0.25, 0, 0.75, 1], [0, 0, 0, 0], [0.99, 0.99, 1, 1]]])
    found = regions(boxes, height=4, width=8)
    assert found.tolist() == [[0, 2, 0, 5, 3], [0, 7, 3, 7, 3]]


def test_pooled_cells_by_hand() -> None:
    """Each of four cells of the features alone, and all together: the maximum."""
    from torchvision.ops import roi_pool

    features = torch.tensor([[[[1.0, 2], [3, 4]]]])
    boxes = torch.tensor([[[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1], [0, 0, 1, 1]]])
    assert roi_pool(features, regions(boxes, 2, 2), 1).flatten().tolist() == [1, 2, 3, 4, 4]


@pytest.mark.parametrize("method", ["oicr", "mist"])
def test_parts_and_checkpoints_change_nothing(method: str) -> None:
    batch, found = batch_of([[0], [1, 2]], [CELLS, CELLS[:3]]), []
    for at_once in (100, 2):
        change = params(method=method, proposals_at_once=at_once, dropout=0.0)
        model = small_detector(change)
        loss = DetectorLoss(change, CLASSES)(model, batch)
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([loss.detach(), *gradients])
    assert len(found[0]) > 8
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize("method", ["oicr", "mist"])
def test_the_loss_is_the_mean_over_pictures(method: str) -> None:
    change = params(method=method)
    model, loss = small_detector(change).eval(), DetectorLoss(change, CLASSES)
    batch = batch_of([[0], [1, 2]], [CELLS, CELLS[:3]])
    single = [loss(model, Batch(batch.inputs[i : i + 1], batch.targets[i : i + 1])) for i in range(2)]
    torch.testing.assert_close(loss(model, batch), torch.stack(single).mean())


@pytest.mark.parametrize("method", ["oicr", "mist"])
def test_pictures_without_proposals_count_nothing(method: str) -> None:
    change = params(method=method, mist=MistParams(drop_block=DropBlockParams()))
    model = small_detector(change)
    loss = DetectorLoss(change, CLASSES)(model, batch_of([[0], [1]], [CELLS[:0], CELLS[:0]]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


def test_the_branches_learn_from_each_other_in_order() -> None:
    """WSDDN says proposal 0 is a cat, the first branch says 2: the branches' labels are these seeds."""
    strong = torch.full((4, 3), -9.0)
    wsddn = strong.clone()
    wsddn[0, 0] = 9
    refinements = torch.zeros(4, 2, 4)
    refinements[2, 0, 0] = 9
    answers = Answers(torch.zeros(4, 3), wsddn, refinements.requires_grad_(), None)
    loss = DetectorLoss(params(), CLASSES)
    loss.of_picture(answers, torch.tensor([1.0, 0, 0]), torch.ones(4), CELLS).backward()
    assert refinements.grad is not None
    rising = (refinements.grad[:, :, 0] < 0).tolist()
    assert rising == [[True, False], [True, False], [False, True], [False, False]]


def test_seeds_pass_no_gradient_to_the_branch_before() -> None:
    first, second = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    answers = Answers(first, second, torch.randn(4, 2, 4), None)
    loss = DetectorLoss(params(), CLASSES)
    gradients = []
    for weight in (1.0, 5.0):
        own = answers._replace(refinements=answers.refinements * weight)
        value = loss.of_picture(own, torch.tensor([1.0, 0, 1]), torch.ones(4), CELLS)
        gradients.append(torch.autograd.grad(value, (first, second)))
    for first, second in zip(*gradients, strict=True):
        assert torch.equal(first, second)


def test_scales_are_drawn_while_training_alone() -> None:
    seen = []
    change = params(scales=(2.0, 1.0))
    model, loss = small_detector(change), DetectorLoss(change, CLASSES)
    model.backbone.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[-1]))
    for _ in range(10):
        loss(model, batch_of([[0]], [CELLS]))
    assert set(seen) == {32, 64}
    seen.clear()
    model.eval()
    for _ in range(5):
        loss(model, batch_of([[0]], [CELLS]))
    assert set(seen) == {32}


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_a_backbone_of_rate_0_is_frozen(rate: float) -> None:
    training = TRAINING.model_copy(update={"lr_backbone": rate})
    model = small_detector(params(training=training, method="mist", mist=MistParams(drop_block=DropBlockParams())))
    DetectorLoss(model.params, CLASSES)(model, batch_of([[0], [1, 2]], [CELLS, CELLS[:2]])).backward()
    learns = {name.split(".")[0] for name, each in model.named_parameters() if each.grad is not None}
    assert ("backbone" in learns) == (rate > 0)
    assert "heads" in learns


def test_boxes_stay_exact_under_mixed_precision() -> None:
    boxes = torch.rand(2, 3, 4)
    assert torch.equal(bits(boxes).view(torch.float32), boxes)
    assert not bits(boxes).is_floating_point()


# Detections


def scored(rows: list[tuple[list[float], list[float]]]) -> Tensor:
    """`(P, C, 5)` of boxes with their scores of each class."""
    return torch.tensor([[[*box, score] for score in scores] for box, scores in rows])


FOUND = scored([
    ([0, 0, 0.5, 0.5], [0.9, 0.01]),
    ([0, 0, 0.5, 0.45], [0.8, 0.02]),
    ([0.5, 0.5, 1, 1], [0.7, 0.03]),
    ([0, 0, 0, 0], [0, 0]),
])  # fmt: skip


def test_suppression_is_class_by_class() -> None:
    table = picture_detections(FOUND, DetectParams())
    assert table["score"].tolist() == pytest.approx([0.9, 0.7, 0.03, 0.02])
    assert table["label"].tolist() == [0, 0, 1, 1]
    assert table["label"].dtype == np.int32


def test_the_best_of_each_class_stays_whatever_the_limit() -> None:
    table = picture_detections(FOUND, DetectParams(detections=1))
    assert table["score"].tolist() == pytest.approx([0.9, 0.03])


def test_without_proposals_there_is_no_detection() -> None:
    assert picture_detections(torch.zeros(3, 2, 5), DetectParams()).empty


@pytest.mark.parametrize("method", ["oicr", "mist"])
def test_views_of_a_mirrored_picture_are_the_mirrored_views(method: str) -> None:
    change = params(method=method)
    model = small_detector(change).eval()
    batch = batch_of([[0]], [CELLS])
    boxes = CELLS[None].clone()
    with torch.no_grad():
        plain = average_views(model, batch.inputs, boxes, DetectParams(scales=(1.0, 2.0)))
        other = average_views(model, batch.inputs.flip(3), mirrored(boxes), DetectParams(scales=(1.0, 2.0)))
    torch.testing.assert_close(plain[..., 4], other[..., 4])
    torch.testing.assert_close(plain[..., :4], mirrored(other[..., :4]))
    if method == "oicr":
        torch.testing.assert_close(plain[0, :, 1, :4], CELLS)


def test_rows_without_proposals_stay_zero() -> None:
    model, boxes = small_detector().eval(), torch.zeros(1, 3, 4)
    boxes[0, 1] = CELLS[0]
    with torch.no_grad():
        found = average_views(model, batch_of([[0]], [CELLS]).inputs, boxes, DetectParams())
    assert solid(found[..., :4]).tolist() == [[[False] * 3, [True] * 3, [False] * 3]]


# The stages


def write_workspace(folder: Path, index: ImageIndex, method: str) -> None:
    data = folder / "data" / "detection"
    write_index(data / "index.parquet", index)
    boxes: list[Corners] = [(0, 0, 64, 48), (10, 10, 40, 40), (20, 5, 60, 45), (0, 0, 12, 12)]
    table = table_of({name: boxes for name in index.table["image_id"] if name != "03"})
    write_table(data / "proposals.parquet", table)
    write_table(data / "objectness" / "foreground.parquet", table)
    ground_truth = table.groupby("image_id").nth(1).assign(label=0, difficult=False, instance=1)
    write_annotations(data / "truth" / "annotations.parquet", ground_truth)
    network = {
        "backbone": {"name": "efficientnet_lite0", "weights": "none"}, "method": method,
        "filter": {"threshold": 0.2, "exempt": ["green"]},
        "output_stride": 32, "level": -3, "width": 16, "mist": {"drop_block": {}},
        "training": {
            "epochs": 1, "batch": 4, "accumulate": 2, "lr_backbone": 0.01, "lr_head": 0.01, "image_side": 64,
        },
    }  # fmt: skip
    entry = {"learns_from": "data/detection/objectness/foreground.parquet", "network": network}
    oracle = entry | {"learns_from": "data/detection/objectness/oracle-lr.parquet"}
    (folder / "params.yaml").write_text(yaml.safe_dump({
        "preset": "small", "seed": 0,
        "detectors": {
            "net": entry | {"sees": "data/detection/index.parquet", "detect": {"detections": 3}},
            "plain": oracle | {"sees": "data/detection/index.parquet"},
        },
        "oracle_objectness": {"oracle-lr": {"truth": "boxes", "resolution": 14}},
    }))  # fmt: skip


def digests(*paths: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


@pytest.mark.parametrize("method", ["oicr", "mist"])
def test_stages_twice_give_the_same_bytes(
    method: str, small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, small_index, method)
    outputs = (Path("data/models/net.safetensors"), Path("data/detection/detections/net.parquet"))
    found = []
    for _ in range(2):
        train_stage.main("net")
        detect_stage.main("net")
        found.append(digests(*outputs))
    assert found[0] == found[1]
    table, _ = read_table(outputs[1])
    assert table.columns.tolist() == ["image_id", *BOX_COLUMNS, "score", "label"]
    assert set(table["image_id"]) == set(small_index.table["image_id"]) - {"03"}
    assert (table.groupby("image_id")["score"].diff().fillna(0) <= 0).all()
    assert (table[["x0", "y0"]].to_numpy() >= 0).all()
    assert (table[["x1", "y1"]].to_numpy() <= [64, 48]).all()
    assert table.dtypes[[*BOX_COLUMNS, "score", "label"]].tolist() == [np.float32] * 5 + [np.int32]


def test_objectness_by_ground_truth(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, small_index, "oicr")
    oracle_stage.main("oracle-lr")
    scored, _ = read_table(Path("data/detection/objectness/oracle-lr.parquet"))
    table, _ = read_table(Path("data/detection/proposals.parquet"))
    pd.testing.assert_frame_equal(scored.drop(columns="score"), table.drop(columns="score"))
    whole, exact, shifted, apart = scored["score"].to_numpy().reshape(-1, 4).T
    assert (exact > shifted).all()
    assert (shifted > whole).all()
    assert (whole > apart).all()
    assert float(exact.min()) > 0.9


def test_an_oracle_under_a_plain_name_is_refused(
    small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, small_index, "oicr")
    with pytest.raises(InputError, match="must begin with 'oracle-'"):
        train_stage.main("plain")
