"""A backbone in two: its features up to a level, and the stages behind it, to be run on parts of these features."""

from torch import nn

from wsol_core.backbones.efficientnet_lite import LAST_OF_STRIDE, LitePyramid
from wsol_core.backbones.pyramid import Backbone, Chain
from wsol_core.core.errors import InputError


def divide_at(backbone: Backbone, level: int) -> int:
    """End a backbone at a level and keep what stood behind it, weights and all, as its module `behind`.

    So these stages stay the backbone's: what holds for it, as frozen batch norm, holds for them.

    Args:
        backbone: whole; it is changed.
        level: counted from either end.

    Returns:
        Channels of what `behind` makes of the level's features.

    Raises:
        InputError: there is no such level, nothing stands behind the level, or the network cannot be divided.
    """
    if not -len(backbone.channels) <= level < len(backbone.channels):
        raise InputError(f"level {level}: the backbone has {len(backbone.channels)} levels; take one of them")
    channels, behind = backbone.channels[-1], _modules_behind(backbone.network, range(len(backbone.channels))[level])
    if not behind:
        kind = type(backbone.network).__name__
        raise InputError(f"level {level}: {kind} has no stages behind it; take a level nearer to the image")
    backbone.end_at(level)
    backbone.add_module("behind", nn.Sequential(*behind))
    return channels


def _modules_behind(network: nn.Module, level: int) -> list[nn.Module]:
    if isinstance(network, LitePyramid) and level < len(LAST_OF_STRIDE):
        return [*network.blocks[LAST_OF_STRIDE[level] + 1 :], network.conv_head, network.bn2]
    if isinstance(network, Chain):
        children = list(network.named_children())
        last = [place for place, (name, _) in enumerate(children) if name in network.taps][level]
        return [module for _, module in children[last + 1 :]]
    return []
