"""Class-agnostic saliency: how strongly a classification network's scores hang on each position of its features.

Simonyan, Vedaldi and Zisserman, Deep Inside Convolutional Networks, 3, as SEC takes it for the cues of the background
(Two-Phase 4.2): the gradient of the sum of all class scores, its greatest absolute value over channels, and a median
over 3x3 positions. As in SEC's public code the gradient is that of a feature map half-way, whose positions are those of
the cues, and not of the pixels: their gradient is noisy. That map is the end of a block here (relu4_3 of VGG16), there
its beginning (conv4_1). Maps are divided by their maximum.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from wsol_core.backbones.create import OnBackbone

Scores = Callable[[OnBackbone, Tensor], Tensor]
"""From a network and images `(B, 3, H, W)` to class scores `(B, classes)`."""


def saliency_maps(model: OnBackbone, images: Tensor, _: Tensor, scores: Scores, level: int) -> Tensor:
    """Saliency `(B, 1, h, w)` in [0, 1], float32, of images `(B, 3, H, W)` uint8; 0 everywhere where the gradient is.

    The images' labels play no part.
    """
    maps = median(gradients(model, images, scores, level).abs().amax(1))
    return (maps / maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny))[:, None]


def gradients(model: OnBackbone, images: Tensor, scores: Scores, level: int) -> Tensor:
    """The gradient `(B, C, h, w)` float32 of the scores' sum at feature map `level` of the model's pyramid."""
    pyramids: list[list[Tensor]] = []
    hook = model.backbone.register_forward_hook(lambda _, __, pyramid: pyramids.append(pyramid))
    try:
        with torch.enable_grad():
            total = scores(model, (images.float() / 255).requires_grad_()).sum()
    finally:
        hook.remove()
    return torch.autograd.grad(total, pyramids[0][level])[0].float()


def median(maps: Tensor) -> Tensor:
    """Maps `(B, h, w)` under a median over 3x3 positions; beyond the border its values go on."""
    padded = functional.pad(maps[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    return padded.unfold(1, 3, 1).unfold(2, 3, 1).flatten(3).median(3).values  # windows (B, h, w, 9)
