"""Pictures of more than 8 bits a level, or of floats, as 8 bits.

The rules, image by image:

- integers of more than 8 bits count as of the smallest of 8, 10, 12, 14 and 16 bits that holds the greatest level, of
  which the upper 8 are kept (12-bit cameras write their levels into 16 bits);
- floats within [0, 1] are shares of full brightness, others within [0, 255] are levels;
- other integers and floats are refused.
"""

from io import BufferedReader
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

FLOAT_RANGE = "floats that are not finite or not in [0, 255]"
INTEGER_RANGE = "integers outside [0, 65535]"
DEPTHS = (8, 10, 12, 14, 16)

Levels = npt.NDArray[np.uint8]


class UnreadError(ValueError):
    """A kind of picture that is not read; the message says which."""


def is_deep_colour(image: Image.Image) -> bool:
    """Whether Pillow would cut 16 bits of several bands down to their upper 8."""
    tiles = getattr(image, "tile", None)
    layout = tiles[0][3] if tiles else ""
    name = layout[0] if isinstance(layout, tuple) and layout else layout
    return ";16" in str(name) and not image.mode.startswith("I")


def deep_colour(stream: BufferedReader) -> Image.Image:
    """A PNG or TIFF of several bands of 16 bits, by OpenCV, which keeps them all.

    Raises:
        UnreadError: it is of another kind.
    """
    stream.seek(0)
    levels = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None or levels.ndim != 3:
        raise UnreadError("16 bits of a kind that is not read")
    colours = _eight_bits(levels[..., 2::-1])
    opacity = [_eight_bits(levels[..., 3:])] if levels.shape[2] == 4 else []
    return Image.fromarray(np.concatenate([colours, *opacity], axis=2))


def _eight_bits(levels: npt.NDArray[Any]) -> Levels:
    """Integers as 8 bits: the upper ones of the smallest usual depth that holds the greatest."""
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high > 65535:
        raise UnreadError(INTEGER_RANGE)
    depth = next(bits for bits in DEPTHS if high < 1 << bits)
    return np.asarray(levels >> (depth - 8), dtype=np.uint8)


def _of_floats(levels: npt.NDArray[np.float32]) -> Levels:
    low, high = float(levels.min()), float(levels.max())
    if not (low >= 0 and high <= 255):  # false for NaN
        raise UnreadError(FLOAT_RANGE)
    return np.asarray(np.round(levels * 255 if high <= 1 else levels), dtype=np.uint8)


def flat_colour(image: Image.Image) -> Image.Image:
    """The image in mode RGB, 8 bits; transparent pixels show white.

    Raises:
        UnreadError: its levels follow none of the rules.
    """
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(_of_floats(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
