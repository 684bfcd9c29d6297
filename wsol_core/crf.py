"""Dense CRF: a score map drawn to the edges of its image (Kraehenbuehl and Koltun; SEC and Two-Phase refine with it).

Two labels, background and foreground. The unary term is minus the logarithm of each label's probability; neighbours
pull each other towards one label, the nearer in place and colour the more (appearance), and in place alone
(smoothness). Mean-field inference by `pydensecrf2`, an optional extra.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from wsol_core.errors import InputError
from wsol_core.params import Block
from wsol_core.regions import upsample

FloatArray = npt.NDArray[np.floating]

FLOOR = 1e-4
"""Least probability of a label, as in SEC."""


class CRFParams(Block):
    """The dense CRF; weights and deviations are SEC's, for its images of 321 pixels."""

    longest_side: int = Field(default=321, ge=1)
    """pixels that an image's longer side is reduced to; smaller images stay as they are"""
    iterations: int = Field(default=10, ge=0)
    """of the mean field"""
    undecided: float = Field(default=0.5, gt=0, lt=1)
    """score that stands for neither label; for maps whose boxes are cut far from .5"""
    appearance_weight: float = Field(default=10.0, ge=0)
    """of neighbours alike in place and colour"""
    appearance_pixels: float = Field(default=80.0, gt=0)
    """their standard deviation in place"""
    appearance_levels: float = Field(default=13.0, gt=0)
    """their standard deviation in colour, of 256 levels"""
    smoothness_weight: float = Field(default=3.0, ge=0)
    """of neighbours in place"""
    smoothness_pixels: float = Field(default=3.0, gt=0)
    """their standard deviation"""


def library() -> Any:
    """The module of the optional extra.

    Raises:
        InputError: it is not installed; the message says how.
    """
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise InputError(
            f"dense CRF: {error}; install the optional extra (a C++ compiler builds it): pip install -e '.[crf]'"
        ) from error
    return densecrf


def refine(image: npt.NDArray[np.uint8], score_map: FloatArray, params: CRFParams) -> npt.NDArray[np.float32]:
    """The probability of foreground after mean-field inference, for the whole image.

    Args:
        image: `(H, W, 3)` uint8, RGB.
        score_map: `(h, w)` in [0, 1], the whole image, squashed; read as the probability of foreground, with
            `undecided` as even odds.
        params: see there.

    Returns:
        `(H', W')` float32 in [0, 1], the size of the image with its longer side reduced to `longest_side`.

    Raises:
        InputError: the optional extra is not installed.
    """
    densecrf = library()
    small = reduce(image, params.longest_side)
    height, width = small.shape[:2]
    field = densecrf.DenseCRF2D(width, height, 2)
    field.setUnaryEnergy(unary_energy(upsample(score_map, height, width), params.undecided))
    field.addPairwiseGaussian(sxy=params.smoothness_pixels, compat=params.smoothness_weight)
    field.addPairwiseBilateral(
        sxy=params.appearance_pixels, srgb=params.appearance_levels, rgbim=small, compat=params.appearance_weight
    )
    probabilities = np.array(field.inference(params.iterations), dtype=np.float32)
    return np.asarray(np.clip(probabilities[1].reshape(height, width), 0, 1))


def unary_energy(scores: FloatArray, undecided: float = 0.5) -> npt.NDArray[np.float32]:
    """Minus the logarithm `(2, h * w)` of the probabilities of background and foreground, at least `FLOOR` each.

    The odds of foreground are those of the scores `(h, w)` over those of the score `undecided`.
    """
    foreground = scores.ravel().astype(np.float64) * (1 - undecided)
    background = (1 - scores.ravel().astype(np.float64)) * undecided
    probability = np.clip(foreground / (foreground + background), FLOOR, 1 - FLOOR)
    return -np.log(np.stack([1 - probability, probability])).astype(np.float32)


def reduce(image: npt.NDArray[np.uint8], longest_side: int) -> npt.NDArray[np.uint8]:
    """The image `(H, W, 3)` with its longer side reduced, by areas, to `longest_side`; never enlarged."""
    height, width = image.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.ascontiguousarray(cv2.resize(image, target, interpolation=cv2.INTER_AREA), dtype=np.uint8)
