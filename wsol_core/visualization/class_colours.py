"""The colours of classes in label masks and cues, and the legend that names them."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from wsol_core.core.map_store import IGNORE
from wsol_core.visualization.pictures import CAPTION_HEIGHT, GAP, PAPER, Colour, Picture, blend, stretch

BACKGROUND = (0, 0, 0)
HUES = ((213, 94, 0), (86, 180, 233), (240, 228, 66), (0, 158, 115), (204, 121, 167), (0, 114, 178), (230, 159, 0))
"""Okabe and Ito's seven colours, which people of any colour vision can tell apart: vermillion, sky blue, ..."""
SHARE = 0.65
SWATCH = 10


def class_colour(label: int) -> Colour:
    """The colour of a class: the first seven hues, then these darker, then lighter; after 21 they repeat."""
    shade, hue = divmod(label % (3 * len(HUES)), len(HUES))
    red, green, blue = ((part, part * 5 // 9, 255 - (255 - part) * 4 // 9)[shade] for part in HUES[hue])
    return red, green, blue


COLOURS: npt.NDArray[np.uint8] = np.array([BACKGROUND, *(class_colour(label) for label in range(IGNORE))], np.uint8)
"""`(256, 3)`, by number in a label mask: 0 the background, 1 + label a class."""


def paint(picture: Picture, labels: npt.NDArray[np.number]) -> Picture:
    """A label mask `(h, w)` over a picture of any size: 0 dark, 1 + label in the class's colour, 255 uncoloured."""
    grid = stretch(labels, *picture.shape[:2]).astype(np.int64)
    return np.where(grid[:, :, None] == IGNORE, picture, blend(picture, COLOURS[grid], SHARE))


def legend(names: Sequence[str], width: int) -> Picture:
    """A strip `(h, width, 3)`: a square in each class's colour with its name, in as many lines as they need."""
    font, places = ImageFont.load_default(11), []
    left, top = GAP, 0
    for name in names:
        step = SWATCH + ceil(font.getlength(name)) + 3 * GAP
        if left > GAP and left + step > width:
            left, top = GAP, top + CAPTION_HEIGHT
        places.append((left, top))
        left += step
    page = Image.new("RGB", (width, top + CAPTION_HEIGHT), PAPER)
    pen = ImageDraw.Draw(page)
    for label, (name, (left, top)) in enumerate(zip(names, places, strict=True)):
        pen.rectangle((left, top + 2, left + SWATCH - 1, top + 1 + SWATCH), fill=class_colour(label))
        pen.text((left + SWATCH + GAP, top), name, fill=(0, 0, 0), font=font)
    return np.array(page)
