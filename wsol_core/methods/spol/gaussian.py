"""Gaussian prior pseudo labels (SPOL 3.4, Eqs. 5 and 6): what a map leaves out of an object, its centre of mass covers.

Every pixel of a map is a sample weighted by its response. Mean, variance and correlation of the samples give one
two-dimensional Gaussian, which is joined to the map; two thresholds then cut the result into foreground, background
and ignored pixels.

The paper has one Gaussian over the whole map, its released code one for each connected region of middling scores, with
a tenth of the covariance.

Deviations:
- A map is divided by its maximum first.
- Eq. 6 is a density, whose peak is far below 1, so it is divided by its peak.
- "Values larger than 0.7 are regarded as the foreground" (4.2): the Gaussian counts where it exceeds that value.
- Where both sides of the released code's rule for labels hold, foreground wins.
"""

from typing import Literal

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from wsol_core.core.map_store import IGNORE
from wsol_core.core.params import Block

TINY = 1e-12


class ContourParams(Block):
    """The regions of a map that get a Gaussian each; the defaults are the released code's."""

    low: float = Field(default=0.1, ge=0, le=1)
    """pixels from this share of the map's maximum"""
    high: float = Field(default=0.5, ge=0, le=1)
    """up to this one make up the regions (8-connected)"""
    min_area: int = Field(default=20, ge=1)
    """smaller regions, in pixels of the labels, get no Gaussian"""
    spread: float = Field(default=0.1, gt=0)
    """factor of a Gaussian's covariance"""


class GaussianParams(Block):
    """How maps become tri-state pseudo labels."""

    maps: str
    """method whose maps they are made of"""
    form: Literal["whole", "contours", "alone"] = "whole"
    """whole: one Gaussian over the map (the paper); contours: one for each region (the released code); alone: one over
    the map, foreground where it exceeds `enhancement`, background elsewhere (the paper's Table 4, "w/o Threshold")"""
    resolution: int = Field(default=56, gt=0)
    """side of the labels; maps are resized to it, bilinear"""
    enhancement: float = Field(default=0.7, ge=0, le=1)
    """the Gaussian (peak 1) counts where it exceeds this; 1 for no Gaussian"""
    foreground: float = Field(default=0.5, ge=0, le=1)
    """foreground where the joined map (maximum 1) exceeds this"""
    background: float = Field(default=0.004, ge=0, le=1)
    """background where the joined map is below this; between the two, pixels are ignored"""
    contours: ContourParams = ContourParams()
    """of the form of this name"""


def gaussian_prior(maps: Tensor, spread: float = 1.0) -> Tensor:
    """The Gaussian of each map's responses, with peak 1 (SPOL Eqs. 5 and 6).

    A map without any response gives zeros. A variance of less than a quarter of a pixel squared is raised to it, so
    that one pixel is a Gaussian too, and the correlation is kept within .99.

    Args:
        maps: `(B, h, w)`, not negative.
        spread: factor of the covariance.

    Returns:
        `(B, h, w)` float32 in [0, 1].
    """
    height, width = maps.shape[1:]
    y = torch.arange(height, dtype=torch.float32, device=maps.device)
    x = torch.arange(width, dtype=torch.float32, device=maps.device)
    maps = maps.float()
    by_row = maps.sum(2)  # (B, h)
    total = by_row.sum(1, keepdim=True)  # (B, 1)
    by_row, by_column = (sums / total.clamp_min(TINY) for sums in (by_row, maps.sum(1)))
    # (h,) - (B, h) @ (h, 1): the distance of each row from a map's mean, (B, h); of each column, (B, w)
    from_mean_y, from_mean_x = y - by_row @ y[:, None], x - by_column @ x[:, None]

    def sigma(weights: Tensor, from_mean: Tensor) -> Tensor:
        return (spread * (weights * from_mean**2).sum(1, keepdim=True)).clamp_min(0.25).sqrt()

    v, u = from_mean_y / sigma(by_row, from_mean_y), from_mean_x / sigma(by_column, from_mean_x)
    # sum over pixels of v_h * map_hw * u_w: (B,), then (B, 1)
    rho = spread * torch.einsum("bh,bhw,bw->b", v, maps, u)[:, None] / total.clamp_min(TINY)
    rho = rho.clamp(-0.99, 0.99)
    # Theta / (1 - rho^2) = u^2 + ((v - rho u) / sqrt(1 - rho^2))^2
    across = torch.rsqrt(1 - rho**2)
    # (B, h, 1) - (B, 1, w): (B, h, w)
    exponent = ((v * across)[:, :, None] - (rho * u * across)[:, None, :]).square_().add_((u**2)[:, None, :])
    return exponent.mul_(-0.5).exp_().mul_((total > TINY)[:, :, None])


def contour_prior(maps: Tensor, params: ContourParams) -> Tensor:
    """The maximum over each map's regions of middling scores of their Gaussians, as the released code has it.

    Args:
        maps: `(B, h, w)` with maximum 1, or 0 throughout.
        params: which regions, and the covariance of their Gaussians.

    Returns:
        `(B, h, w)` float32 in [0, 1]; 0 where a map has no region.
    """
    regions, numbers = _regions(maps, params)
    prior = torch.zeros(maps.shape, device=maps.device)
    for rank in range(max(map(len, numbers), default=0)):
        owner = [position for position, own in enumerate(numbers) if len(own) > rank]
        number = torch.tensor([numbers[position][rank] for position in owner], device=maps.device)
        inside = maps[owner] * (regions[owner] == number[:, None, None])
        prior[owner] = torch.maximum(prior[owner], gaussian_prior(inside, params.spread))
    return prior


def _regions(maps: Tensor, params: ContourParams) -> tuple[Tensor, list[list[int]]]:
    """The number `(B, h, w)` int32 of each pixel's region, and each map's numbers of large enough regions."""
    band = ((maps >= params.low) & (maps <= params.high)).to(torch.uint8).cpu().numpy()
    regions, numbers = torch.zeros(maps.shape, dtype=torch.int32), []
    for position, pixels in enumerate(band):
        _, found, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8, ltype=cv2.CV_32S)
        regions[position] = torch.from_numpy(found)
        numbers.append((1 + np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= params.min_area)).tolist())
    return regions.to(maps.device), numbers


def pseudo_labels(maps: Tensor, params: GaussianParams) -> Tensor:
    """Tri-state labels of maps (SPOL 3.4).

    Args:
        maps: `(B, h, w)` in [0, 1].
        params: form, resolution and thresholds.

    Returns:
        `(B, resolution, resolution)` uint8: 1 foreground, 0 background, 255 ignored. A map without any response is
        background throughout.
    """
    maps = functional.interpolate(maps[:, None].float(), (params.resolution,) * 2, mode="bilinear").squeeze(1)
    maps = maps / maps.amax((1, 2), keepdim=True).clamp_min(TINY)
    gaussian = contour_prior(maps, params.contours) if params.form == "contours" else gaussian_prior(maps)
    counts = gaussian > params.enhancement
    if params.form == "alone":
        return counts.to(torch.uint8)
    joined = torch.maximum(maps, gaussian * counts)
    foreground = joined > params.foreground
    ignored = (joined >= params.background) & ~foreground
    return foreground.to(torch.uint8) + IGNORE * ignored.to(torch.uint8)
