"""Exact mean field of the dense CRF for batches of small maps, as SEC's constrain-to-boundary loss needs it."""

import torch
from torch import Tensor

from wsol_core.core.crf_params import CRFParams

ENTRIES_ON_CPU, ENTRIES_ELSEWHERE = 1 << 22, 1 << 26
"""Entries of kernels held at a time, of one image at the least: on a CPU one of 41x41, which stays in its cache."""

LEAST_EXPONENT = -50.0
"""e**-50 counts for nothing; processors slow down on the smallest float32, some way below."""


@torch.no_grad()
def mean_field(unaries: Tensor, images: Tensor, params: CRFParams) -> Tensor:
    """The marginals of a batch of fully connected CRFs (Kraehenbuehl and Koltun, NIPS 2011, Algorithm 1).

    The same model, normalisation, start and number of steps as `refinement.crf.mean_field`, which filters on a lattice;
    here every pair of pixels counts, in `(H * W)**2` entries an image. All is float32, but where autocast is on the
    messages are computed in its type (bf16 moves 5e-4 of a pixel's probability on average, or less). It differs from
    the lattice by .02 to .03 of a pixel's probability on smooth pictures, and of photographs by .01 to .06.

    Args:
        unaries: `(B, C, H, W)`, of any float type, minus the logarithms of probabilities.
        images: `(B, 3, H, W)` uint8, reduced to the size of the maps.
        params: deviations in place count pixels of the maps: SEC divides those for 321 pixels by 12 at 41.

    Returns:
        `(B, C, H, W)` float32, of sum 1 over C; no gradient.
    """
    device, (height, width) = unaries.device.type, unaries.shape[2:]
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    entries = ENTRIES_ON_CPU if device == "cpu" else ENTRIES_ELSEWHERE
    together = max(1, entries // (height * width) ** 2)
    with torch.autocast(device, enabled=False):
        axes = (torch.arange(side, dtype=torch.float32, device=unaries.device) for side in (height, width))
        place = torch.cartesian_prod(*axes).T[None]
        smoothness = _kernel(place / params.smoothness_pixels, params.smoothness_weight)
        energies, colours = unaries.float().flatten(2), images.float().flatten(2)  # (B, C, N), (B, 3, N)
        found = []
        for energy, colour in zip(torch.split(energies, together), torch.split(colours, together), strict=True):
            places = (place / params.appearance_pixels).expand(len(colour), -1, -1)
            features = torch.cat([places, colour / params.appearance_levels], 1)
            kernel = _kernel(features, params.appearance_weight).add_(smoothness)
            found.append(_infer(energy, kernel.to(precision), params.iterations))
        return torch.cat(found).view(unaries.shape)


def _infer(energies: Tensor, kernel: Tensor, iterations: int) -> Tensor:
    """The marginals `(B, C, N)` for unary energies of that shape and the weighted sum `(B, N, N)` of the kernels."""
    marginals = energies.neg().softmax(1)
    for _ in range(iterations):
        # (B, C, N) @ (B, N, N)
        marginals = torch.bmm(marginals.to(kernel.dtype), kernel).float().sub_(energies).softmax(1)
    return marginals


def _kernel(features: Tensor, weight: float) -> Tensor:
    """`weight` times the Gaussian kernel `(B, N, N)` of features `(B, d, N)` in standard deviations, normalised.

    One product of matrices gives minus half of the squared distances; centred features keep its rounding small.
    """
    features = features - features.mean(2, keepdim=True)
    half_norm = features.square().sum(1, keepdim=True) / -2  # (B, 1, N)
    one = torch.ones_like(half_norm)
    left, right = torch.cat([features, half_norm, one], 1), torch.cat([features, one, half_norm], 1)
    # (B, N, d + 2) @ (B, d + 2, N): (B, N, N)
    kernel = torch.bmm(left.transpose(1, 2), right).clamp_(LEAST_EXPONENT, 0).exp_()
    scale = (weight / kernel.sum(1, keepdim=True)).sqrt_()
    return kernel.mul_(scale).mul_(scale.transpose(1, 2))
