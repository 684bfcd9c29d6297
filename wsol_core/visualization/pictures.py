"""Drawing: maps, labels and boxes over a picture, and contact sheets of them. Pictures are `(h, w, 3)` uint8 RGB."""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from wsol_core.core.boxes import Boxes
from wsol_core.core.files import atomic_path
from wsol_core.core.map_store import IGNORE
from wsol_core.core.regions import upsample

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Tile = tuple[Picture | None, str]

RED, GREEN, BLUE, GREY = (230, 30, 30), (30, 190, 60), (40, 80, 220), (150, 150, 150)
PAPER = (255, 255, 255)
ABSENT = (232, 232, 232)
GAP = 4
HEADING_HEIGHT, CAPTION_HEIGHT, TAG_HEIGHT = 22, 16, 10
MAX_BYTES = 300_000
QUALITIES = (90, 80, 70, 60, 50, 40, 30)


def shrink(picture: Picture, side: int) -> Picture:
    """The picture with its longer side scaled to `side`."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    target = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, target, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def heat(picture: Picture, score_map: npt.NDArray[np.floating]) -> Picture:
    """Scores in [0, 1] over a picture of any size: 0 blue, 1 red, on an absolute scale."""
    scores = upsample(score_map, *picture.shape[:2])
    colours = cv2.applyColorMap(np.round(255 * np.clip(scores, 0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO)
    return blend(picture, colours[:, :, ::-1])


def stain(picture: Picture, labels: npt.NDArray[np.floating]) -> Picture:
    """A mask or tri-state label `(h, w)` over a picture: 1 red, 0 blue, 255 (ignored) grey; edges stay hard."""
    grid = stretch(labels, *picture.shape[:2])[:, :, None]
    colours = np.where(grid == IGNORE, GREY, np.where(grid == 1, RED, BLUE))
    return blend(picture, colours)


def stretch(labels: npt.NDArray[np.number], height: int, width: int) -> npt.NDArray[np.number]:
    """Labels `(h, w)` as `(height, width)`, of any size, none mixed with its neighbours."""
    rows, columns = (np.arange(n) * have // n for n, have in zip((height, width), labels.shape, strict=True))
    return np.asarray(labels[rows[:, None], columns])


def blend(picture: Picture, colours: npt.NDArray[np.number], share: float = 0.5) -> Picture:
    """Colours `(h, w, 3)`, 0 to 255, over the picture in grey, of which `1 - share` shows."""
    grey = picture.mean(axis=2, keepdims=True)
    return np.asarray(np.round((1 - share) * grey + share * colours), dtype=np.uint8)


def outline(picture: Picture, boxes: Boxes, width: int, height: int, colour: Colour, thickness: int = 2) -> Picture:
    """Boxes `(N, 4)`, in pixels of a `width x height` image, drawn on a copy of its picture of any size."""
    drawn = picture.copy()
    rows, columns = picture.shape[:2]
    scaled = np.round(boxes * np.array([columns / width, rows / height] * 2)).astype(int)
    for x0, y0, x1, y1 in scaled.tolist():
        cv2.rectangle(drawn, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), colour, thickness)
    return drawn


def mark(picture: Picture, x: float, y: float, width: int, height: int, colour: Colour, radius: int) -> Picture:
    """A disc with a white rim at pixel `(x, y)` of a `width x height` image, on a copy of its picture of any size."""
    drawn = picture.copy()
    centre = int((x + 0.5) * picture.shape[1] / width), int((y + 0.5) * picture.shape[0] / height)
    cv2.circle(drawn, centre, radius + 1, PAPER, cv2.FILLED)
    cv2.circle(drawn, centre, radius - 1, colour, cv2.FILLED)
    return drawn


def note(picture: Picture, text: str) -> Picture:
    """A line of text on paper in the upper left corner of a copy of the picture."""
    page, font = Image.fromarray(picture), ImageFont.load_default(11)
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, font.getlength(text) + 3, CAPTION_HEIGHT - 2), fill=PAPER)
    pen.text((2, 0), text, fill=(0, 0, 0), font=font)
    return np.array(page)


def tag(picture: Picture, x: float, y: float, text: str, colour: Colour) -> Picture:
    """A word on its colour with its upper left corner at `(x, y)`, shares of the picture, on a copy of it."""
    page, font = Image.fromarray(picture), ImageFont.load_default(9)
    pen, width = ImageDraw.Draw(page), font.getlength(text) + 2
    left = max(0, min(x * page.width, page.width - width - 1))
    top = max(0, min(y * page.height, page.height - TAG_HEIGHT - 1))
    pen.rectangle((left, top, left + width, top + TAG_HEIGHT), fill=colour)
    pen.text((left + 1, top - 1), text, fill=(0, 0, 0) if sum(colour) > 3 * 110 else PAPER, font=font)
    return np.array(page)


def sheet(rows: Sequence[Sequence[Tile] | str], side: int) -> Picture:
    """A contact sheet: rows of (picture, caption), each picture centred in a square of `side` pixels.

    Where a picture is None the square is grey; a row without captions has no strip for them. A row that is a text is a
    heading.
    """
    heights = [_height(row, side) for row in rows]
    width = max(len(row) for row in rows if not isinstance(row, str)) * (side + GAP) + GAP
    page = Image.new("RGB", (width, sum(heights) + GAP), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        if isinstance(row, str):
            pen.text((GAP, top), row, fill=(0, 0, 0), font=ImageFont.load_default(15))
        for position, (picture, caption) in enumerate(() if isinstance(row, str) else row):
            left = GAP + position * (side + GAP)
            pen.text((left, top), caption, fill=(0, 0, 0), font=font)
            _place(page, picture, left, top + height - side - GAP, side)
        top += height
    return np.array(page)


def _height(row: Sequence[Tile] | str, side: int) -> int:
    if isinstance(row, str):
        return HEADING_HEIGHT
    return (CAPTION_HEIGHT if any(caption for _, caption in row) else 0) + side + GAP


def _place(page: Image.Image, picture: Picture | None, left: int, top: int, side: int) -> None:
    if picture is None:
        page.paste(ABSENT, (left, top, left + side, top + side))
        return
    height, width = picture.shape[:2]
    page.paste(Image.fromarray(picture), (left + (side - width) // 2, top + (side - height) // 2))


def write_jpeg(path: Path, picture: Picture) -> None:
    """Write a JPEG at the highest of a few qualities that keeps it under 300 KB (at the lowest one if none does)."""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
