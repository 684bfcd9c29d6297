"""The embedded demo: renders two sets in COCO's format, and pictures of background alone.

Each picture depends on `(seed, set, split, number)` and on nothing else, so any number of processes gives the same
bytes.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from wsol_core.core.files import atomic_path
from wsol_core.core.parallel import in_processes
from wsol_core.data.index import SPLITS, TRAIN_WEAKSUP
from wsol_core.datasets.composition import Mask
from wsol_core.datasets.scenes import DemoParams, Scene, SetParams, compose, read_assets, splits_of_assets

SETS = ("localization", "detection", "background")


@dataclass(frozen=True)
class Task:
    """One picture to render: `number` counts from 0 within the split of the set."""

    name: str
    split: str
    number: int

    @property
    def file_name(self) -> str:
        """The picture's file name."""
        return f"{self.split}-{self.number:04d}.jpg" if self.name != "background" else f"{self.number:04d}.jpg"


def render_background(assets: Path, demo: DemoParams, output: Path) -> None:
    """Render the pictures of background alone into `output/*.jpg`."""
    with atomic_path(output) as folder:
        folder.mkdir()
        tasks = [Task("background", TRAIN_WEAKSUP, n) for n in range(demo.backgrounds)]
        list(_render_all(tasks, assets, demo, folder))


def render_set(name: str, assets: Path, demo: DemoParams, output: Path) -> None:
    """Render the set `localization` or `detection`.

    Args:
        name: of the set.
        assets: the folder with `assets.csv`.
        demo: the parameters.
        output: gets `images/*.jpg`, and beside them `SPLIT.json` in COCO's format (masks as uncompressed run lengths;
            none for a split without images).

    Raises:
        InputError: the assets do not serve the parameters.
    """
    params: SetParams = getattr(demo, name)
    with atomic_path(output) as folder:
        (folder / "images").mkdir(parents=True)
        tasks = [Task(name, split, n) for split in SPLITS for n in range(params.count(split))]
        records = list(_render_all(tasks, assets, demo, folder / "images"))
        for split in SPLITS:
            chosen = [record for task, record in zip(tasks, records, strict=True) if task.split == split]
            if chosen:
                content = json.dumps(_coco(chosen, params), sort_keys=True, separators=(",", ":"))
                (folder / f"{split}.json").write_text(content + "\n", encoding="utf-8")


def _render_all(tasks: list[Task], assets: Path, demo: DemoParams, folder: Path) -> Iterator[dict[str, Any]]:
    """Render in several processes; the records come in the order of the tasks."""
    work = partial(render, assets=assets, demo=demo, folder=folder)
    name = tasks[0].name if tasks else ""
    yield from tqdm(in_processes(work, ((task,) for task in tasks)), name, len(tasks), disable=None)


def render(task: Task, assets: Path, demo: DemoParams, folder: Path) -> dict[str, Any]:
    """Render one picture into `folder`; return its COCO image entry with the objects' entries under `annotations`."""
    rng = np.random.default_rng([demo.seed, SETS.index(task.name), SPLITS.index(task.split), task.number])
    alone = task.name == "background"
    params = demo.localization if alone else getattr(demo, task.name)
    first = None if alone else task.number % len(params.classes)
    parts = read_assets(assets, splits_of_assets(task.name, task.split), params)
    scene = compose(rng, parts, params, demo, first)
    Image.fromarray(scene.image).save(folder / task.file_name, quality=demo.jpeg_quality)
    height, width = scene.image.shape[:2]
    return {"file_name": task.file_name, "width": width, "height": height, "annotations": _annotations(scene)}


def _annotations(scene: Scene) -> list[dict[str, Any]]:
    return [
        {
            "category_id": label + 1,
            "bbox": tight_box(mask),
            "area": int(mask.sum()),
            "segmentation": encode_rle(mask),
            "iscrowd": 0,
        }
        for label, mask in zip(scene.labels, scene.masks, strict=True)
    ]


def _coco(records: list[dict[str, Any]], params: SetParams) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records, 1):
        images.append({**record, "id": number})
        for entry in images[-1].pop("annotations"):
            annotations.append({**entry, "id": len(annotations) + 1, "image_id": number})
    categories = [{"id": number, "name": name} for number, name in enumerate(params.classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def encode_rle(mask: Mask) -> dict[str, Any]:
    """COCO's uncompressed run lengths: column by column, the first run counts zeros (it may be 0 long)."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    ends = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], ends, [mask.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def tight_box(mask: Mask) -> list[int]:
    """`[x, y, width, height]` of the pixels that are set."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return [int(n) for n in (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)]
