"""Gaussian prior pseudo labels (SPOL 3.4, Eqs. 5 and 6): what a map leaves out of an object, its centre of mass covers.

Every pixel of a map is a sample weighted by its response. Mean, variance and correlation of the samples give one
two-dimensional Gaussian, which is joined to the map; two thresholds then cut the result into foreground, background
and ignored pixels.

Deviations: a map is divided by its maximum first; Eq. 6 is a density, whose peak is far below 1, so it is divided by
its peak; "values larger than 0.7 are regarded as the foreground" (4.2) is read as: the Gaussian counts where it exceeds
that value.
"""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from wsol_core.maps import IGNORE
from wsol_core.params import Block

TINY = 1e-12


class GaussianParams(Block):
    """How maps become tri-state pseudo labels."""

    resolution: int = Field(default=56, gt=0)
    """side of the labels; maps are resized to it, bilinear"""
    enhancement: float = Field(default=0.7, ge=0, le=1)
    """the Gaussian (peak 1) counts where it exceeds this; 1 for no Gaussian"""
    foreground: float = Field(default=0.5, ge=0, le=1)
    """foreground where the joined map (maximum 1) exceeds this"""
    background: float = Field(default=0.004, ge=0, le=1)
    """background where the joined map is below this; between the two, pixels are ignored"""


def gaussian_prior(maps: Tensor) -> Tensor:
    """The Gaussian of each map's responses, with peak 1 (SPOL Eqs. 5 and 6).

    A map without any response gives zeros. A variance of less than a quarter of a pixel squared is raised to it, so
    that one pixel is a Gaussian too, and the correlation is kept within .99.

    Args:
        maps: `(B, h, w)`, not negative.

    Returns:
        `(B, h, w)` float32 in [0, 1].
    """
    height, width = maps.shape[1:]
    y = torch.arange(height, dtype=torch.float32, device=maps.device)[None, :, None]
    x = torch.arange(width, dtype=torch.float32, device=maps.device)[None, None, :]
    maps = maps.float()
    total = maps.sum((1, 2), keepdim=True)
    weights = maps / total.clamp_min(TINY)

    def mean(values: Tensor) -> Tensor:
        return (weights * values).sum((1, 2), keepdim=True)

    mu_x, mu_y = mean(x), mean(y)
    sigma_x = mean((x - mu_x) ** 2).clamp_min(0.25).sqrt()
    sigma_y = mean((y - mu_y) ** 2).clamp_min(0.25).sqrt()
    rho = (mean((x - mu_x) * (y - mu_y)) / (sigma_x * sigma_y)).clamp(-0.99, 0.99)
    u, v = (x - mu_x) / sigma_x, (y - mu_y) / sigma_y
    theta = u**2 - 2 * rho * u * v + v**2
    return torch.exp(-theta / (2 * (1 - rho**2))) * (total > TINY)


def pseudo_labels(maps: Tensor, params: GaussianParams) -> Tensor:
    """Tri-state labels of maps (SPOL 3.4).

    Args:
        maps: `(B, h, w)` in [0, 1].
        params: resolution and thresholds.

    Returns:
        `(B, resolution, resolution)` uint8: 1 foreground, 0 background, 255 ignored. A map without any response is
        background throughout.
    """
    maps = functional.interpolate(maps[:, None].float(), (params.resolution,) * 2, mode="bilinear").squeeze(1)
    maps = maps / maps.amax((1, 2), keepdim=True).clamp_min(TINY)
    gaussian = gaussian_prior(maps)
    joined = torch.maximum(maps, gaussian * (gaussian > params.enhancement))
    labels = torch.full(joined.shape, IGNORE, dtype=torch.uint8, device=maps.device)
    labels[joined < params.background] = 0
    labels[joined > params.foreground] = 1
    return labels
