"""DenseNet161 of torchvision."""

import re

from torch import Tensor, nn
from torchvision import models

from wsol_core.backbones.pyramid import TORCHVISION, Chain, Pyramid, limited_strides


def densenet161(output_stride: int) -> Pyramid:
    """Build the stem's activation and the four dense blocks, the last one normalised and rectified.

    Output stride 16 removes the pooling of the last transition, 8 that of the last two.
    """
    features = models.densenet161(weights=None).features
    if output_stride <= 16:
        features.transition3.pool = nn.Identity()
    if output_stride <= 8:
        features.transition2.pool = nn.Identity()
    modules = [*features.named_children(), ("relu5", nn.ReLU(inplace=True))]
    chain = Chain(modules, ("relu0", "denseblock1", "denseblock2", "denseblock3", "relu5"))
    return Pyramid(chain, (96, 384, 768, 2112, 2208), limited_strides(output_stride), TORCHVISION)


def modern_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename `norm.1`, `conv.2`, ... of the published checkpoint to `norm1`, `conv2`, ... of today's modules."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name): state[name] for name in state}
