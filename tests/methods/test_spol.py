"""SPOL's losses and maps by hand, its degenerate maps, what learns of each network, and the stages."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.small_project import entry, run_network, write_params, write_set
from wsol_core.backbones.create import BackboneParams
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import Batch
from wsol_core.engine.training_params import TrainingParams
from wsol_core.heads.mff_net import Fusion, MFFNet, fuse
from wsol_core.methods.spol.networks import (
    Auxiliary,
    CamParams,
    Classes,
    SegmentationParams,
    activation_maps,
    activations,
    branch_maps,
    build,
    build_cam,
    class_shares,
    classification_loss,
    segmentation_loss,
    segmentation_maps,
)

SMALL = BackboneParams(name="mobilenetv3_small_050", weights="none")
TRAINING = TrainingParams(epochs=1, batch=4, lr_backbone=0.01, lr_head=0.01, image_side=64)
FUSIONS: tuple[Fusion, ...] = ("multiply", "add", "concat", "separate")
AUXILIARIES: tuple[Auxiliary, ...] = ("cross_entropy", "agreement", "none")


def cam_params(**changes: object) -> CamParams:
    return CamParams.model_validate({"backbone": SMALL, "training": TRAINING} | changes)


def images(*sides: int) -> Tensor:
    return torch.randint(0, 256, (4, 3, *sides), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def features_of(model: MFFNet, pictures: Tensor) -> list[Tensor]:
    return fuse(model.stages(model.backbone(pictures)), model.fusion)


class Says(nn.Module):
    """A network that always says the same."""

    def __init__(self, *outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, _: Tensor) -> list[Tensor]:
        return list(self.outputs)


FUSED, LAST = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[0.0, math.log(4)]])
LABELS = Batch(torch.zeros(1, 3, 2, 2), torch.tensor([0]))


def test_classification_losses_by_hand() -> None:
    """The fused prediction gives the classes 3/4 and 1/4, that of the last stage 1/5 and 4/5; the label is 0."""
    l_cls, l_aux = math.log(4 / 3), math.log(5)
    soft = 0.2 * math.log(4 / 3) + 0.8 * math.log(4)
    said = Says(FUSED, LAST)
    assert classification_loss(Says(FUSED), LABELS, "none").item() == pytest.approx(l_cls)
    assert classification_loss(said, LABELS, "cross_entropy").item() == pytest.approx(l_cls + l_aux)
    assert classification_loss(said, LABELS, "agreement").item() == pytest.approx((l_aux + soft) / 2)


def test_deep_supervision_adds_the_stages_losses() -> None:
    loss = classification_loss(Says(FUSED, LAST), LABELS, "none")
    assert loss.item() == pytest.approx(math.log(4 / 3) + math.log(5))


def test_soft_labels_of_the_agreement_are_fixed() -> None:
    fused, last = FUSED.clone().requires_grad_(), LAST.clone().requires_grad_()
    classification_loss(Says(fused, last), LABELS, "agreement").backward()
    assert fused.grad is not None
    assert last.grad is not None
    assert torch.allclose(fused.grad, torch.tensor([[0.75 - 0.2, 0.25 - 0.8]]) / 2)
    assert torch.allclose(last.grad, torch.tensor([[0.2 - 1, 0.8]]) / 2)


def test_segmentation_loss_by_hand_eq_7() -> None:
    """Two known pixels of four: the sum of their losses over all four; two heads count twice."""
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 5.0]]])
    targets = torch.tensor([[[1.0, 0.0], [255.0, 255.0]]])
    batch = Batch(torch.zeros(1, 3, 2, 2), targets)
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 4
    assert segmentation_loss(Says(logits), batch).item() == pytest.approx(expected, rel=1e-6)
    assert segmentation_loss(Says(logits, logits), batch).item() == pytest.approx(2 * expected, rel=1e-6)


def test_ignored_pixels_carry_no_gradient() -> None:
    logits = torch.randn(1, 4, 4, requires_grad=True)
    targets = torch.full((1, 4, 4), 255.0)
    targets[0, 0] = 1
    segmentation_loss(Says(logits), Batch(torch.zeros(1, 3, 4, 4), targets)).backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0] != 0).all()
    assert (logits.grad[0, 1:] == 0).all()


def test_activation_map_by_hand() -> None:
    """Features 1 and 2 at two positions; class 0 weighs them 1 and -1, class 1 weighs them 2 and 1."""
    features = torch.tensor([[3.0, 1.0], [1.0, 4.0]]).view(1, 2, 1, 2)
    weights = torch.tensor([[1.0, -1.0], [2.0, 1.0]])
    maps = activations(features, torch.tensor([[[1.0, 0], [0, 1], [0.5, 0.5]]]), weights)
    assert torch.allclose(maps.flatten(2)[0], torch.tensor([[1.0, 0], [1, 6 / 7], [1, 1 / 3]]))


def test_degenerate_maps() -> None:
    shares, weights = torch.ones(1, 1, 1), torch.tensor([[1.0]])
    for values, expected in (([0.0, 0], [0.0, 0]), ([-2, -1], [0, 0]), ([5, 5], [1, 1]), ([1e-40, 0], None)):
        maps = activations(torch.tensor(values).view(1, 1, 1, 2), shares, weights).flatten()
        assert torch.isfinite(maps).all()
        assert ((maps >= 0) & (maps <= 1)).all()
        assert expected is None or maps.tolist() == expected


def test_shares_of_classes() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [1.0, 0.0]])
    labels = torch.tensor([[0, 1], [1, -1]])
    assert class_shares(logits, labels, "label")[0].tolist() == [[1, 0], [0, 1]]
    assert class_shares(logits, labels, "label")[1, 0].tolist() == [0, 1]
    assert class_shares(logits, labels, "predicted").tolist() == [[[0, 1]], [[1, 0]]]
    assert torch.allclose(class_shares(logits, labels, "class_agnostic")[0], torch.tensor([[0.25, 0.75]]))
    for classes in ("label", "predicted", "class_agnostic"):
        assert class_shares(torch.randn(3, 1), torch.zeros(3, 1, dtype=torch.int64), classes).tolist() == [[[1]]] * 3


@pytest.mark.parametrize("fusion", FUSIONS)
def test_map_before_cut_and_division_averages_to_the_logit(fusion: Fusion) -> None:
    """Pooling and a linear classifier change places (Eq. 1): the class's raw map plus bias has its logit as mean."""
    torch.manual_seed(0)
    model = build_cam(cam_params(fusion=fusion, auxiliary="none"), 3)
    with torch.no_grad():
        raw = model.classify(features_of(model, images(64, 96)))[-1]
        assert torch.allclose(raw.mean((2, 3)), model(images(64, 96))[-1], atol=1e-5)
        maps = activation_maps(model, images(64, 96), torch.tensor([[2]] * 4), "label")
        bias = model.classify([torch.zeros_like(own) for own in features_of(model, images(64, 96))])[-1]
        cut = (raw - bias)[:, 2].relu()
        assert torch.allclose(maps[:, 0], cut / cut.amax((1, 2), keepdim=True).clamp(min=1e-30), atol=1e-4)


def test_maps_of_labels_predictions_and_all_classes() -> None:
    torch.manual_seed(0)
    model = build_cam(cam_params(auxiliary="none"), 3).eval()
    pictures, labels = images(64, 96), torch.tensor([[0, 2], [1, -1], [2, -1], [0, -1]])
    with torch.no_grad():
        of_labels = activation_maps(model, pictures, labels, "label")
        said = model(pictures)[0].argmax(1)
        predicted = activation_maps(model, pictures, labels, "predicted")
        assert of_labels.shape == (4, 2, 8, 12)
        assert torch.equal(predicted, activation_maps(model, pictures, said[:, None], "label"))
        model.state_dict()["heads.0.bias"][1] = 100
        agnostic = activation_maps(model, pictures, labels, "class_agnostic")
        assert torch.allclose(agnostic, activation_maps(model, pictures, torch.ones_like(labels[:, :1]), "label"))


def test_plain_cam_is_the_classifier_on_the_backbone() -> None:
    torch.manual_seed(0)
    model = build_cam(cam_params(levels=(-1,), attention=False, auxiliary="none"), 3).eval()
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "heads"}
    with torch.no_grad():
        deepest, state = model.backbone(images(64, 64))[-1], model.state_dict()
        logits = functional.linear(deepest.mean((2, 3)), state["heads.0.weight"].flatten(1), state["heads.0.bias"])
        assert torch.allclose(model(images(64, 64))[0], logits, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_branches_of_each_stage(fusion: Fusion) -> None:
    torch.manual_seed(0)
    model = build_cam(cam_params(fusion=fusion), 3).eval()
    labels = torch.tensor([[0], [1], [2], [0]])
    with torch.no_grad():
        branches = branch_maps(model, images(64, 96), labels, "label")
        stages = model.stages(model.backbone(images(64, 96)))
        weights = model.stage_weights()[1][labels[:, 0]]
    assert branches.shape == (4, 3, 8, 12)
    raw = torch.einsum("bc,bchw->bhw", weights, stages[1]).relu()
    assert torch.allclose(branches[:, 1], raw / raw.amax((1, 2), keepdim=True).clamp(min=1e-30), atol=1e-5)


def test_branch_of_one_stage_is_the_map() -> None:
    model = build_cam(cam_params(levels=(-2,)), 3).eval()
    labels = torch.tensor([[0], [1], [2], [0]])
    for classes in ("label", "predicted", "class_agnostic"):
        with torch.no_grad():
            whole = activation_maps(model, images(64, 64), labels, classes)
            assert torch.equal(branch_maps(model, images(64, 64), labels, classes), whole)


@pytest.mark.parametrize("auxiliary", AUXILIARIES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_of_mff_net_1_learns(fusion: Fusion, auxiliary: Auxiliary) -> None:
    torch.manual_seed(0)
    model = build_cam(cam_params(fusion=fusion, auxiliary=auxiliary), 3)
    classification_loss(model, Batch(images(64, 64), torch.tensor([0, 1, 2, 0])), auxiliary).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    for name, gradient in gradients.items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
        assert name.startswith("backbone.") or gradient.abs().max() > 0, name


@pytest.mark.parametrize("fusion", FUSIONS)
def test_segmentation_maps_are_probabilities_of_the_deepest_head(fusion: Fusion) -> None:
    model = build(SegmentationParams(backbone=SMALL, training=TRAINING, fusion=fusion)).eval()
    with torch.no_grad():
        maps = segmentation_maps(model, images(64, 96), torch.zeros(4, 1))
        assert torch.equal(maps[:, 0], torch.sigmoid(model(images(64, 96))[-1]))
    assert maps.shape == (4, 1, 8, 12)


@pytest.mark.parametrize(("classes", "labels"), [("label", {0, 1}), ("predicted", {-1}), ("class_agnostic", {-1})])
def test_stages(
    small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: Classes, labels: set[int]
) -> None:
    """From the index to the maps of all images, and to a map per stage for those of the test split."""
    monkeypatch.chdir(tmp_path)
    write_set(small_index)
    training = TRAINING.model_copy(update={"batch": 8, "precision": "32-true"})
    params = cam_params(levels=(-2, -1), maps=classes, training=training)
    write_params({"mff": entry("spol", "cam", params)})
    outputs = run_network("mff")
    with MapStore(outputs / "maps.h5") as maps:
        assert maps.image_ids.tolist() == small_index.table["image_id"].tolist()
        assert maps.shape == (4, 4)
        assert set(maps.labels.tolist()) == labels
        if classes == "label":
            assert maps.labels.tolist() == [own[0] for own in small_index.table["labels"]]
    with MapStore(outputs / "layers.h5") as layers:
        assert sorted(set(layers.image_ids)) == small_index.split("test")["image_id"].tolist()
        assert layers.labels.tolist() == [0, 1] * 4
