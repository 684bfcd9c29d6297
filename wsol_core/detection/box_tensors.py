"""Boxes as tensors on their way to a network: float32 shares of their image's sides, as many rows for each image."""

import torch
from torch import Tensor


def bits(boxes: Tensor) -> Tensor:
    """Float32 boxes as int32: mixed precision would round what a network is given as numbers to 8 bits."""
    return boxes.view(torch.int32)


def solid(boxes: Tensor) -> Tensor:
    """Which boxes `(..., 4)` have an area; the others only fill up tables."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)


def mirrored(boxes: Tensor) -> Tensor:
    """Boxes `(..., 4)`, shares of the image's sides, in the mirrored image."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([1 - x1, y0, 1 - x0, y1], dim=-1)
