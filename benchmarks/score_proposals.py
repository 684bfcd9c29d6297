"""Objectness of 2,000 proposals of a 500x375 picture against a plain loop over boxes with slicing.

Run `python -m benchmarks.score_proposals`. Exit code 1 where the ratio or the time misses its goal.
"""

import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.core.boxes import Boxes
from wsol_core.proposals.objectness import objectness

GOAL, GOAL_MS = 100, 1.0
WIDTH, HEIGHT, BOXES = 500, 375, 2000

Floats = npt.NDArray[np.float32]


def plain_loop(score_map: Floats, boxes: Boxes, width: int, height: int) -> Floats:
    """Slice the upsampled map box by box."""
    upsampled = cv2.resize(score_map, (width, height))
    return np.array([upsampled[y0:y1, x0:x1].mean() for x0, y0, x1, y1 in boxes.astype(int)], dtype=np.float32)


def fastest(function: Callable[[], Floats], rounds: int) -> float:
    """Seconds of the fastest of `rounds` calls."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    """Print both times and their ratio."""
    rng = np.random.default_rng(0)
    score_map = rng.random((28, 28), dtype=np.float32)
    corners = rng.integers(0, (WIDTH - 1, HEIGHT - 1), (BOXES, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1).astype(np.float32)
    arguments = (score_map, boxes, WIDTH, HEIGHT)
    difference = np.abs(objectness(*arguments) - plain_loop(*arguments)).max()
    quick = fastest(lambda: objectness(*arguments), rounds=200)
    slow = fastest(lambda: plain_loop(*arguments), rounds=10)
    print(f"{BOXES} proposals of a {WIDTH}x{HEIGHT} picture: {quick * 1e3:.3f} ms (goal less than {GOAL_MS:g})")
    print(f"plain loop {slow * 1e3:.2f} ms")
    print(f"ratio {slow / quick:.0f} (goal {GOAL} or more); largest difference {difference:.1e}")
    return int(slow / quick < GOAL or quick * 1e3 >= GOAL_MS)


if __name__ == "__main__":
    sys.exit(main())
