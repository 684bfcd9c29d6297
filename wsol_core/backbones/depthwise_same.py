"""Depthwise convolutions with TensorFlow's padding, which are timm's, with the backward pass of `depthwise`."""

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from wsol_core.backbones.depthwise import convolve, is_slow, use_fast_depthwise


class DepthwiseConv2dSame(Conv2dSame):
    """A `Conv2dSame` with the fast backward pass, on a CPU and where gradients are wanted."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, ceil(H / stride), ceil(W / stride))`."""
        if not is_slow(x):
            same: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return same
        padded = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation))
        return convolve(self, padded, (0, 0))


def use_fast_same(network: nn.Module) -> None:
    """Give every depthwise convolution of TensorFlow's padding the fast backward pass; names and weights stay."""
    use_fast_depthwise(network, Conv2dSame, DepthwiseConv2dSame)
