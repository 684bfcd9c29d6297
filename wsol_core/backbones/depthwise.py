"""Depthwise convolutions whose backward pass is fast on a CPU.

oneDNN computes the gradients of a depthwise convolution 10 to 70 times slower than its forward pass, in bf16 most of
all; in EfficientNet-Lite0 that was two thirds of a training step. The same gradients come cheaper: that of the input is
a forward pass with the mirrored kernel where the stride is 1; the others run in float32.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

Pair = tuple[int, int]


class _Convolve(torch.autograd.Function):
    """Depthwise convolution without bias; arguments as those of `conv2d`."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
        weight = weight.to(images.dtype)
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding, dilation
        return functional.conv2d(images, weight, None, stride, padding, dilation, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        images, weight = ctx.saved_tensors
        of_images, of_weight = ctx.needs_input_grad[:2]
        stride, padding, dilation = ctx.geometry
        mirrored = None
        if of_images and stride == (1, 1):
            reach = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
            mirrored = functional.conv2d(gradient, weight.flip(2, 3), None, 1, reach, dilation, groups=len(weight))
        exact = torch.ops.aten.convolution_backward(
            gradient.float(), images.float(), weight.float(), None, stride, padding, dilation, False, (0, 0),
            len(weight), (of_images and mirrored is None, of_weight, False),
        )  # fmt: skip
        return mirrored if mirrored is not None else exact[0], exact[1], None, None, None


def convolve(module: nn.Conv2d, images: Tensor, padding: Pair) -> Tensor:
    """A depthwise convolution's `(B, C, H', W')` of images `(B, C, H, W)`, with the fast backward pass."""
    if torch.is_autocast_enabled("cpu"):
        images = images.to(torch.get_autocast_dtype("cpu"))
    convolved: Tensor = _Convolve.apply(images, module.weight, module.stride, padding, module.dilation)
    return convolved if module.bias is None else convolved + module.bias.to(convolved.dtype)[:, None, None]


def is_slow(images: Tensor) -> bool:
    """Whether torch's own backward pass is, on these images."""
    return images.device.type == "cpu" and torch.is_grad_enabled()


class DepthwiseConv2d(nn.Conv2d):
    """An `nn.Conv2d` with the fast backward pass, on a CPU and where gradients are wanted."""

    def forward(self, images: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, H', W')`."""
        if not is_slow(images) or isinstance(self.padding, str):
            return super().forward(images)
        height, width = self.padding
        return convolve(self, images, (height, width))


def use_fast_depthwise(
    network: nn.Module, plain: type[nn.Conv2d] = nn.Conv2d, fast: type[nn.Conv2d] = DepthwiseConv2d
) -> None:
    """Give every depthwise convolution of `network` the fast backward pass; names and weights stay.

    Args:
        network: changed in place.
        plain: the class of convolutions, its subclasses left out.
        fast: what becomes of them.
    """
    for module in network.modules():
        if not isinstance(module, nn.Conv2d) or type(module) is not plain:
            continue
        depthwise = module.groups == module.in_channels == module.out_channels > 1
        if depthwise and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__ = fast
