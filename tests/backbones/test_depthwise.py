"""The fast backward pass of depthwise convolutions against torch's own."""

import copy

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from wsol_core.backbones.depthwise import DepthwiseConv2d, use_fast_depthwise
from wsol_core.backbones.depthwise_same import DepthwiseConv2dSame, use_fast_same

PLAIN = [
    nn.Conv2d(6, 6, 3, padding=1, groups=6),
    nn.Conv2d(6, 6, 5, padding=4, dilation=2, groups=6, bias=False),
    nn.Conv2d(6, 6, 3, groups=6, bias=False),
    nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6, bias=False),
    Conv2dSame(6, 6, 5, stride=2, groups=6, bias=False),
    Conv2dSame(6, 6, 3, stride=1, groups=6),
]


@pytest.mark.parametrize("plain", PLAIN, ids=str)
def test_gradients_equal_those_of_torch(plain: nn.Conv2d) -> None:
    fast = nn.Sequential(copy.deepcopy(plain))
    use_fast_depthwise(fast)
    use_fast_same(fast)
    assert type(fast[0]) in (DepthwiseConv2d, DepthwiseConv2dSame)
    inputs = [torch.randn(2, 6, 9, 11).requires_grad_() for _ in range(2)]
    inputs[1].data.copy_(inputs[0])
    outputs = [plain(inputs[0]), fast(inputs[1])]
    gradient = torch.randn_like(outputs[0])
    for output in outputs:
        output.backward(gradient)
    assert torch.allclose(outputs[0], outputs[1], atol=1e-6)
    tensors = zip((inputs[1], *fast.parameters()), (inputs[0], *plain.parameters()), strict=True)
    for mine, theirs in tensors:
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-4)


def test_bf16_autocast_gives_bf16_and_float_gradients() -> None:
    fast = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4))
    use_fast_depthwise(fast)
    assert isinstance(fast[0], DepthwiseConv2d)
    with torch.autocast("cpu", torch.bfloat16):
        output = fast(torch.randn(1, 4, 5, 5))
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert fast[0].weight.grad is not None
    assert fast[0].weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    "other", [nn.Conv2d(4, 4, 3), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(4, 4, 3, padding="same", groups=4)]
)
def test_other_convolutions_stay(other: nn.Conv2d) -> None:
    network = nn.Sequential(other)
    use_fast_depthwise(network)
    assert type(network[0]) is nn.Conv2d
