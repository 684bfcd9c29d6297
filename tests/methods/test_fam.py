"""FAM's equations by hand, its memory's symmetry, degenerate maps, and steps that lower the loss."""

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from stages import maps as maps_stage
from tests.small_project import entry, run_network, write_params, write_set
from wsol_core.backbones.create import BackboneParams
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import MapStore
from wsol_core.data.class_scores import read_ranked
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import Batch
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.fam.network import (
    Fam,
    FamNet,
    FamParams,
    ForegroundMemory,
    Normalisation,
    PlainForeground,
    balanced_cross_entropy,
    build,
    class_probabilities,
    class_weights,
    diversity,
    foreground_maps,
    joint_loss,
    part_maps,
    pool_parts,
    read_memory,
    similarities,
    sparsity,
    weigh_parts,
)

SMALL = BackboneParams(name="mobilenetv3_small_050", weights="none")
TRAINING = TrainingParams(epochs=1, batch=4, lr_backbone=0.01, lr_head=0.01, image_side=64)
NORMALISATIONS: tuple[Normalisation, ...] = ("sum", "softmax")
LABELS = torch.tensor([0, 1, 2, 0])
EVEN = torch.ones(3)


def params(**changes: object) -> FamParams:
    return FamParams.model_validate({"backbone": SMALL, "training": TRAINING, "output_stride": 32} | changes)


def network(**changes: object) -> FamNet:
    torch.manual_seed(0)
    return build(params(**changes), 3)


def images(*sides: int) -> Tensor:
    return torch.randint(0, 256, (4, 3, *sides), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Says(nn.Module):
    """A network that always says the same."""

    def __init__(self, output: Fam) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: Tensor) -> Fam:
        return self.output


def pixel(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


# ---------------------------------------------------------------- object-aware attention


def test_similarities_by_hand_eq_1() -> None:
    """Query (2, 2, 0, 0) of width 4: the keys' products 2 and 6 over the root of 4 are 1 and 3."""
    queries, keys = pixel(2, 2, 0, 0), torch.tensor([[1.0, 0, 5, 5], [2, 1, -5, 0]])
    assert torch.allclose(similarities(queries, keys, "sum").flatten(), torch.tensor([0.25, 0.75]))
    expected = torch.tensor([1, math.exp(2)]) / (1 + math.exp(2))
    assert torch.allclose(similarities(queries, keys, "softmax").flatten(), expected)


def test_similarities_of_mixed_signs_as_written_and_as_softmax() -> None:
    """Products -1 and 3: as written -1/2 and 3/2; the softmax stays in [0, 1]."""
    queries, keys = pixel(1), torch.tensor([[-1.0], [3]])
    assert similarities(queries, keys, "sum").flatten().tolist() == [-0.5, 1.5]
    assert similarities(queries, keys, "softmax").min() > 0


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("keys", [[[0.0], [0]], [[1.0], [-1]]])
def test_similarities_without_a_sum_are_finite(normalisation: Normalisation, keys: list[list[float]]) -> None:
    queries = torch.zeros(1, 1, 2, 2, requires_grad=True)
    found = similarities(queries + (1 if keys[0][0] else 0), torch.tensor(keys), normalisation)
    found.square().sum().backward()
    assert queries.grad is not None
    assert torch.isfinite(queries.grad).all()
    assert torch.allclose(found.sum(1), torch.ones(1, 2, 2))
    if normalisation == "sum":
        assert torch.equal(found, torch.full((1, 2, 2, 2), 0.5))


def test_memory_reading_by_hand_eqs_2_and_3() -> None:
    """The pixel's classifier is (1/4) (4, 0) + (3/4) (0, 8) = (1, 6); of the features (2, 1) it says 8."""
    logits = read_memory(pixel(2, 1), pixel(0.25, 0.75), torch.tensor([[4.0, 0], [0, 8]]))
    assert logits.flatten().tolist() == [8]


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_memory_reading_is_that_of_pixel_wise_classifiers(normalisation: Normalisation) -> None:
    torch.manual_seed(0)
    memory, x = ForegroundMemory(32, 3, normalisation), torch.rand(2, 32, 4, 5)
    queries = memory.encode(x)
    for image, row, column in ((0, 0, 0), (1, 3, 4), (1, 2, 0)):
        beta = memory.keys @ queries[image, :, row, column] / math.sqrt(2)
        s = beta.softmax(0) if normalisation == "softmax" else beta / beta.sum()
        w = sum(s[n] * memory.values[n] for n in range(3))
        assert memory(x)[image, row, column].item() == pytest.approx((w @ x[image, :, row, column]).item(), rel=1e-3)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_memory_reading_does_not_see_the_order_of_its_templates(normalisation: Normalisation) -> None:
    torch.manual_seed(0)
    queries, x = torch.rand(2, 4, 3, 5), torch.rand(2, 8, 3, 5)
    keys, values, order = torch.rand(5, 4), torch.randn(5, 8), torch.tensor([3, 0, 4, 1, 2])
    found = similarities(queries, keys, normalisation)
    mixed = similarities(queries, keys[order], normalisation)
    assert torch.allclose(mixed, found[:, order])
    read = read_memory(x, found, values)
    assert torch.allclose(read_memory(x, mixed, values[order]), read, atol=1e-5)
    assert not torch.allclose(read_memory(x, mixed, values), read, atol=1e-2)


def test_sparsity_by_hand_eq_4() -> None:
    assert sparsity(torch.tensor([[[0.0, 1], [0.5, 0.5]], [[0, 0], [0, 0]]])).item() == 0.25


@pytest.mark.parametrize("channels", [512, 1024, 1280, 2048])
def test_control_without_memory_is_about_as_large(channels: int) -> None:
    count = [sum(p.numel() for p in made.parameters()) for made in
             (PlainForeground(channels), ForegroundMemory(channels, 3, "softmax"))]  # fmt: skip
    assert count[0] == pytest.approx(count[1], rel=0.1)
    assert len([layer for layer in PlainForeground(channels) if isinstance(layer, nn.Conv2d)]) == 3


# ---------------------------------------------------------------- part-aware attention


def test_parts_by_hand_eqs_5_to_7() -> None:
    """Two pixels, features (1, 2) and (3, 4), M 1 and 0: masked (1, 2) and (0, 0); the part sees channel 0 alone."""
    model = network(templates=1, parts=1, pooled="features")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("backbone."):
                parameter.zero_()
        model.locate = Always(torch.tensor([[[math.inf, -math.inf]]]))
        model.discover.weight[0, 0] = math.log(3)
        x = torch.zeros(1, model.discover.in_channels, 1, 2)
        x[0, :2, 0] = torch.tensor([[1.0, 3], [2, 4]])
        written = model.attend(x)
        model.pooled = "foreground"
        masked = model.attend(x)
    assert written.foreground.flatten().tolist() == [1, 0]
    assert torch.allclose(written.attention.flatten(), torch.tensor([0.75, 0.5]))
    assert torch.allclose(written.parts[0, 0, :2], torch.tensor([0.75 + 1.5, 1.5 + 2]) / 2)
    assert torch.allclose(masked.parts[0, 0, :2], torch.tensor([0.75, 1.5]) / 2)


class Always(nn.Module):
    """A layer that always says the same."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: Tensor) -> Tensor:
        return self.output


def test_pooling_by_hand_eq_7() -> None:
    x = torch.tensor([[1.0, 3], [2, 4]]).view(1, 2, 1, 2)
    parts = pool_parts(x, torch.tensor([[1.0, 1], [0, 0.5]]).view(1, 2, 1, 2))
    assert parts.tolist() == [[[2, 3], [0.75, 1]]]


def test_diversity_by_hand_eq_8() -> None:
    """Cosines of (1, 0), (1, 1) and (0, 2): 1/sqrt(2), 0 and 1/sqrt(2), each twice, over 3 * 2."""
    parts = torch.tensor([[[1.0, 0], [1, 1], [0, 2]]])
    assert diversity(parts).item() == pytest.approx(4 / math.sqrt(2) / 6)


def test_diversity_of_equal_orthogonal_single_and_empty_parts() -> None:
    assert diversity(torch.tensor([1.0, 2, 3]).expand(2, 5, 3)).item() == pytest.approx(1)
    assert diversity(torch.diag(torch.tensor([1.0, 20, 3])).expand(2, 3, 3)).item() == pytest.approx(0)
    assert diversity(torch.rand(2, 1, 3)).item() == pytest.approx(0, abs=1e-6)
    empty = torch.zeros(2, 3, 4, requires_grad=True)
    loss = diversity(empty)
    loss.backward()
    assert loss.item() == 0
    assert empty.grad is not None
    assert torch.isfinite(empty.grad).all()


def test_importance_by_hand_eq_9() -> None:
    """Scores log 3 and 0 give the weights 3/4 and 1/4; equal scores the mean."""
    parts = torch.tensor([[[4.0, 0], [0, 8]]])
    assert torch.allclose(weigh_parts(parts, torch.tensor([[[math.log(3)], [0]]])), torch.tensor([[3.0, 2]]))
    assert weigh_parts(parts, torch.zeros(1, 2, 1)).tolist() == [[2, 4]]


# ---------------------------------------------------------------- joint training


def test_class_weights_by_hand() -> None:
    """Three, one and no image of three classes: four images over two classes present and their counts."""
    weights = class_weights(torch.tensor([0, 0, 1, 0]), 3)
    assert torch.allclose(weights, torch.tensor([4 / 6, 4 / 2, 0]))
    assert weights[torch.tensor([0, 0, 1, 0])].mean().item() == pytest.approx(1)
    assert class_weights(torch.tensor([0, 1, 2]), 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize("classes", [1, 3])
def test_one_class_only_is_refused(classes: int) -> None:
    with pytest.raises(InputError, match="one class only"):
        class_weights(torch.tensor([0, 0]), classes)


def test_balanced_cross_entropy_by_hand_eq_10() -> None:
    logits = torch.tensor([[math.log(3), 0.0], [0, 0]])
    loss = balanced_cross_entropy(logits, torch.tensor([0, 1]), torch.tensor([0.5, 2]))
    assert loss.item() == pytest.approx((0.5 * math.log(4 / 3) + 2 * math.log(2)) / 2)


def test_joint_loss_by_hand_eq_11() -> None:
    """Cross entropy log 2 of weight 1, a map of mean 1/4, equal parts."""
    found = Fam(torch.tensor([[[0.5, 0]]]), torch.zeros(1, 2, 1, 2), torch.ones(1, 2, 3), torch.zeros(1, 2))
    batch = Batch(torch.zeros(1, 3, 2, 2), torch.tensor([0]))
    loss = joint_loss(Says(found), batch, torch.ones(2), params(lambda_spa=0.4, lambda_div=0.3))
    assert loss.item() == pytest.approx(math.log(2) + 0.1 + 0.3)
    assert (params().lambda_spa, params().lambda_div, params().templates, params().parts) == (0.04, 0.01, 3, 5)


@pytest.mark.parametrize("change", [
    {}, {"normalisation": "sum"}, {"memory": False}, {"importance": False}, {"pooled": "features"}, {"templates": 2},
])  # fmt: skip
def test_every_parameter_learns(change: dict[str, object]) -> None:
    model = network(**change)
    joint_loss(model, Batch(images(64, 64), LABELS), EVEN, params(**change)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        scale_free = name == "importance.bias"
        assert name.startswith("backbone.") or scale_free or parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("change", [{}, {"memory": False}, {"normalisation": "sum"}, {"parts": 1, "templates": 1}])
def test_steps_lower_the_loss(change: dict[str, object]) -> None:
    model, loss = network(**change), partial(joint_loss, weights=EVEN, params=params(**change))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        value = loss(model, Batch(images(64, 64), LABELS))
        losses.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert all(after < before for before, after in pairwise(losses))


@pytest.mark.parametrize("change", [{}, {"memory": False}, {"normalisation": "sum"}])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_features_give_constant_finite_maps(change: dict[str, object], value: float) -> None:
    model = network(**change)
    x = torch.full((2, model.discover.in_channels, 3, 4), value, requires_grad=True)
    found = model.attend(x)
    for map_ in (found.foreground, found.attention):
        assert ((map_ >= 0) & (map_ <= 1)).all()
        assert torch.allclose(map_, map_[..., :1, :1].expand_as(map_))
    assert torch.isfinite(found.logits).all()
    (found.logits.sum() + diversity(found.parts)).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    if value == 0 and not change:
        assert (found.foreground == 0.5).all()


@pytest.mark.parametrize("memory", [True, False])
def test_what_all_pixels_share_moves_no_map(memory: bool) -> None:
    model = network(memory=memory)
    x = torch.rand(2, model.discover.in_channels, 3, 4)
    shared = torch.rand(1, x.shape[1], 1, 1)
    assert torch.allclose(model.attend(x + shared).foreground, model.attend(x).foreground, atol=1e-3)
    assert model.attend(x).foreground.std() > 0.01


def test_parts_start_apart() -> None:
    model = network()
    x = torch.randn(2, model.discover.in_channels, 8, 8)
    maps = model.attend(x).attention.flatten(2)
    alike = torch.corrcoef(maps[0])[~torch.eye(5, dtype=torch.bool)]
    assert maps.std(2).min() > 0.2
    assert alike.abs().max() < 0.5


@pytest.mark.parametrize("change", [{"templates": 0}, {"parts": 0}, {"lambda_spa": -1}, {"normalisation": "l2"}])
def test_bad_params_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        params(**change)


# ---------------------------------------------------------------- outputs


def test_outputs_of_a_batch_under_autocast() -> None:
    model, labels = network().eval(), torch.zeros(4, 1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model(images(64, 96))
        assert {own.dtype for own in found} == {torch.float32}
        assert foreground_maps(model, images(64, 96), labels).shape == (4, 1, 2, 3)
        assert torch.equal(part_maps(model, images(64, 96), labels), found.attention * found.foreground[:, None])
        assert found.attention.shape == (4, 5, 2, 3)
        probabilities = class_probabilities(model, images(64, 96), labels)
    assert probabilities.shape == (4, 3)
    assert torch.allclose(probabilities.sum(1), torch.ones(4))


@pytest.mark.parametrize(
    ("name", "stride"), [("vgg16", 16), ("resnet50", 16), ("inception_v3", 16), ("mobilenet_v1", 32)]
)
def test_the_papers_backbones(name: str, stride: int) -> None:
    backbone = BackboneParams(name=name, weights="none")
    model = build(params(backbone=backbone, output_stride=stride), 3).eval()
    with torch.no_grad():
        found = model(images(96, 96)[:1])
    assert found.attention.shape == (1, 5, *found.foreground.shape[1:])
    assert abs(found.foreground.shape[1] - 96 // stride) <= 1
    assert torch.isfinite(found.logits).all()


def test_stages(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the index to the maps and scores of all images, and the part maps of the test split."""
    monkeypatch.chdir(tmp_path)
    write_set(small_index)
    training = TRAINING.model_copy(update={"batch": 8, "precision": "32-true"})
    write_params({"fam": entry("fam", "fam", params(parts=2, training=training))})
    outputs = run_network("fam")
    with MapStore(outputs / "maps.h5") as maps:
        assert maps.image_ids.tolist() == small_index.table["image_id"].tolist()
        assert set(maps.labels.tolist()) == {-1}
        assert maps.shape == (2, 2)
    with MapStore(outputs / "layers.h5") as parts:
        assert sorted(set(parts.image_ids)) == small_index.split("test")["image_id"].tolist()
        assert parts.labels.tolist() == [0, 1] * 4
    ranked = read_ranked(outputs / "classes.parquet", small_index)
    assert sorted(ranked[0].tolist()) == [0, 1]
    other = replace(small_index, table=small_index.table[4:9], classes=("elsewhere",))
    write_set(other, "detection")
    maps_stage.main("fam", "detection", "data/detection/index.parquet")
    with MapStore(Path("data/detection/outputs/fam/maps.h5")) as carried, MapStore(outputs / "maps.h5") as maps:
        assert carried.image_ids.tolist() == other.table["image_id"].tolist()
        np.testing.assert_allclose(carried[:], maps[4:9], atol=1e-3)
