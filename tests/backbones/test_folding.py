"""Batch norm that becomes part of convolutions."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsol_core.backbones.create import BackboneParams, create_backbone
from wsol_core.backbones.folding import fold_batch_norm


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


def with_statistics(network: nn.Module) -> nn.Module:
    """Running statistics as after a training, so that a batch norm that is left out shows."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.25)
    return network


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("vgg16", 0), ("resnet18", 0), ("inception_v3", 0), ("mobilenet_v2", 0), ("densenet161", 82),
        ("efficientnet_lite0", 0), ("efficientnet_lite0_expanded", 0),
    ],
)  # fmt: skip
def test_features_stay_and_batch_norms_go(name: str, left: int) -> None:
    """Half of DenseNet's stand before their convolutions, and stay."""
    torch.manual_seed(0)
    network = with_statistics(create_backbone(BackboneParams(name=name, weights="none")).network).eval()
    images = torch.randn(2, 3, 96, 80)
    with torch.no_grad():
        before = network(images)
        folded = fold_batch_norm(network)
        after = folded(images)
    assert norms(folded) == left
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old, atol=1e-3 * float(old.abs().max()), rtol=1e-3)


class UsedTwice(nn.Module):
    """A convolution whose output is seen beside its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> list[Tensor]:
        seen = self.conv(images)
        return [self.norm(seen) + seen]


class SharedNorm(nn.Module):
    """A batch norm behind two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.norm(self.first(images)) + self.norm(self.second(images))]


@pytest.mark.parametrize("kind", [UsedTwice, SharedNorm])
def test_what_cannot_be_folded_stays(kind: Any) -> None:
    network = with_statistics(kind()).eval()
    images = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        before = network(images)[0]
        folded = fold_batch_norm(network)
        torch.testing.assert_close(folded(images)[0], before)
    assert norms(folded) == 1
