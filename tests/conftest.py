"""Fixtures that several tests share: a small folder of photographs with an index, and a small network."""

import os
import signal
from pathlib import Path

os.environ.setdefault("WSOL_WORKERS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from PIL import Image

from wsol_core.data.index import SPLITS, ImageIndex

for _number in (signal.SIGINT, signal.SIGHUP):  # ignored behind `nohup` and `&`, which processes of tests would inherit
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

FIRST = ("test_end_to_end.py",)
"""Files that take minutes: where files run side by side, nobody waits for them in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture
def small_index(tmp_path: Path) -> ImageIndex:
    """24 images of 2 classes (16 train-weaksup, 4 train-fullsup, 4 test): a bright square on noise."""
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for number in range(24):
        picture = generator.integers(0, 80, (48, 64, 3), dtype=np.uint8)
        top, left = generator.integers(0, (24, 32))
        picture[top : top + 24, left : left + 24, number % 2] = 255
        Image.fromarray(picture).save(folder / f"{number:02d}.png")
        split = SPLITS[0] if number < 16 else SPLITS[1] if number < 20 else SPLITS[2]
        rows.append((f"{number:02d}", f"{number:02d}.png", "", split, [number % 2], 64, 48))
    table = pd.DataFrame(rows, columns=["image_id", "path", "digest", "split", "labels", "width", "height"])
    return ImageIndex(table, ("red", "green"), "squares", str(folder))
