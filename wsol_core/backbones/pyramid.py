"""The feature pyramid that every family returns, and the module around it that owns the input statistics."""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsol_core.core.errors import InputError

Interpolation = Literal["bilinear", "bicubic"]
Triple = tuple[float, float, float]


class Statistics(NamedTuple):
    """How the images that the weights were trained on were resized and normalised."""

    mean: Triple
    """Per channel (RGB), in the units of an image in [0, 1]."""
    std: Triple
    """Per channel (RGB), in the same units."""
    interpolation: Interpolation
    """Resampling of the training images; resize with the same."""


TORCHVISION = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")


class Pyramid(NamedTuple):
    """A network that maps normalised images to a list of feature maps, shallow to deep, and its description."""

    network: nn.Module
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    statistics: Statistics


@runtime_checkable
class Shortenable(Protocol):
    """A network that can end before its deepest level."""

    def end_at(self, level: int) -> None:
        """Leave out what is deeper than a level, counted from the first."""


class Chain(nn.Sequential):
    """Modules run one after another; the outputs of those named in `taps` are returned, in order.

    The modules keep the names that they have in their original network, so that its weights fit.
    """

    def __init__(self, modules: Iterable[tuple[str, nn.Module]], taps: Collection[str]) -> None:
        super().__init__(OrderedDict(modules))
        self.taps = frozenset(taps)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) to a list of (B, C_i, H_i, W_i)."""
        features = []
        for name, module in self.named_children():
            x = module(x)
            if name in self.taps:
                features.append(x)
        return features

    def end_at(self, level: int) -> None:
        """Leave out the modules behind a level."""
        names = [name for name, _ in self.named_children()]
        last = [position for position, name in enumerate(names) if name in self.taps][level]
        for name in names[last + 1 :]:
            delattr(self, name)


def remove_stride(module: nn.Module) -> None:
    """Set the stride of every convolution in `module` to 1; no dilation takes its place."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.stride = (1, 1)


def limited_strides(output_stride: int) -> tuple[int, ...]:
    """Return the strides (2, 4, 8, 16, 32), none above `output_stride`: those of a five-level pyramid."""
    return tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))


class Backbone(nn.Module):
    """A named network as a feature pyramid that normalises its own input.

    Attributes:
        channels: channels of the returned features, shallow to deep.
        strides: nominal strides of the returned features in input pixels; a feature map has H / stride rows, rounded
            down or up as the family pads.
        mean, std: buffers (1, 3, 1, 1), not part of the state dict: they belong to the name.
        interpolation: how images should be resized for these weights, "bilinear" or "bicubic".
    """

    mean: Tensor
    std: Tensor

    def __init__(self, pyramid: Pyramid, frozen_batch_norm: bool = True) -> None:
        super().__init__()
        self.network = pyramid.network
        self.channels = pyramid.channels
        self.strides = pyramid.strides
        self.interpolation: Interpolation = pyramid.statistics.interpolation
        self.frozen_batch_norm = frozen_batch_norm
        self.register_buffer("mean", torch.tensor(pyramid.statistics.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pyramid.statistics.std).view(1, 3, 1, 1), persistent=False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Switch to training; frozen batch norm keeps its running statistics in use, its weights still train."""
        super().train(mode)
        if self.frozen_batch_norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def end_at(self, level: int) -> None:
        """Make a level, counted from either end, the last one.

        Deeper layers are left out, but for networks that timm alone knows: there they are computed in vain.

        Raises:
            InputError: there is no such level.
        """
        self.check_level(level)
        level = range(len(self.channels))[level]
        self.channels, self.strides = self.channels[: level + 1], self.strides[: level + 1]
        if isinstance(self.network, Shortenable):
            self.network.end_at(level)

    def check_level(self, level: int) -> None:
        """Check that there is such a level, counted from either end.

        Raises:
            InputError: there is none.
        """
        count = len(self.channels)
        if not -count <= level < count:
            raise InputError(f"level {level}: the backbone has {count} levels; name one from -{count} to -1")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map RGB images, uint8 or float in [0, 1], (B, 3, H, W), to features [(B, C_i, H_i, W_i)], shallow to deep."""
        x = images.to(self.mean.dtype)
        if not images.is_floating_point():
            x = x / 255
        features: list[Tensor] = self.network((x - self.mean) / self.std)
        return features[: len(self.channels)]


class OnBackbone(nn.Module):
    """A network whose pretrained part is its `backbone`, the rest being new."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
