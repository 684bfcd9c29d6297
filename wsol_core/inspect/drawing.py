"""Pictures for the page: thumbnails, photographs, and layers as PNG whose empty pixels are transparent."""

import io
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import IGNORE, Kind
from wsol_core.data.images import decode_squashed
from wsol_core.inspect.reading import Stamp
from wsol_core.visualization.class_colours import COLOURS
from wsol_core.visualization.pictures import BLUE, GREY, RED

THUMBNAIL_SIDE, THUMBNAILS_KEPT = 192, 2000
PICTURE_SIDE, PICTURES_KEPT = 1600, 16

Values = npt.NDArray[np.generic]
Palette = npt.NDArray[np.uint8]


def _palette(colours: dict[int, tuple[int, int, int]]) -> Palette:
    """RGBA `(256, 4)` by value; values that are not named are transparent."""
    palette = np.zeros((256, 4), np.uint8)
    for value, colour in colours.items():
        palette[value] = (*colour, 255)
    return palette


CLASSES = np.concatenate([COLOURS, np.full((256, 1), 255, np.uint8)], axis=1)
CLASSES[[0, IGNORE], 3] = 0
_RAMP = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_TURBO).reshape(256, 3)[:, ::-1]
TURBO = np.concatenate([_RAMP, np.full((256, 1), 255, np.uint8)], axis=1)
PALETTES: dict[Kind, Palette] = {
    Kind.SCORE: TURBO,
    Kind.MASK: _palette({1: RED}),
    Kind.TRISTATE: _palette({0: BLUE, 1: RED, IGNORE: GREY}),
    Kind.LABELS: CLASSES,
}


def paint_store(values: npt.NDArray[np.float32], kind: Kind) -> bytes:
    """A map of a store: scores from 0 (blue) to 1 (red), masks red, tri-state labels red, blue and grey."""
    scaled = np.round(255 * np.clip(values, 0, 1)) if kind is Kind.SCORE else values
    return _png(PALETTES[kind][scaled.astype(np.uint8)])


def paint_numbers(path: Path) -> bytes:
    """A PNG of instance or class numbers, each in its colour; 0 and 255 are transparent.

    Raises:
        InputError: it is no PNG of 8 bits.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            mode, numbers = picture.mode, np.asarray(picture)
    except Exception as error:  # a broken file can raise anything inside a decoder
        raise InputError(f"{path.name}: not a readable PNG; run the stage that makes it again") from error
    if mode not in ("L", "P"):
        raise InputError(f"{path.name}: a PNG of mode {mode}; masks have a palette or are grey, 8 bits")
    return _png(CLASSES[numbers])


@lru_cache(THUMBNAILS_KEPT)
def thumbnail(path: Path, _: Stamp, width: int, height: int) -> bytes:
    """A JPEG whose longer side is `THUMBNAIL_SIDE` pixels, of an image of `width x height`."""
    return _jpeg(path, width, height, THUMBNAIL_SIDE, 80)


@lru_cache(PICTURES_KEPT)
def photograph(path: Path, _: Stamp, width: int, height: int) -> bytes:
    """A JPEG of an image whose longer side is at most `PICTURE_SIDE` pixels."""
    return _jpeg(path, width, height, PICTURE_SIDE, 92)


def _jpeg(path: Path, width: int, height: int, side: int, quality: int) -> bytes:
    scale = min(1.0, side / max(width, height))
    target = max(1, round(height * scale)), max(1, round(width * scale))
    buffer = io.BytesIO()
    Image.fromarray(decode_squashed(path, *target, "bilinear")).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _png(pixels: Values) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
