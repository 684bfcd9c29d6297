"""Selective search over 100 pictures in two processes against one.

Run `python -m benchmarks.selective_search`. Exit code 1 where the ratio misses the goal. The pictures are made up:
coloured rectangles on noise, 500x375; starting the processes counts, as it does in the stage.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from wsol_core.data.index import ImageIndex
from wsol_core.proposals.selective_search import SearchParams, search_proposals

GOAL = 1.8
PICTURES, WIDTH, HEIGHT = 100, 500, 375
PARAMS = SearchParams(mode="fast", longest_side=300)


def make_pictures(folder: Path) -> ImageIndex:
    """Write the pictures."""
    rows: list[tuple[object, ...]] = []
    for number in range(PICTURES):
        rng = np.random.default_rng(number)
        picture = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        for _ in range(30):
            (x, y), (w, h) = rng.integers(0, (WIDTH, HEIGHT)), rng.integers(20, 200, 2)
            picture[y : y + h, x : x + w] //= 4
            picture[y : y + h, x : x + w] += rng.integers(0, 180, 3, dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.png"), picture)
        rows.append((f"{number:03d}", f"{number:03d}.png", "", "test", [], WIDTH, HEIGHT))
    table = pd.DataFrame(rows, columns=["image_id", "path", "digest", "split", "labels", "width", "height"])
    return ImageIndex(table, (), "made-up", str(folder))


def seconds(index: ImageIndex, workers: int) -> float:
    """Of one run over all pictures."""
    os.environ["WSOL_WORKERS"] = str(workers)
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        search_proposals(index, PARAMS, Path(scratch))
        return time.perf_counter() - start


def main() -> int:
    """Print both times and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        index = make_pictures(Path(folder))
        one, two = seconds(index, 1), seconds(index, 2)
    print(f"{PICTURES} pictures: {one:.1f} s in one process, {two:.1f} s in two")
    print(f"ratio {one / two:.2f} (goal {GOAL} or more)")
    return int(one / two < GOAL)


if __name__ == "__main__":
    sys.exit(main())
