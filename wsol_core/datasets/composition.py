"""Making one photograph from parts: crop, turn, relight, shade, paste, finish.

Pictures are `(h, w, 3)` float32 in [0, 1], RGB. A cut-out is `(h, w, 4)` float32 in [0, 1], its colour premultiplied by
its alpha, so that scaling and blurring leave no fringe. Every random choice comes from the generator that is passed in.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.core.errors import InputError

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SOLID = 0.5


def read_picture(path: Path) -> Array:
    """Read a photograph.

    Raises:
        InputError: the file is missing or is not an image.
    """
    return _read(path, cv2.IMREAD_COLOR, 3)[..., ::-1]


def read_cutout(path: Path) -> Array:
    """Read a cut-out with its alpha and premultiply it.

    Raises:
        InputError: the file is missing, is not an image or has no alpha.
    """
    content = np.array(_read(path, cv2.IMREAD_UNCHANGED, 4)[..., [2, 1, 0, 3]])
    content[..., :3] *= content[..., 3:]
    return content


def _read(path: Path, mode: int, channels: int) -> Array:
    content = cv2.imread(str(path), mode)
    if content is None or content.ndim != 3 or content.shape[2] != channels:
        raise InputError(f"{path}: missing, or not an image of {channels} channels; check out data/demo again")
    return np.asarray(content, dtype=np.float32) / np.float32(255)


def crop(rng: np.random.Generator, picture: Array, width: int, height: int, zoom: tuple[float, float]) -> Array:
    """A random part of `picture` at `width x height`, at times flipped.

    `zoom` is the range of the picture's pixels per pixel of the part, cut down to what the picture holds.
    """
    rows, columns = picture.shape[:2]
    step = min(rng.uniform(*zoom), columns / width, rows / height)
    w, h = int(width * step), int(height * step)
    x, y = rng.integers(columns - w + 1), rng.integers(rows - h + 1)
    part = picture[y : y + h, x : x + w][:, :: rng.choice([1, -1])]
    return _resize(part, width, height)


def _resize(picture: Array, width: int, height: int) -> Array:
    mode = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_CUBIC
    return np.asarray(np.clip(cv2.resize(picture, (width, height), interpolation=mode), 0, 1), dtype=np.float32)


def extent(cutout: Array, angle: float) -> Array:
    """Width and height `(2,)` in pixels of the solid part of a cut-out turned by `angle` degrees."""
    outline = cv2.convexHull(np.argwhere(cutout[..., 3] > SOLID)[:, ::-1].astype(np.int32))[:, 0].astype(np.float32)
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turned = outline @ np.array([[cos, -sin], [sin, cos]], dtype=np.float32)
    return np.asarray(np.ptp(turned, axis=0) + 1, dtype=np.float32)


def turn(cutout: Array, angle: float, scale: float) -> Array:
    """Scale a cut-out, turn it anticlockwise by `angle` degrees and trim it to its visible part."""
    height, width = (max(1, round(n * scale)) for n in cutout.shape[:2])
    small = _resize(cutout, width, height)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
    side = int(np.ceil(np.hypot(width, height))) + 2
    matrix[:, 2] += (side - width) / 2, (side - height) / 2
    turned = np.clip(cv2.warpAffine(small, matrix, (side, side), flags=cv2.INTER_LINEAR), 0, 1)
    rows, columns = (np.flatnonzero((turned[..., 3] > 0.02).any(axis)) for axis in (1, 0))
    return np.asarray(turned[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def blob(rng: np.random.Generator, width: int, height: int) -> Array:
    """The alpha `(height, width)` of a soft-edged random shape: an ellipse with five random harmonics on its radius."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle, order = np.arctan2(y, x), np.arange(1, 6)
    phase, strength = rng.uniform(0, 2 * np.pi, 5), rng.uniform(0, 0.3, 5) / order
    edge = 0.75 + (strength * np.cos(angle[..., None] * order + phase)).sum(-1)
    solid = (np.hypot(x, y) < np.minimum(edge, 0.95)).astype(np.float32)
    feather = rng.uniform(0.6, 0.02 * max(width, height) + 0.7)
    return np.asarray(cv2.GaussianBlur(solid, (0, 0), feather))


def relight(rng: np.random.Generator, cutout: Array, surroundings: Array, most: float) -> Array:
    """Move a cut-out's light, colour cast and contrast towards the picture around it.

    Args:
        rng: the generator.
        cutout: the cut-out.
        surroundings: the part of the picture that it will stand in.
        most: 0 leaves the mean colour as it is, 1 can make it that of the surroundings.
    """
    colour, alpha = cutout[..., :3], cutout[..., 3:]
    mean = colour.sum((0, 1)) / alpha.sum() + 0.02
    gain = ((surroundings.mean((0, 1)) + 0.02) / mean) ** rng.uniform(most / 3, most)
    gain = np.clip(gain * rng.uniform(0.9, 1.1), 0.45, 1.7)
    contrast = rng.uniform(0.8, 1.1)
    relit, part = np.zeros_like(cutout), shown_part(cutout[..., 3])
    colour, alpha = colour[part], alpha[part]
    lit = ((colour - mean * alpha) * contrast + mean * alpha) * gain
    relit[part] = np.concatenate([np.clip(lit, 0, alpha), alpha], axis=2, dtype=np.float32)
    return relit


def shown_part(alpha: npt.NDArray[Any]) -> tuple[slice, slice]:
    """The rows and columns of `(h, w)` outside of which it is 0."""
    rows, columns = (np.flatnonzero(alpha.any(axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def spread(layer: Array, x: int, y: int, width: int, height: int) -> Array:
    """The layer on an empty frame of `width x height`, its upper left corner at `(x, y)`; what hangs over is cut."""
    frame = np.zeros((height, width, *layer.shape[2:]), dtype=np.float32)
    rows, columns = slice(max(y, 0), max(y + layer.shape[0], 0)), slice(max(x, 0), max(x + layer.shape[1], 0))
    frame[rows, columns] = layer[max(-y, 0) :, max(-x, 0) :][: height - rows.start, : width - columns.start]
    return frame


def paste(rng: np.random.Generator, picture: Array, frame: Array) -> Array:
    """Lay a frame (`spread`) over the picture: softened a little, with a soft shadow in half of the cases."""
    if rng.random() < 0.5:
        reach = rng.uniform(0.01, 0.03) * max(picture.shape[:2])
        shift = np.array([[1, 0, rng.uniform(-reach, reach)], [0, 1, reach]], dtype=np.float32)
        shadow = cv2.GaussianBlur(cv2.warpAffine(frame[..., 3], shift, picture.shape[1::-1]), (0, 0), reach)
        part, strength = shown_part(shadow), rng.uniform(0.15, 0.5)
        picture = picture.copy()
        picture[part] = picture[part] * (1 - strength * shadow[part][..., None])
    soft = cv2.GaussianBlur(frame, (0, 0), rng.uniform(0.3, 0.8))
    part, pasted = shown_part(soft[..., 3]), picture.astype(np.float32)
    pasted[part] = picture[part] * (1 - soft[part][..., 3:]) + soft[part][..., :3]
    return pasted


def finish(rng: np.random.Generator, picture: Array) -> npt.NDArray[np.uint8]:
    """One lens and one sensor for the whole picture: exposure, blur and noise, then 8 bits."""
    exposed = picture * rng.uniform(0.85, 1.1)
    sharp = cv2.GaussianBlur(exposed, (0, 0), rng.uniform(0.3, 0.8))
    noise = rng.standard_normal(picture.shape, dtype=np.float32) * rng.uniform(0.004, 0.02)
    return np.asarray(np.clip((sharp + noise) * 255, 0, 255).round(), dtype=np.uint8)
