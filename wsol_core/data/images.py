"""Image files as RGB arrays, whatever the format, mode or orientation, and what is wrong with those that are not."""

import hashlib
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from wsol_core.core.errors import InputError
from wsol_core.data.bit_depth import UnreadError, deep_colour, flat_colour, is_deep_colour
from wsol_core.data.paths import is_file

Picture = npt.NDArray[np.uint8]
Interpolation = Literal["bilinear", "bicubic"]

SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".ppm", ".pgm", ".pbm",
    ".pnm", ".jp2", ".j2k", ".avif", ".heic", ".heif", ".mpo",
))  # fmt: skip
"""Of image files, lower case. A file without one of these is an image if its first bytes say so: `is_image_file`."""
MAX_PIXELS = 89_478_485
"""Pixels of the largest image that is decoded where nobody says otherwise: Pillow's limit."""
DIGEST_BYTES = 16
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

ZERO_BYTES = "zero bytes"
NOT_AN_IMAGE = "not an image"
TRUNCATED = "truncated"
BOMB = "larger than max_pixels"
UNREADABLE = "unreadable"
HEIC = "HEIC picture (`make setup EXTRAS=dev,heic` installs what reads it)"

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF")
_FIRST_BYTES = 32
_SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF.{4}WEBP|II\*\0|MM\0\*|BM.{4}\0{4}|P[1-6]\s[\s\d#]"
    rb"|\0\0\0\x0cjP|\xff\x4f\xff\x51|.{4}ftyp(?:avi[fs]|hei[cxms]|hev[cxms]|mif1|msf1)",
    re.DOTALL,
)
_HEIC_BRAND = re.compile(rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)
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
_LIBRARY_LIMIT = threading.Lock()

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # editors write megabytes of XMP in one piece


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


def is_image_file(place: Path) -> bool:
    """Whether a file is meant as an image, by the end of its name or by its first bytes; it may still be damaged."""
    if place.suffix.lower() in SUFFIXES:
        return True
    try:
        with place.open("rb") as stream:
            return _SIGNATURE.match(stream.read(_FIRST_BYTES)) is not None
    except OSError:
        return False


def decode(path: Path, max_pixels: int | None = None) -> Picture:
    """The image as `(H, W, 3)` uint8 RGB, turned as its EXIF orientation says.

    Transparent pixels show white; deeper levels become 8 bits, see `bit_depth`. Of an animation the first frame counts.

    Args:
        path: the file.
        max_pixels: a larger image is refused; None for one of an index, since `prepare` has refused those.

    Raises:
        InputError: the file is no usable image.
    """
    return np.array(_read(path, max_pixels))


def decode_squashed(
    path: Path, height: int, width: int, interpolation: Interpolation, max_pixels: int | None = None
) -> Picture:
    """The image squashed to `(height, width, 3)` uint8 RGB, antialiased.

    A JPEG at least four times too large in both directions is read at a reduced scale, never below twice the larger
    side asked for.

    Raises:
        InputError: the file is no usable image, or has more than `max_pixels`.
    """
    image = _read(path, max_pixels, least=2 * max(height, width))
    return np.array(image.resize((width, height), _FILTERS[interpolation]))


def inspect(path: Path, max_pixels: int = MAX_PIXELS) -> Inspection:
    """Decode the whole file once and say what it is; never raises for a bad file."""
    digest = ""
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            digest = _digest(stream)
            image = _decoded(stream, max_pixels)
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


def displayed_size(path: Path) -> tuple[int, int]:
    """Width and height, pixels as displayed, of an image however large; of the file the header alone is read.

    Raises:
        InputError: the file is no image.
    """
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with _opened(stream) as image:
                sideways = _orientation(image) in SIDEWAYS and image.format != "TIFF"  # whose size is turned already
                return image.size[::-1] if sideways else image.size
    except Exception as error:  # a broken file can raise anything inside a decoder
        reason = _reason(path, error) if is_file(path) else "missing"
        raise InputError(f"{path}: not a readable image ({reason})") from error


def stored_orientation(path: Path) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1 where it has none or is no image."""
    try:
        with path.open("rb") as stream, _opened(stream) as image:
            return _orientation(image)
    except Exception:  # a broken file can raise anything inside a decoder
        return 1


def turned(pixels: Picture, orientation: int) -> Picture:
    """Pixels `(H, W)` uint8 in a file's own order, turned as its EXIF orientation (1 to 8) says.

    Example:
        >>> turned(np.array([[1, 2]], dtype=np.uint8), 6).tolist()
        [[1], [2]]
    """
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def _read(path: Path, max_pixels: int | None, least: int | None = None) -> Image.Image:
    if not is_file(path):
        raise InputError(f"{path}: missing; put it back, or run `dvc repro` to prepare the data set again")
    try:
        with path.open("rb") as stream:
            return _decoded(stream, max_pixels, least)
    except Exception as error:  # a broken file can raise anything inside a decoder
        raise InputError(f"{path}: {_reason(path, error)}; mend the file, then run `dvc repro`") from error


def _digest(stream: BufferedReader) -> str:
    return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read: HEIF too, where the extra `heic` is installed."""
    try:
        import pillow_heif
    except ImportError:
        return _FORMATS
    pillow_heif.register_heif_opener()
    return (*_FORMATS, "HEIF")


@contextmanager
def _opened(stream: BufferedReader) -> Iterator[Image.Image]:
    """The image with its header read, however large: Pillow's own limit gives way to the caller's."""
    stream.seek(0)
    try:
        image = Image.open(stream, formats=_formats())
    except Image.DecompressionBombError:
        with _LIBRARY_LIMIT:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                stream.seek(0)
                image = Image.open(stream, formats=_formats())
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _decoded(stream: BufferedReader, max_pixels: int | None, least: int | None = None) -> Image.Image:
    """The image as displayed, mode RGB; a JPEG may come at a reduced scale with both sides at least `least`."""
    with _opened(stream) as image:
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise Image.DecompressionBombError
        if least is not None:
            image.draft(None, (least, least))
        deep = deep_colour(stream) if is_deep_colour(image) else None
        image.load()
        turn = _TURNS.get(_orientation(image))  # none is left of a TIFF, which is turned as it is loaded
        flat = flat_colour(deep or image)
    return flat.transpose(turn) if turn is not None else flat


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block does not make the picture unusable
        return 1


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, UnreadError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return BOMB
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    if isinstance(error, OSError) and error.errno is not None:
        return UNREADABLE
    if path.stat().st_size == 0:
        return ZERO_BYTES
    if any(words in str(error).lower() for words in _CUT_SHORT):
        return TRUNCATED
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(path)
    return UNREADABLE


def _unidentified(path: Path) -> str:
    with path.open("rb") as stream:
        first = stream.read(_FIRST_BYTES)
        if _SIGNATURE.match(first) is None:
            return NOT_AN_IMAGE
        if _HEIC_BRAND.match(first) and "HEIF" not in _formats():
            return HEIC
        return _kind_of_tiff(stream) if first.startswith((b"II*\0", b"MM\0*")) else TRUNCATED


def _kind_of_tiff(stream: BufferedReader) -> str:
    """What a TIFF that Pillow does not know holds."""
    try:
        stream.seek(0)
        tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(8))
        stream.seek(tags.next)
        tags.load(stream)
        bands = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
        bits = int(tags[TiffImagePlugin.BITSPERSAMPLE][0])
        form = {1: "integers", 2: "signed integers", 3: "floats"}[tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0]]
    except Exception:  # a directory that is cut short or damaged can raise anything
        return TRUNCATED
    return f"TIFF of {bands} bands of {bits}-bit {form}, which is not read"
