"""Dense CRF: the probabilities of labels drawn to the edges of their image (Kraehenbuehl and Koltun, NIPS 2011).

Neighbours pull each other towards one label, the nearer in place and colour the more (appearance), and in place alone
(smoothness). `mean_field` here is for one image of any size and approximates the kernels on the permutohedral lattice;
`wsol_core.methods.sec.exact_crf.mean_field` is for batches of small maps and does not.
"""

import functools
import multiprocessing
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from wsol_core.core.crf_params import CRFParams
from wsol_core.refinement.permutohedral import GaussianFilter

FloatArray = npt.NDArray[np.floating]


@functools.cache
def library() -> Any | None:
    """The module of the optional extra; None, and one line of warning from the first process, where it is missing."""
    try:
        from pydensecrf import densecrf
    except ImportError:
        if multiprocessing.parent_process() is None:
            print(
                "warning: dense CRF without the optional extra: the built-in lattice filter gives the same maps, about"
                " three times slower; to install it (a C++ compiler builds it): pip install -e '.[crf]'",
                file=sys.stderr,
            )
        return None
    return densecrf


def mean_field(unaries: FloatArray, image: npt.NDArray[np.uint8], params: CRFParams) -> npt.NDArray[np.float32]:
    """The marginals of a fully connected CRF with a label for each pixel (Algorithm 1).

    Both kernels are normalised symmetrically and hold each pixel's weight on itself; labels are compatible with
    themselves alone (Potts). `pydensecrf2` computes it, and where it is missing the same lattice in `permutohedral`:
    marginals differ by 1e-4 at the most, but where rounding puts a pixel into another simplex of the lattice.

    Args:
        unaries: `(C, H, W)`, minus the logarithms of probabilities.
        image: `(H, W, 3)` uint8.
        params: see there.

    Returns:
        `(C, H, W)` float32, of sum 1 over C.

    Raises:
        ValueError: the image has another size than the unaries.
    """
    labels, height, width = unaries.shape
    if image.shape != (height, width, 3):
        raise ValueError(f"unaries {unaries.shape} for an image {image.shape}")
    energies = np.ascontiguousarray(unaries, dtype=np.float32).reshape(labels, -1)
    infer = _by_lattice if library() is None else _by_library
    return infer(energies, np.ascontiguousarray(image), params).reshape(unaries.shape)


def _by_library(
    energies: npt.NDArray[np.float32], image: npt.NDArray[np.uint8], params: CRFParams
) -> npt.NDArray[np.float32]:
    densecrf = library()
    assert densecrf is not None
    height, width = image.shape[:2]
    field = densecrf.DenseCRF2D(width, height, len(energies))
    field.setUnaryEnergy(energies)
    field.addPairwiseGaussian(sxy=params.smoothness_pixels, compat=params.smoothness_weight)
    field.addPairwiseBilateral(
        sxy=params.appearance_pixels, srgb=params.appearance_levels, rgbim=image, compat=params.appearance_weight
    )
    return np.array(field.inference(params.iterations), dtype=np.float32)


def _by_lattice(
    energies: npt.NDArray[np.float32], image: npt.NDArray[np.uint8], params: CRFParams
) -> npt.NDArray[np.float32]:
    place = np.indices(image.shape[:2], dtype=np.float32).reshape(2, -1)[::-1].T
    colour = image.reshape(-1, 3).astype(np.float32)
    smooth = GaussianFilter(place / params.smoothness_pixels)
    alike = GaussianFilter(np.hstack([place / params.appearance_pixels, colour / params.appearance_levels]))
    own = np.ascontiguousarray(energies.T)
    marginals = _softmax(-own)
    for _ in range(params.iterations):
        near = params.smoothness_weight * smooth(marginals) + params.appearance_weight * alike(marginals)
        marginals = _softmax(near - own)
    return np.ascontiguousarray(marginals.T)


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))
