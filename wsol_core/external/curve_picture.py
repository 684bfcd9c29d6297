"""Curves as a picture, drawn with what is at hand: a frame, a grid, a line per column, a legend."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from wsol_core.core.files import atomic_path

WIDTH, HEIGHT = 640, 420
LEFT, TOP, RIGHT, BOTTOM = 60, 30, 500, 370
INK, GRID, PAPER = (40, 40, 40), (222, 222, 222), (255, 255, 255)
COLOURS = ((31, 90, 180), (214, 69, 29), (36, 140, 70), (140, 70, 160), (150, 110, 20), (20, 140, 150))
STEPS = 5


def write_curves(path: Path, curves: pd.DataFrame, title: str) -> None:
    """Write a PNG of 640x420 pixels.

    Args:
        path: the output.
        curves: the first column is the horizontal axis, every other one a curve in [0, 1]; NaN is left out.
        title: above the frame.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)
    across = curves.iloc[:, 0].to_numpy(np.float64)
    low, high = _limits(across)
    _frame(draw, font, low, high)
    draw.text((LEFT, 8), title, INK, font)
    draw.text(((LEFT + RIGHT) / 2, HEIGHT - 18), str(curves.columns[0]), INK, font, anchor="mt")
    for place, name in enumerate(curves.columns[1:]):
        colour = COLOURS[place % len(COLOURS)]
        heights = np.clip(curves[name].to_numpy(np.float64), 0, 1)
        _line(draw, (across - low) / (high - low), heights, colour)
        draw.line([(RIGHT + 10, TOP + 10 + 16 * place), (RIGHT + 28, TOP + 10 + 16 * place)], colour, 3)
        draw.text((RIGHT + 34, TOP + 10 + 16 * place), str(name), INK, font, anchor="lm")
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def _limits(across: npt.NDArray[np.float64]) -> tuple[float, float]:
    """From 0 to 1 where the values are shares that start below a half, else from the least to the greatest."""
    known = across[~np.isnan(across)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if 0 <= low < 0.5 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1


def _frame(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, low: float, high: float
) -> None:
    for step in range(STEPS + 1):
        share = step / STEPS
        x, y = LEFT + share * (RIGHT - LEFT), BOTTOM - share * (BOTTOM - TOP)
        draw.line([(x, TOP), (x, BOTTOM)], GRID)
        draw.line([(LEFT, y), (RIGHT, y)], GRID)
        draw.text((x, BOTTOM + 6), f"{low + share * (high - low):g}", INK, font, anchor="mt")
        draw.text((LEFT - 6, y), f"{share:.1f}", INK, font, anchor="rm")
    draw.rectangle([LEFT, TOP, RIGHT, BOTTOM], outline=INK)


def _line(
    draw: ImageDraw.ImageDraw,
    across: npt.NDArray[np.float64],
    up: npt.NDArray[np.float64],
    colour: tuple[int, int, int],
) -> None:
    shown = ~np.isnan(up) & ~np.isnan(across)
    points = np.stack([LEFT + across[shown] * (RIGHT - LEFT), BOTTOM - up[shown] * (BOTTOM - TOP)], axis=1)
    draw.line([(float(x), float(y)) for x, y in points], colour, 2, joint="curve")
