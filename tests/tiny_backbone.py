"""A backbone of two convolutions, under the name of every other."""

import pytest
from torch import Tensor, nn

from wsol_core.backbones.pyramid import TORCHVISION, Pyramid


class Tiny(nn.Module):
    """Features at strides 4 and 8."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 5, 4, 2)
        self.second = nn.Conv2d(16, 24, 3, 2, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        shallow = self.first(images).relu()
        return [shallow, self.second(shallow).relu()]


def use_tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    pyramid = lambda _name, _stride: Pyramid(Tiny(), (16, 24), (4, 8), TORCHVISION)  # noqa: E731
    monkeypatch.setattr("wsol_core.backbones.create._pyramid", pyramid)
