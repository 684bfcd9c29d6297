"""The released MFF-Net 1: its class maps and losses by hand, what shares the classifier, single images, maps."""

import math
from typing import cast

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import BackboneParams
from wsol_core.data.loading import Batch
from wsol_core.engine.training_params import TrainingParams
from wsol_core.heads.mff_net import WIDTH, fuse
from wsol_core.methods.spol.networks import Auxiliary, Classes, activation_maps, branch_maps, classification_loss
from wsol_core.methods.spol.released import PooledNorm, ReleasedNet, ReleasedParams, build_released

SMALL = BackboneParams(name="mobilenetv3_small_050", weights="none")
TRAINING = TrainingParams(epochs=1, batch=4, lr_backbone=0.01, lr_head=0.01, image_side=64)
LABELS = torch.tensor([0, 1, 2, 0])


def network(**changes: object) -> ReleasedNet:
    torch.manual_seed(0)
    params = ReleasedParams.model_validate({"backbone": SMALL, "training": TRAINING} | changes)
    return build_released(params, classes=3)


def images(*sides: int, count: int = 4) -> Tensor:
    return torch.randint(0, 256, (count, 3, *sides), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def classifier(model: ReleasedNet) -> nn.Parameter:
    return cast(nn.Parameter, model.heads[0].weight)


def test_class_maps_are_cut_before_they_are_averaged() -> None:
    """Channels 0 and 1 at two positions; class 0 weighs them 1 and -1: 2 and -3, of which 2 and 0 are averaged."""
    model = network()
    features, weights = torch.zeros(1, WIDTH, 1, 2), torch.zeros(3, WIDTH, 1, 1)
    features[0, :2, 0] = torch.tensor([[3.0, 1.0], [1.0, 4.0]])
    weights[:2, :2, 0, 0] = torch.tensor([[1.0, -1.0], [2.0, 1.0]])
    with torch.no_grad():
        classifier(model).copy_(weights)
        (logits,) = model.pooled_logits([features])
    assert logits.tolist() == [[(2 + 0) / 2, (7 + 6) / 2, 0]]


def test_both_logits_are_of_one_classifier_without_a_bias() -> None:
    model = network().eval()
    weights = classifier(model).flatten(1)
    assert not any("bias" in name for name in model.heads.state_dict())
    with torch.no_grad():
        stages = model.stages(model.backbone(images(64, 96)))
        for found, seen in zip(model(images(64, 96)), (math.prod(stages), stages[-1]), strict=True):
            maps = torch.einsum("kc,bchw->bkhw", weights, seen).relu()
            assert torch.allclose(found, maps.mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize("auxiliary", ["cross_entropy", "agreement"])
def test_both_losses_reach_the_shared_classifier(auxiliary: Auxiliary) -> None:
    """Its gradient is the sum of the two losses' own, each of which is not zero."""
    model = network(auxiliary=auxiliary, dropout=0.0)
    shared, batch = classifier(model), Batch(images(64, 64), LABELS)
    fused, last = model(batch.inputs)
    goal = last.detach().softmax(1) if auxiliary == "agreement" else LABELS
    share = 0.5 if auxiliary == "agreement" else 1.0
    losses = [functional.cross_entropy(fused, goal) * share, functional.cross_entropy(last, LABELS) * share]
    own = [torch.autograd.grad(loss, shared, retain_graph=True)[0] for loss in losses]
    assert all(gradient.abs().max() > 0 for gradient in own)
    whole = torch.autograd.grad(classification_loss(model, batch, auxiliary), shared)[0]
    torch.testing.assert_close(whole, own[0] + own[1], atol=1e-5, rtol=1e-3)


def test_without_the_auxiliary_loss_the_fused_features_speak_alone() -> None:
    assert len(network(auxiliary="none")(images(64, 64))) == 1
    assert network(auxiliary="none").state_dict().keys() == network().state_dict().keys()


@pytest.mark.parametrize("fusion", ["multiply", "add"])
@pytest.mark.parametrize("auxiliary", ["cross_entropy", "agreement", "none"])
def test_every_parameter_learns(fusion: str, auxiliary: Auxiliary) -> None:
    model = network(fusion=fusion, auxiliary=auxiliary)
    classification_loss(model, Batch(images(64, 64), LABELS), auxiliary).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert name.startswith("backbone.") or parameter.grad.abs().max() > 0, name


def test_dropout_is_of_the_fused_features_in_training_alone() -> None:
    model = network(dropout=0.9)
    model.eval()
    with torch.no_grad():
        fused, last = model(images(64, 64))
        again = model(images(64, 64))
        assert torch.equal(fused, again[0])
        model.dropout = 0.0
        assert torch.equal(model(images(64, 64))[0], fused)
        model.train().dropout = 0.9
        for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.eval()
        torch.manual_seed(1)
        dropped, kept = model(images(64, 64))
    assert torch.equal(kept, last)
    assert not torch.allclose(dropped, fused)


def test_attention_normalises_and_cuts_pooled_features() -> None:
    """A pooled channel of 1 and 3 becomes -1 and 1, of which the negative one is cut."""
    model = network(levels=(-1,))
    assert model.attention is not None
    squeeze = cast(nn.Sequential, model.attention.squeeze[0])
    convolution, norm = cast(nn.Conv2d, squeeze[0]), cast(PooledNorm, squeeze[1])
    assert convolution.bias is None
    assert norm.running_mean is not None
    features = torch.zeros(2, convolution.in_channels, 1, 1)
    features[:, 0, 0, 0] = torch.tensor([1.0, 3.0])
    with torch.no_grad():
        convolution.weight.fill_(1)
        assert torch.allclose(squeeze(features)[:, 0].flatten(), torch.tensor([0.0, 1.0]), atol=1e-4)
    assert norm.running_mean[0].item() == pytest.approx(0.2)


def test_a_single_image_can_be_trained_on() -> None:
    """It meets the running statistics, which it leaves as they are."""
    model = network()
    loss = classification_loss(model, Batch(images(64, 64, count=1), LABELS[:1]), "cross_entropy")
    loss.backward()
    assert math.isfinite(loss.item())
    norm = PooledNorm(2)
    norm.running_mean = torch.tensor([1.0, 2.0])
    normalised = norm(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)).flatten()
    assert torch.allclose(normalised, torch.tensor([0.0, 1.0]), atol=1e-4)
    assert norm.running_mean.tolist() == [1, 2]


@pytest.mark.parametrize("classes", ["label", "predicted", "class_agnostic"])
def test_maps_are_the_classifiers_class_maps(classes: Classes) -> None:
    model, labels = network().eval(), LABELS[:, None]
    with torch.no_grad():
        maps = activation_maps(model, images(64, 96), labels, classes)
        (fused,) = fuse(model.stages(model.backbone(images(64, 96))), "multiply")
        raw, logits = model.classify([fused])[0], model(images(64, 96))[0]
        branches = branch_maps(model, images(64, 96), labels, classes)
    shares = {
        "label": functional.one_hot(LABELS, 3).float(),
        "predicted": functional.one_hot(logits.argmax(1), 3).float(),
        "class_agnostic": logits.softmax(1),
    }[classes]
    cut = torch.einsum("bk,bkhw->bhw", shares, raw).relu()
    assert torch.allclose(maps[:, 0], cut / cut.amax((1, 2), keepdim=True).clamp(min=1e-30), atol=1e-4)
    assert branches.shape == (4, 3, 8, 12)


@pytest.mark.parametrize("fusion", ["concat", "separate"])
def test_stages_of_another_width_have_no_shared_classifier(fusion: str) -> None:
    with pytest.raises(ValidationError, match="fusion"):
        network(fusion=fusion)
