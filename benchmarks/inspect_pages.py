"""`wsol inspect` on 10,000 images: the first answers, a page of 60 thumbnails, and the server's memory.

The images are small patterns of 500 x 375 pixels, each file standing for several of the index, none twice on a page;
two methods have a map of each. A process of its own serves them to this one over HTTP. Run
`python -m benchmarks.inspect_pages`. Exit code 1 where a goal is missed.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from wsol_core.core.files import write_json, write_table
from wsol_core.core.map_store import CLASS_AGNOSTIC, Kind, MapStore, create
from wsol_core.data.index import SPLITS, ImageIndex, write_annotations, write_index
from wsol_core.localization.localize import localize

GOAL_SECONDS, GOAL_MIB = 1.0, 500.0
IMAGES, PICTURES, CLASSES, SIDE, RESOLUTION = 10_000, 240, 200, 28, 56
WIDTH, HEIGHT = 500, 375
METHODS = ("ddt", "foreground")
AT_ONCE = 6
"""Connections of a browser to one server."""
DATA = Path("data/localization")
SERVER = """
import resource, sys
from wsol_core.cli.app import app
try:
    app(["inspect", "--port", "0"])
finally:
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(usage / (1 << 20 if sys.platform == "darwin" else 1 << 10), flush=True)
"""


def write_project(root: Path) -> None:
    """Images, index, annotations, maps and boxes."""
    rng = np.random.default_rng(0)
    folder = root / "data/rendered/localization"
    folder.mkdir(parents=True)
    for number in range(PICTURES):
        small = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), cv2.resize(small, (WIDTH, HEIGHT)))
    table = pd.DataFrame({"image_id": [f"{number:06d}" for number in range(IMAGES)]})
    table["path"] = [f"{number % PICTURES:03d}.jpg" for number in range(IMAGES)]
    table = table.assign(digest=table["image_id"], split=np.resize(SPLITS, IMAGES), width=WIDTH, height=HEIGHT)
    table["labels"] = [[number % CLASSES] for number in range(IMAGES)]
    index = ImageIndex(
        table, tuple(f"class {number}" for number in range(CLASSES)), "many", "data/rendered/localization"
    )
    write_index(root / DATA / "index.parquet", index)
    low = rng.uniform(0, 150, (IMAGES, 2)).astype(np.float32)
    truth = table[["image_id"]].assign(label=np.arange(IMAGES) % CLASSES, difficult=False, instance=0)
    truth[["x0", "y0", "x1", "y1"]] = np.hstack([low, low + rng.uniform(50, 200, (IMAGES, 2))]).astype(np.float32)
    write_annotations(root / DATA / "truth/annotations.parquet", truth)
    blocks = {"methods": {method: {} for method in METHODS}, "localize": {"resolution": RESOLUTION}}
    (root / "params.yaml").write_text(json.dumps(blocks))
    for method in METHODS:
        path = root / DATA / "outputs" / method / "maps.h5"
        with create(path, Kind.SCORE, SIDE, SIDE) as writer:
            maps = cv2.resize(rng.random((IMAGES, 7 * 7), np.float32), (SIDE * SIDE, IMAGES))
            writer.append(table["image_id"].tolist(), [CLASS_AGNOSTIC] * IMAGES, maps.reshape(IMAGES, SIDE, SIDE))
        write_json(
            root / DATA / "thresholds" / f"{method}.json",
            {"threshold": 0.5, "scale": "value", "calibrated_by": "constant"},
        )
        with MapStore(path) as store:
            write_table(root / DATA / "boxes" / f"{method}.parquet", localize(store, index, 0.5, RESOLUTION))


def fetch(port: int, page: str) -> bytes:
    """One answer."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/{page}")
    reply = connection.getresponse()
    content = reply.read()
    if reply.status != 200:
        raise RuntimeError(f"{page}: {content!r}")
    return content


def measure(port: int) -> dict[str, float]:
    """Seconds of each step."""
    seconds = {}

    def timed(name: str, pages: list[str]) -> bytes:
        start = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            content = list(pool.map(lambda page: fetch(port, page), pages))
        seconds[name] = time.perf_counter() - start
        return content[-1]

    first = "api/page?data_set=localization&split=test&method={}&outcome=wrong&page={}"
    timed("page, script and overview", ["", "inspect.css", "main.js", "image.js", "grid.js", "api/overview"])
    found = json.loads(timed("first page of the worst", [first.format("ddt", 0)]))
    timed("its 60 thumbnails", [image["thumbnail"] for image in found["images"]])
    timed("another method's outcomes", [first.format("foreground", 0)])
    found = json.loads(timed("second page", [first.format("foreground", 1)]))
    timed("its 60 thumbnails, again", [image["thumbnail"] for image in found["images"]])
    words = f"data_set=localization&id={found['images'][0]['id']}"
    timed("an image", [f"api/image?{words}&method=ddt", f"layer?{words}&layer=maps/ddt", f"picture?{words}"])
    timed("20 boxes of the slider", [f"api/live?{words}&method=ddt&threshold={step / 20}" for step in range(20)])
    return seconds


def main() -> int:
    """Print the seconds and the memory."""
    with tempfile.TemporaryDirectory() as folder:
        write_project(Path(folder))
        words = [sys.executable, "-c", SERVER]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(words, cwd=folder, text=True, **streams) as server:  # type: ignore[call-overload]
            try:
                port = int(re.findall(r":(\d+)/", server.stderr.readline())[0])
                seconds = measure(port)
            finally:
                server.send_signal(2)
            memory = float(server.stdout.read())
    for name, each in seconds.items():
        print(f"{name}: {each * 1e3:.0f} ms")
    paint = sum(list(seconds.values())[:2])
    thumbnails = seconds["its 60 thumbnails"]
    print(f"first paint's data {paint:.2f} s, 60 thumbnails {thumbnails:.2f} s (goals {GOAL_SECONDS:.0f} s)")
    print(f"memory of the server {memory:.0f} MiB (goal {GOAL_MIB:.0f})")
    return int(paint > GOAL_SECONDS or thumbnails > GOAL_SECONDS or memory > GOAL_MIB)


if __name__ == "__main__":
    sys.exit(main())
