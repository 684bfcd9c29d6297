"""MFF-Net and its loss: SPOL's equations by hand, and gradients that couple the branches."""

import math

import pytest
import torch

from wsol_core.backbones.create import BackboneParams, create_backbone
from wsol_core.data.loading import Batch
from wsol_core.methods.spol import (
    WIDTH,
    MFFNet,
    MultiplicativeChannelAttention,
    multiply,
    segmentation_loss,
    segmentation_maps,
)  # fmt: skip

SMALL = BackboneParams(name="mobilenetv3_small_050", weights="none")


def test_product_by_hand_eq_1() -> None:
    x, y, z = (torch.tensor(values).view(1, 1, 1, 2) for values in ([1.0, 2], [3.0, 4], [5.0, 6]))
    assert multiply([x, y, z]).flatten().tolist() == [15, 48]
    assert multiply([x, y, z]).mean() == pytest.approx((15 + 48) / 2)
    assert torch.equal(multiply([x]), x)


def test_gradient_of_a_branch_is_the_product_of_the_others_eq_2() -> None:
    x, y, z = (torch.rand(1, 2, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    multiply([x, y, z]).mean((2, 3)).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, (y * z / 9).detach())
    assert torch.autograd.gradcheck(lambda *branches: multiply(branches).mean(), (x, y, z))


def test_attention_by_hand() -> None:
    """With weights of one, the latent is the product of the stages' means, and every gate its sigmoid."""
    attention = MultiplicativeChannelAttention([1, 1])
    for layer in (*attention.squeeze, *attention.excite):
        torch.nn.init.constant_(layer.weight, 1 / WIDTH if layer.in_channels == WIDTH else 1)
        torch.nn.init.zeros_(layer.bias)
    shallow, deep = torch.tensor([1.0, 2, 3, 6]).view(1, 1, 2, 2), torch.tensor(0.5).view(1, 1, 1, 1)
    gated = attention([shallow, deep])
    gate = 1 / (1 + math.exp(-3 * 0.5))
    assert torch.allclose(gated[0], shallow * gate)
    assert torch.allclose(gated[1], deep * gate)


def test_loss_by_hand_eq_7() -> None:
    """Two known pixels of four: the sum of their losses over all four."""

    class Fixed(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[[0.0, 2.0], [-1.0, 5.0]]])

    targets = torch.tensor([[[1.0, 0.0], [255.0, 255.0]]])
    loss = segmentation_loss(Fixed(), Batch(torch.zeros(1, 3, 2, 2), targets))
    assert loss.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(2))) / 4, rel=1e-6)


def test_ignored_pixels_carry_no_gradient() -> None:
    logits = torch.randn(1, 4, 4, requires_grad=True)

    class Leaf(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return logits

    targets = torch.full((1, 4, 4), 255.0)
    targets[0, 0] = 1
    segmentation_loss(Leaf(), Batch(torch.zeros(1, 3, 4, 4), targets)).backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0] != 0).all()
    assert (logits.grad[0, 1:] == 0).all()


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_maps_have_the_resolution_of_the_shallowest_stage(stages: int) -> None:
    network = MFFNet(create_backbone(SMALL), range(-stages, 0)).eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        maps = segmentation_maps(network, images)
    stride = 2 ** (6 - stages)
    assert maps.shape == (2, 64 // stride, 96 // stride)
    assert ((maps >= 0) & (maps <= 1)).all()


def test_every_parameter_learns() -> None:
    network = MFFNet(create_backbone(SMALL), (-3, -2, -1))
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    segmentation_loss(network, Batch(images, torch.ones(2, 16, 16))).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
