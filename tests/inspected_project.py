"""A small project with artifacts of every kind, made by hand: what `wsol inspect` reads, without a network trained."""

import json
import shutil
import subprocess
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tests.tiny_networks import write_threshold
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.files import write_table
from wsol_core.core.map_store import CLASS_AGNOSTIC, IGNORE, Kind, MapStore, create
from wsol_core.data.index import SPLITS, ImageIndex, write_annotations, write_index
from wsol_core.localization.localize import localize

WIDTH, HEIGHT, SIDE = 64, 48, 14
CLASSES = ("red", "green", "blue")
METHODS = {"ddt": 0.5, "cam": 0.25}
RESOLUTION = 32
PARTS, PARTED = 2, 3
"""Maps inside the network `cam`, of how many images."""
PARAMS = """preset: small
methods: {ddt: {}, cam: {}}
localize: {resolution: 32, scale: value, components: largest, min_area: 0.01}
"""
LOCK = """schema: '2.0'
stages:
  localize@ddt:
    cmd: python -m stages.localize ddt
    params:
      params.yaml:
        localize: {resolution: 32, scale: value, components: largest, min_area: 0.01}
    outs:
    - {path: data/localization/boxes/ddt.parquet, hash: md5, md5: abc, size: 1}
  ddt_boxes:
    cmd: python -m stages.ddt_boxes
    params:
      params.yaml:
        ddt: {weights: /home/somebody/weights.pth}
    outs:
    - {path: data/localization/outputs/ddt, hash: md5, md5: abc.dir}
"""


def make_project(root: Path, images: int, shift: float = 0.0) -> None:
    """Write `root/data` and `root/params.yaml`; `shift` moves the maps, so that projects can be told apart."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    corners = rng.uniform(0, 0.5, (images, 2))
    corners = np.hstack([corners, corners + rng.uniform(0.25, 0.5, (images, 2))])
    boxes = (corners * [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)
    _draw(root / "data/rendered/localization", boxes, rng)
    for name in ("localization", "detection"):
        data = root / "data" / name
        index = _index(name, images)
        write_index(data / "index.parquet", index)
        _truth(data, index, boxes)
        _maps(data, index, corners + shift)
    _pseudo(root / "data/localization", index, boxes)
    _detection(root / "data/detection", index, boxes)


def make_versions(root: Path) -> None:
    """A DVC project at `root`: a commit tagged `first`, and from it the experiment `trial`, whose maps differ.

    One stage, never run, has all of the data. The workspace holds what the experiment does.
    """
    from dvc.repo import Repo

    def git(*words: str) -> None:
        settings = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *settings, *words], check=True, capture_output=True)

    root.mkdir()
    outs = [f"data/{name}" for name in ("localization", "detection", "rendered")]
    stage = {"cmd": "true", "params": ["localize"], "outs": outs}
    with chdir(root):
        git("init", "-q")
        repo = Repo.init()
        make_project(root, 12)
        Path("dvc.yaml").write_text(json.dumps({"stages": {"everything": stage}}), encoding="utf-8")
        repo.commit(force=True)
        git("add", "-A")
        git("commit", "-q", "-m", "first")
        git("tag", "first")
        shutil.rmtree("data")
        make_project(root, 12, shift=0.2)
        repo.commit(force=True)
        repo.experiments.save(name="trial")
        repo.close()


def _index(name: str, images: int) -> ImageIndex:
    numbers = np.arange(images)
    table = pd.DataFrame(
        {
            "image_id": [f"{number % 3}/{number:05d}" for number in numbers],
            "path": [f"{number:05d}.jpg" for number in numbers],
            "digest": [f"{number:032x}" for number in numbers],
            "split": np.where(numbers % 4 == 3, SPLITS[2], np.where(numbers % 10 == 0, SPLITS[1], SPLITS[0])),
            "labels": [[int(number % 3)] for number in numbers],
            "width": WIDTH,
            "height": HEIGHT,
        }
    )
    table = table.sort_values("image_id").reset_index(drop=True)
    return ImageIndex(table, CLASSES, f"small-{name}", "data/rendered/localization")


def _draw(folder: Path, boxes, rng) -> None:
    folder.mkdir(parents=True)
    for number, box in enumerate(boxes.astype(int)):
        picture = rng.integers(0, 80, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        picture[box[1] : box[3], box[0] : box[2], number % 3] = 255
        Image.fromarray(picture).save(folder / f"{number:05d}.jpg")


def _of_index(index: ImageIndex, rows):
    """Rows that were made in the order of the numbers, in the order of the index."""
    return rows[index.table["image_id"].str[2:].astype(int).to_numpy()]


def _boxes(index: ImageIndex, boxes, **columns) -> pd.DataFrame:
    table = pd.DataFrame({"image_id": index.table["image_id"]})
    table[list(BOX_COLUMNS)] = _of_index(index, boxes)
    labels = index.table["labels"].map(lambda labels: labels[0]).astype(np.int32)
    return table.assign(label=labels, **columns)


def _truth(data: Path, index: ImageIndex, boxes) -> None:
    write_annotations(data / "truth" / "annotations.parquet", _boxes(index, boxes, difficult=False, instance=1))
    for row in _boxes(index, boxes).to_dict("records"):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[int(row["y0"]) : int(row["y1"]), int(row["x0"]) : int(row["x1"])] = 1
        path = data / "truth" / "masks" / f"{row['image_id']}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)


def _maps(data: Path, index: ImageIndex, corners) -> None:
    """Hills over the boxes, DDT's per class, without a map of the last image; boxes as `localize` makes them."""
    ids = index.table["image_id"].tolist()[:-1]
    centres, spreads = (corners[:, :2] + corners[:, 2:]) / 2, (corners[:, 2:] - corners[:, :2]) / 2
    grid = (np.arange(SIDE) + 0.5) / SIDE
    x = np.exp(-(((grid - centres[:, :1]) / spreads[:, :1]) ** 2))
    y = np.exp(-(((grid - centres[:, 1:]) / spreads[:, 1:]) ** 2))
    hills = _of_index(index, (y[:, :, None] * x[:, None, :]).astype(np.float32))[:-1]
    labels = [int(own[0]) for own in index.table["labels"]][:-1]
    for method, threshold in METHODS.items():
        path = data / "outputs" / method / "maps.h5"
        with create(path, Kind.SCORE, SIDE, SIDE) as writer:
            own = labels if method == "ddt" else [CLASS_AGNOSTIC] * len(ids)
            writer.append(ids, own, hills if method == "ddt" else hills**2)
        if data.name == "localization":
            write_threshold(data.parents[1], method, threshold)
            with MapStore(path) as store:
                write_table(data / "boxes" / f"{method}.parquet", localize(store, index, threshold, RESOLUTION))
    with create(data / "outputs/cam/layers.h5", Kind.SCORE, SIDE, SIDE) as writer:
        for image_id, hill in zip(ids[:PARTED], hills, strict=False):
            writer.append(
                [image_id] * PARTS, list(range(PARTS)), np.stack([hill ** (1 + part) for part in range(PARTS)])
            )


def _pseudo(data: Path, index: ImageIndex, boxes) -> None:
    ids, labels = index.table["image_id"].tolist(), [CLASS_AGNOSTIC] * len(index.table)
    write_table(data / "pseudo_boxes.parquet", _boxes(index, boxes - 1, score=np.float32(1)))
    maps = np.tile(np.array([[0, 1], [1, 0]], np.uint8), (len(ids), 1, 1))
    with create(data / "targets" / "pseudo_masks.h5", Kind.MASK, 2, 2) as writer:
        writer.append(ids, labels, maps)
    maps[:, 1, 1] = IGNORE
    with create(data / "targets" / "gaussian-cam.h5", Kind.TRISTATE, 2, 2) as writer:
        writer.append(ids, labels, maps)


def _detection(data: Path, index: ImageIndex, boxes) -> None:
    table = _boxes(index, boxes, score=np.float32(0.5))
    twice = pd.concat([table, table.assign(score=np.float32(0.9), x1=table["x1"] + 4)])
    twice = twice.sort_values(["image_id", "score"], ascending=[True, False]).reset_index(drop=True)
    for place in ("detections/oicr", "objectness/cam", "proposals"):
        write_table(data / f"{place}.parquet", twice)
    for image_id in index.table["image_id"][:3]:
        path = data / "segments" / "sec" / f"{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH), 2, np.uint8)).save(path)
