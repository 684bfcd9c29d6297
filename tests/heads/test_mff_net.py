"""MFF-Net: SPOL's equations by hand, gradients that couple the branches, fusions and degenerate cases."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from wsol_core.backbones.create import BackboneParams, create_backbone
from wsol_core.core.errors import InputError
from wsol_core.engine.training_params import TrainingParams
from wsol_core.heads.mff_net import WIDTH, Fusion, MFFNet, MFFParams, MultiplicativeChannelAttention, Projection, fuse

SMALL = BackboneParams(name="mobilenetv3_small_050", weights="none")
TRAINING = TrainingParams(epochs=1, batch=2, lr_backbone=0, lr_head=0)
FUSIONS: tuple[Fusion, ...] = ("multiply", "add", "concat", "separate")


def params(levels: tuple[int, ...] = (-3, -2, -1), fusion: Fusion = "multiply", attention: bool = True) -> MFFParams:
    return MFFParams(backbone=SMALL, training=TRAINING, levels=levels, fusion=fusion, attention=attention)


def network(params: MFFParams, outputs: int = 1) -> MFFNet:
    torch.manual_seed(0)
    return MFFNet(create_backbone(SMALL), params, outputs)


def branches(*values: list[float]) -> list[Tensor]:
    return [torch.tensor(own, dtype=torch.float32).view(1, 1, 1, 2) for own in values]


def test_product_by_hand_eq_1() -> None:
    (product,) = fuse(branches([1, 2], [3, 4], [5, 6]), "multiply")
    assert product.flatten().tolist() == [15, 48]
    assert product.mean().item() == (15 + 48) / 2


def test_gradient_of_a_branch_is_the_product_of_the_others_eq_2() -> None:
    x, y, z = (torch.rand(1, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    fuse([x, y, z], "multiply")[0].mean((2, 3)).sum().backward()
    for branch, others in ((x, y * z), (y, x * z), (z, x * y)):
        assert branch.grad is not None
        assert torch.allclose(branch.grad, (others / 12).detach())


def test_sum_by_hand_and_its_constant_gradient_eqs_3_and_4() -> None:
    x, y, z = (branch.requires_grad_() for branch in branches([1, 2], [3, 4], [5, 6]))
    (total,) = fuse([x, y, z], "add")
    assert total.flatten().tolist() == [9, 12]
    total.mean().backward()
    for branch in (x, y, z):
        assert branch.grad is not None
        assert branch.grad.flatten().tolist() == [0.5, 0.5]


def test_concatenation_and_separate_stages_keep_every_channel() -> None:
    stages = [torch.rand(2, 3, 4, 5) for _ in range(3)]
    (together,) = fuse(stages, "concat")
    assert together.shape == (2, 9, 4, 5)
    assert torch.equal(together[:, 3:6], stages[1])
    assert all(a is b for a, b in zip(fuse(stages, "separate"), stages, strict=True))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_stage_is_left_alone_by_all_fusions(fusion: Fusion) -> None:
    stage = torch.rand(2, 3, 4, 5)
    (alone,) = fuse([stage], fusion)
    assert torch.equal(alone, stage)


def test_attention_by_hand() -> None:
    """With weights of one, the latent is the product of the stages' means, and every gate its sigmoid."""
    attention = MultiplicativeChannelAttention([1, 1])
    for layer in (*attention.squeeze, *attention.excite):
        torch.nn.init.constant_(layer.weight, 1 / WIDTH if layer.in_channels == WIDTH else 1)
        torch.nn.init.zeros_(layer.bias)
    shallow, deep = torch.tensor([1.0, 2, 3, 6]).view(1, 1, 2, 2), torch.tensor(0.5).view(1, 1, 1, 1)
    gates = attention([shallow, deep])
    assert [each.shape for each in gates] == [(1, 1, 1, 1)] * 2
    assert [each.item() for each in gates] == pytest.approx([1 / (1 + math.exp(-3 * 0.5))] * 2)


@pytest.mark.parametrize("gated", [False, True])
def test_projection_is_a_convolution_of_gated_features(gated: bool) -> None:
    torch.manual_seed(0)
    layer, features = Projection(5), torch.randn(3, 5, 4, 2, requires_grad=True)
    gate = torch.rand(3, 5, 1, 1, requires_grad=True) if gated else None
    convolved = layer[2](layer[1](layer[0](features * gate if gate is not None else features)))
    torch.testing.assert_close(layer(features, gate), convolved)
    given = [features, next(layer.parameters()), *([gate] if gate is not None else [])]
    of_layer = torch.autograd.grad(layer(features, gate).square().sum(), given)
    expected = torch.autograd.grad(
        layer[2](layer[1](layer[0](features * gate if gate is not None else features))).square().sum(), given
    )
    for own, other in zip(of_layer, expected, strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-3)


def test_projection_by_hand() -> None:
    """Weights of one: 1 and 3 become -1 and 1, of which the negative one is cut; a constant stage becomes 0."""
    layer = Projection(2)
    torch.nn.init.ones_(next(layer.parameters()))
    features = torch.tensor([[1.0, 0], [0, 3]]).view(1, 2, 1, 2)
    assert torch.allclose(layer(features)[0, 0], torch.tensor([[0.0, 1]]), atol=1e-4)
    assert layer(torch.full((2, 2, 3, 3), 5.0)).abs().max() < 1e-3


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_heads_see_the_resolution_of_the_shallowest_stage(fusion: Fusion, count: int) -> None:
    model = network(params(tuple(range(-count, 0)), fusion), outputs=5).eval()
    with torch.no_grad():
        outputs = model.classify(fuse(model.stages(model.backbone(torch.rand(2, 3, 64, 96))), fusion))
    stride = 2 ** (6 - count)
    assert len(outputs) == (count if fusion == "separate" else 1)
    assert all(output.shape == (2, 5, 64 // stride, 96 // stride) for output in outputs)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_plain_stage_is_the_backbone_under_a_linear_head(fusion: Fusion) -> None:
    model = network(params((-1,), fusion, attention=False)).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        (output,) = model.classify(fuse(model.stages(model.backbone(images)), fusion))
        assert torch.equal(output, model.heads[0](model.backbone(images)[-1]))
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "heads"}


@pytest.mark.parametrize("fusion", ["add", "concat"])
def test_parts_of_the_weights_add_up_to_the_head(fusion: Fusion) -> None:
    """Both fusions are linear: what the head says is the sum of what it says of each stage, and the bias."""
    model = network(params(fusion=fusion), outputs=4).eval()
    with torch.no_grad():
        stages = model.stages(model.backbone(torch.rand(2, 3, 64, 64)))
        (output,) = model.classify(fuse(stages, fusion))
        parts = zip(model.stage_weights(), stages, strict=True)
        total = sum(torch.einsum("oc,bchw->bohw", weights, stage) for weights, stage in parts)
        bias = model.classify([torch.zeros_like(part) for part in fuse(stages, fusion)])[0]
        assert torch.allclose(output, total + bias, atol=1e-5)


def test_each_stage_has_a_classifier_of_its_own_under_deep_supervision() -> None:
    model = network(params(fusion="separate"), outputs=4)
    for own, head in zip(model.stage_weights(), model.head_weights(), strict=True):
        assert torch.equal(own, head)


def test_stages_are_float32_and_not_negative_under_autocast() -> None:
    model = network(params(), outputs=2).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        stages = model.stages(model.backbone(torch.rand(2, 3, 64, 64)))
        (output,) = model.classify(fuse(stages, "multiply"))
    assert {own.dtype for own in (*stages, output)} == {torch.float32}
    assert all((own >= 0).all() for own in stages)


@pytest.mark.parametrize("levels", [(), (-1, -2), (-2, -2), (-1, 0), (-5, -4, -3, -2, -1)])
def test_levels_go_from_shallow_to_deep(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="levels"):
        params(levels)


def test_unknown_level_is_refused() -> None:
    with pytest.raises(InputError, match="level -6: the backbone has 5 feature maps"):
        network(params((-6, -1)))
