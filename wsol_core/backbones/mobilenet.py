"""MobileNetV2 of torchvision."""

from torch import nn
from torchvision import models

from wsol_core.backbones.pyramid import TORCHVISION, Chain, Pyramid, limited_strides, remove_stride


def mobilenet_v2(output_stride: int) -> Pyramid:
    """Build the last block of each stride; the last level is torchvision's `features` whole (1280 channels).

    Output stride 16 removes the stride of the sixth group of blocks, 8 also that of the fourth, without dilation.
    """
    features: nn.Sequential = models.mobilenet_v2(weights=None).features
    if output_stride <= 16:
        remove_stride(features[14])
    if output_stride <= 8:
        remove_stride(features[7])
    chain = Chain(features.named_children(), ("1", "3", "6", "13", "18"))
    return Pyramid(chain, (16, 24, 32, 96, 1280), limited_strides(output_stride), TORCHVISION)
