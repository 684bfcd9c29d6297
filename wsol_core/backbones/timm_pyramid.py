"""Any network that timm turns into a feature pyramid."""

from typing import Any

import timm
from torch import Tensor, nn

from wsol_core.backbones.depthwise_same import use_fast_same
from wsol_core.backbones.pyramid import Interpolation, Pyramid, Statistics
from wsol_core.core.errors import InputError

ALIASES = {"mobilenet_v1": "mobilenetv1_100"}


class ChannelsFirst(nn.Module):
    """A network whose features come as (B, H, W, C), returned as (B, C, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) to a list of (B, C_i, H_i, W_i)."""
        return [feature.permute(0, 3, 1, 2) for feature in self.network(x)]


def timm_pyramid(name: str, output_stride: int) -> Pyramid:
    """Build timm's `features_only` network; timm dilates the stages whose stride it removes.

    Raises:
        InputError: timm has no pyramid for it, or none that ends at `output_stride`.
    """
    network = _features(name, output_stride)
    use_fast_same(network)
    info: Any = network.feature_info
    strides = tuple(info.reduction())
    if strides[-1] != output_stride:
        raise InputError(f"{name}: timm's features end at stride {strides[-1]}, not {output_stride}; take another name")
    if str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC"):
        network = ChannelsFirst(network)
    config: Any = timm.get_pretrained_cfg(ALIASES.get(name, name))
    interpolation: Interpolation = "bicubic" if config.interpolation == "bicubic" else "bilinear"
    return Pyramid(network, tuple(info.channels()), strides, Statistics(config.mean, config.std, interpolation))


def _features(name: str, output_stride: int) -> Any:
    model = ALIASES.get(name, name)
    try:
        if output_stride == 32:
            return timm.create_model(model, features_only=True)
        try:
            return timm.create_model(model, features_only=True, output_stride=output_stride)
        except (AssertionError, NotImplementedError, TypeError):
            return timm.create_model(model, features_only=True)
    except (AttributeError, RuntimeError, ValueError) as error:
        raise InputError(f"{name}: timm makes no feature pyramid of it ({error}); take another name") from error


def timm_imagenet(name: str) -> dict[str, Tensor]:
    """Download (or take from the cache) the state dict that timm ships for `name`."""
    state: dict[str, Tensor] = timm.create_model(ALIASES.get(name, name), pretrained=True).state_dict()
    return state
