"""Backbones by name: the network, its weights and its input statistics as one module.

timm takes a second to import, so its networks' modules are imported where one of them is asked for.
"""

import difflib
from collections.abc import Callable
from pathlib import Path

from wsol_core.backbones.densenet import densenet161, modern_names
from wsol_core.backbones.depthwise import use_fast_depthwise
from wsol_core.backbones.inception import inception_v3
from wsol_core.backbones.mobilenet import mobilenet_v2
from wsol_core.backbones.pyramid import Backbone, OnBackbone, Pyramid
from wsol_core.backbones.resnet import resnet50
from wsol_core.backbones.vgg import vgg16
from wsol_core.backbones.weights import State, download, load_weights, read_weights, torchvision_imagenet
from wsol_core.core.errors import InputError
from wsol_core.core.params import Block

__all__ = ["Backbone", "BackboneParams", "OnBackbone", "create_backbone"]

TORCHVISION: dict[str, Callable[[int], Pyramid]] = {
    "vgg16": vgg16,
    "resnet50": resnet50,
    "inception_v3": inception_v3,
    "mobilenet_v2": mobilenet_v2,
    "densenet161": densenet161,
}
OUTPUT_STRIDES = (8, 16, 32)


class BackboneParams(Block):
    """Which network, and what it starts from."""

    name: str = "efficientnet_lite0"
    """vgg16, resnet50, inception_v3, mobilenet_v1, mobilenet_v2, seresnet50, densenet161, efficientnet_lite0 to 2
    (efficientnet_lite0_expanded to 2 for levels behind their activations), or a name of timm's."""
    weights: str = "imagenet"
    """imagenet (by name, downloaded or from a package), none (random), or the path to a .safetensors or .pth file."""
    frozen_batch_norm: bool = True
    """Whether batch norm keeps the statistics of the starting weights while its own weights train."""


def create_backbone(params: BackboneParams, output_stride: int = 32) -> Backbone:
    """Build a named backbone with its weights, in training mode; random weights follow torch's global seed.

    Args:
        params: name, weights and batch norm.
        output_stride: stride of the deepest features: 32, 16 or 8. What each family removes for it stands with it.

    Raises:
        InputError: the name is unknown (the nearest is named), the network has no such output stride, or the weights
            cannot be had, read or fitted.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise InputError(f"{params.name}: output stride {output_stride}; take one of {OUTPUT_STRIDES}")
    _refuse_unknown(params.name)
    pyramid = _pyramid(params.name, output_stride)
    if params.weights != "none":
        load_weights(pyramid.network, _state(params), f"{params.name}, weights {params.weights}")
    use_fast_depthwise(pyramid.network)
    return Backbone(pyramid, params.frozen_batch_norm)


def _refuse_unknown(name: str) -> None:
    if name in TORCHVISION:
        return
    import timm

    from wsol_core.backbones import efficientnet_lite, timm_pyramid

    own = [*TORCHVISION, *efficientnet_lite.NAMES, *timm_pyramid.ALIASES]
    if name not in own and not timm.is_model(name):
        near = difflib.get_close_matches(name, own, 1, 0.8) or difflib.get_close_matches(name, timm.list_models(), 1, 0)
        raise InputError(f"backbone {name!r} is unknown; the nearest is {near[0]!r}")


def _pyramid(name: str, output_stride: int) -> Pyramid:
    if name in TORCHVISION:
        return TORCHVISION[name](output_stride)
    from wsol_core.backbones import efficientnet_lite, timm_pyramid

    if name in efficientnet_lite.NAMES:
        return efficientnet_lite.efficientnet_lite(name, output_stride)
    return timm_pyramid.timm_pyramid(name, output_stride)


def _state(params: BackboneParams) -> State:
    name = params.name
    given = None if params.weights == "imagenet" else read_weights(Path(params.weights).expanduser())
    if name in TORCHVISION:
        state = given or download(torchvision_imagenet, name)
        return modern_names(state) if name == "densenet161" else state
    from wsol_core.backbones import efficientnet_lite, timm_pyramid

    if name in efficientnet_lite.NAMES:
        return efficientnet_lite.timm_names(name, given or read_weights(efficientnet_lite.package_weights(name)))
    return given or download(timm_pyramid.timm_imagenet, name)
