"""Image files as RGB arrays, whatever the format, mode or orientation, and what is wrong with those that are not."""

import hashlib
import warnings
from io import BufferedReader
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from wsol_core.core.errors import InputError

Picture = npt.NDArray[np.uint8]
Interpolation = Literal["bilinear", "bicubic"]

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".jp2"))
MAX_PIXELS = 89_478_485
DIGEST_BYTES = 16

ZERO_BYTES = "zero bytes"
NOT_AN_IMAGE = "not an image"
TRUNCATED = "truncated"
BOMB = "decompression bomb"
UNREADABLE = "unreadable"

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM", b"\0\0\0\x0cjP")
_CUT_SHORT = ("truncated", "could not create decoder object", "unexpected end")
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Inspection(NamedTuple):
    """What one look at a file found.

    Attributes:
        width: pixels as displayed; 0 where there is a problem.
        height: pixels as displayed; 0 where there is a problem.
        digest: BLAKE2b of the bytes, 16 bytes in hex; "" where they could not be read.
        problem: why the file is no usable image, or None.
    """

    width: int
    height: int
    digest: str
    problem: str | None


def decode(path: Path) -> Picture:
    """The image as `(H, W, 3)` uint8 RGB, turned as its EXIF orientation says.

    Transparent pixels show white. 16 bits keep the upper 8; integers of 32 bits are read as 16, floats as 0 to 255.
    Of an animation the first frame counts.

    Raises:
        InputError: the file is no usable image.
    """
    return np.array(_read(path))


def decode_squashed(path: Path, height: int, width: int, interpolation: Interpolation) -> Picture:
    """The image squashed to `(height, width, 3)` uint8 RGB, antialiased.

    A JPEG at least four times too large in both directions is read at a reduced scale, never below twice the larger
    side asked for.

    Raises:
        InputError: the file is no usable image.
    """
    image = _read(path, least=2 * max(height, width))
    return np.array(image.resize((width, height), _FILTERS[interpolation]))


def inspect(path: Path) -> Inspection:
    """Decode the whole file once and say what it is; never raises for a bad file."""
    digest = ""
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            digest = _digest(stream)
            image = _decoded(stream)
    except Exception as error:  # a broken file can raise anything inside a decoder
        return Inspection(0, 0, digest, _reason(path, error))
    return Inspection(image.width, image.height, digest, None)


def digest_only(path: Path) -> Inspection:
    """The digest of any file, not decoded: width and height are 0."""
    try:
        with path.open("rb") as stream:
            return Inspection(0, 0, _digest(stream), None)
    except OSError:
        return Inspection(0, 0, "", UNREADABLE)


def _read(path: Path, least: int | None = None) -> Image.Image:
    try:
        with path.open("rb") as stream:
            return _decoded(stream, least)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; put it back, or run `dvc repro` to prepare the data set again") from error
    except Exception as error:  # a broken file can raise anything inside a decoder
        raise InputError(f"{path}: {_reason(path, error)}; mend the file, then run `dvc repro`") from error


def _digest(stream: BufferedReader) -> str:
    return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


def _decoded(stream: BufferedReader, least: int | None = None) -> Image.Image:
    """The image as displayed, mode RGB; a JPEG may come at a reduced scale with both sides at least `least`."""
    stream.seek(0)
    with Image.open(stream, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if least is not None:
            image.draft(None, (least, least))
        image.load()
        turn = _TURNS.get(_orientation(image))
        flat = _flat(image)
    return flat.transpose(turn) if turn is not None else flat


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block does not make the picture unusable
        return 1


def _flat(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        levels = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return BOMB
    if isinstance(error, OSError) and error.errno is not None:
        return UNREADABLE
    if path.stat().st_size == 0:
        return ZERO_BYTES
    if any(words in str(error).lower() for words in _CUT_SHORT):
        return TRUNCATED
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as stream:
            return TRUNCATED if stream.read(16).startswith(_SIGNATURES) else NOT_AN_IMAGE
    return UNREADABLE
