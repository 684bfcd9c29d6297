"""InceptionV3 of torchvision, with the strides and the padding that localization needs."""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torchvision import models
from torchvision.models import inception as blocks

from wsol_core.backbones.pyramid import Chain, Pyramid, Statistics, limited_strides, remove_stride

TAPS = ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c")
HEAD = ("AuxLogits", "avgpool", "dropout", "fc")


def _pool_like(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return max_pool2d(x, 3, stride=conv.stride, padding=conv.padding)  # type: ignore[arg-type]


class Reduction6(blocks.InceptionB):  # type: ignore[misc]
    """`Mixed_6a` whose pooling follows the stride and padding of its convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 288, H, W) to (B, 768, H', W')."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, _pool_like(x, self.branch3x3.conv)], 1)


class Reduction7(blocks.InceptionD):  # type: ignore[misc]
    """`Mixed_7a` whose pooling follows the stride and padding of its convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 768, H, W) to (B, 1280, H', W')."""
        small = self.branch3x3_2(self.branch3x3_1(x))
        large = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([small, large, _pool_like(x, self.branch3x3_2.conv)], 1)


def inception_v3(output_stride: int) -> Pyramid:
    """Build the last module at each stride; input of 75 pixels or more a side at output stride 32.

    At 32 this is torchvision's network as it stands: its unpadded layers crop the border, so that a map covers only
    the middle of the image. At 16 the stride of `Mixed_7a` is removed, at 8 also that of `Mixed_6a`, without dilation,
    and every layer is padded, as is usual for WSOL (WSFL 4.2): 224 pixels give the 14x14 map of WSFL at 16. The weights
    were trained on images scaled to [-1, 1], which is what torchvision's `transform_input` restores.
    """
    parts = [blocks.BasicConv2d, blocks.InceptionA, Reduction6, blocks.InceptionC, Reduction7, blocks.InceptionE]
    network = models.inception_v3(
        weights=None, aux_logits=False, init_weights=False, inception_blocks=[*parts, blocks.InceptionAux]
    )
    _initialise(network)
    if output_stride <= 16:
        _pad(network)
        remove_stride(network.Mixed_7a)
    if output_stride <= 8:
        remove_stride(network.Mixed_6a)
    chain = Chain([(name, module) for name, module in network.named_children() if name not in HEAD], TAPS)
    half = (0.5, 0.5, 0.5)
    statistics = Statistics(half, half, "bilinear")
    return Pyramid(chain, (64, 192, 288, 768, 2048), limited_strides(output_stride), statistics)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def _pad(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.padding = (module.kernel_size[0] // 2, module.kernel_size[1] // 2)
        elif isinstance(module, nn.MaxPool2d):
            module.padding = 1
