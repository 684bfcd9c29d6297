"""MaxBoxAcc and MaxBoxAccV2 of CUB's 5,794 test images at 100 thresholds and three IoUs, against the plain method.

The plain method, one thread: per image and threshold, `cv2.threshold`, `cv2.findContours`, each contour's box, one
IoU matrix of boxes and ground truth. It is timed on some of the maps, by turns with the whole run of `MaxBoxAcc`, and
its time is scaled to their number. At the end, 50,000 maps show whether the memory is bounded. The maps are a few hills
and noise on grids of 7x7 to 28x28, enlarged. Run `python -m benchmarks.max_box`. Exit code 1 where the ratio misses the
goal, the memory grows or a figure differs.
"""

import resource
import sys
import time

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.core.parallel import in_threads
from wsol_core.metrics.max_box import IOUS, SIDE, TAUS, MaxBoxAcc, MaxBoxFigures

GOAL = 10
ROOM = 50
"""MiB."""
IMAGES, MANY, KINDS, TURN, TURNS = 5794, 50_000, 240, 80, 3
GRIDS = (7, 14, 28)

Scores = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def draw(rng: np.random.Generator, grid: int) -> tuple[Scores, Scores]:
    """A map of one to three hills with noise, and a box around the first."""
    y, x = np.mgrid[:grid, :grid] / grid
    centres, widths = rng.uniform(0.2, 0.8, (3, 2)), rng.uniform(0.08, 0.25, 3)
    count = rng.integers(1, 4)
    hills = [
        np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * w * w)) for (cx, cy), w in zip(centres, widths, strict=True)
    ]
    scores = np.sum(hills[:count], axis=0) + 0.15 * rng.random((grid, grid))
    scores = ((scores - scores.min()) / np.ptp(scores)).astype(np.float32)
    enlarged = np.clip(cv2.resize(scores, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), 0, 1)
    box = np.concatenate([centres[0] - 1.2 * widths[0], centres[0] + 1.2 * widths[0]]) * SIDE
    return enlarged, np.clip(box, 0, SIDE).astype(np.float32)[None]


def iou(boxes: Whole, truth: Whole) -> Floats:
    """IoU matrix; the corners belong to the boxes."""
    low = np.maximum(boxes[:, None, :2], truth[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], truth[None, :, 2:])
    common = np.maximum(high - low + 1, 0).prod(axis=2)
    areas = [(each[:, 2:] - each[:, :2] + 1).prod(axis=1) for each in (boxes, truth)]
    return np.asarray(common / (areas[0][:, None] + areas[1][None] - common))


def plain(scores: Scores, truth: Whole) -> tuple[Floats, Floats]:
    """IoU by threshold of the largest contour's box, and of the best box of any contour."""
    image = (scores * 255).astype(np.uint8)
    largest, best = np.empty(len(TAUS)), np.empty(len(TAUS))
    for index, tau in enumerate(TAUS):
        _, binary = cv2.threshold(image, int(tau * image.max()), 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        boxes = [(x, y, min(x + w, SIDE - 1), min(y + h, SIDE - 1)) for x, y, w, h in map(cv2.boundingRect, contours)]
        found = iou(np.array(boxes or [(0, 0, 0, 0)], dtype=np.int64), truth).max(axis=1)
        chosen = int(np.argmax([cv2.contourArea(contour) for contour in contours])) if contours else 0
        largest[index], best[index] = found[chosen], found.max()
    return largest, best


def measure(maps: list[tuple[Scores, Scores]], images: int) -> MaxBoxFigures:
    """The figures of as many images, the maps again and again."""
    accuracy = MaxBoxAcc()
    work = ((*maps[index % len(maps)], SIDE, SIDE, str(index)) for index in range(images))
    for correct in in_threads(accuracy.measure, work):
        accuracy.count(correct)
    return accuracy.figures()


def same_curves(maps: list[tuple[Scores, Scores]]) -> bool:
    """Whether the plain method counts as many correct images at every threshold."""
    pairs = [plain(scores, np.trunc(truth).astype(np.int64)) for scores, truth in maps]
    largest, best = np.array(pairs).transpose(1, 0, 2)
    curves = measure(maps, len(maps)).curves
    expected = {"v1@50": largest >= 0.5} | {f"v2@{round(100 * wanted)}": best >= wanted for wanted in IOUS}
    return all(np.array_equal(curves[name], correct.mean(axis=0)) for name, correct in expected.items())


def clocks() -> Floats:
    """Seconds of time, and of work on all cores."""
    return np.array([time.perf_counter(), time.process_time()])


def main() -> int:
    """Print both times, their ratios and the growth of the memory."""
    rng = np.random.default_rng(0)
    maps = [draw(rng, GRIDS[index % len(GRIDS)]) for index in range(KINDS)]
    same = same_curves(maps)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slow, quick = [], []
    for turn in range(TURNS):
        start = clocks()
        for scores, truth in maps[turn * TURN : (turn + 1) * TURN]:
            plain(scores, np.trunc(truth).astype(np.int64))
        middle = clocks()
        measure(maps, IMAGES)
        slow.append((middle - start) / TURN)
        quick.append((clocks() - middle) / IMAGES)
    ratio, work = np.median(np.array(slow) / np.array(quick), axis=0)
    measure(maps, MANY)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    ours, theirs = (np.min(each, axis=0) * 1e3 for each in (quick, slow))
    print(f"{IMAGES} maps: {ours[0]:.2f} ms a map ({ours[1]:.2f} of a core), plain {theirs[0]:.2f} ({theirs[1]:.2f})")
    print(f"ratio {ratio:.1f} (goal {GOAL} or more), per core {work:.1f}; same numbers: {same}")
    print(f"memory grew by {growth:.0f} MiB over {MANY} maps (goal {ROOM} or less)")
    return int(ratio < GOAL or growth > ROOM or not same)


if __name__ == "__main__":
    sys.exit(main())
