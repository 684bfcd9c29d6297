"""A workspace of a few made-up images with boxes, soft maps of these boxes, and everything that report reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.files import write_table
from wsol_core.core.map_store import Kind, create
from wsol_core.data.index import SPLITS, ImageIndex, write_annotations, write_index

PARAMS = """
preset: small
seed: 0
localize: {resolution: 64}
calibrate: {step: 0.05, images: 100}
methods:
  ddt: {calibrated_on: data/localization/pseudo_boxes.parquet}
  foreground: {calibrated_on: data/localization/pseudo_boxes.parquet}
  segmentation-foreground: {calibrated_on: data/localization/pseudo_boxes.parquet}
networks:
  foreground: {method: wsfl, learns_from: data/localization/targets/pseudo_masks.h5}
  segmentation-foreground: {method: spol, learns_from: data/localization/targets/gaussian-foreground.h5}
heat_maps: {}
segments: {}
detectors: {}
objectness: {sets: [detection], methods: [foreground]}
report: {images: 3, proposals: 4, side: 64}
"""

COUNT = 24
SIDE = 28


def make_index(name: str = "localization", count: int = COUNT) -> ImageIndex:
    ids = [f"{i % 2}/picture{i:02d}" for i in range(count)]
    table = pd.DataFrame({
        "image_id": ids,
        "path": [f"{image_id}.png" for image_id in ids],
        "digest": "",
        "split": [SPLITS[i % 3] for i in range(count)],
        "labels": [[i % 2] for i in range(count)],
        "width": [40 + i for i in range(count)],
        "height": [60 - i for i in range(count)],
    })  # fmt: skip
    return ImageIndex(table.sort_values("image_id", ignore_index=True), ("cat", "dog"), name, f"images/{name}")


def make_boxes(index: ImageIndex) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    sizes = index.table[["width", "height"]].to_numpy()
    low = sizes * rng.uniform(0.05, 0.35, sizes.shape)
    high = sizes * rng.uniform(0.6, 0.9, sizes.shape)
    boxes = pd.DataFrame(np.hstack([low, high]).astype(np.float32), columns=list(BOX_COLUMNS))
    boxes.insert(0, "image_id", index.table["image_id"])
    return boxes.assign(label=np.array([labels[0] for labels in index.table["labels"]], np.int32), score=np.float32(1))


def rows_of(table: pd.DataFrame) -> Iterator[Any]:
    yield from table.itertuples()


def make_map(box: npt.NDArray[np.float32], width: int, height: int, level: float) -> npt.NDArray[np.float32]:
    """A map that is right at thresholds about `level`: a tent whose height at the box's sides is `level`."""
    x, y = (np.arange(SIDE) + 0.5) / SIDE * width, (np.arange(SIDE) + 0.5) / SIDE * height
    x0, y0, x1, y1 = box
    across = np.abs(x - (x0 + x1) / 2) / (x1 - x0) * 2
    down = np.abs(y - (y0 + y1) / 2) / (y1 - y0) * 2
    return np.clip(1 - (1 - level) * np.maximum(down[:, None], across[None]), 0, 1).astype(np.float32)


def write_maps(path: Path, index: ImageIndex, boxes: pd.DataFrame, level: float, kind: Kind = Kind.SCORE) -> None:
    with create(path, kind, SIDE, SIDE) as writer:
        for row, box in zip(rows_of(index.table), boxes[list(BOX_COLUMNS)].to_numpy(), strict=True):
            score_map = make_map(box, row.width, row.height, level)
            if kind is not Kind.SCORE:
                between = 255 if kind is Kind.TRISTATE else 0
                score_map = np.where(score_map > 0.6, 1, np.where(score_map > 0.2, between, 0))
            writer.append([row.image_id], [-1], score_map[None].astype(kind.dtype))


def write_images(folder: Path, index: ImageIndex) -> None:
    rng = np.random.default_rng(1)
    for row in rows_of(index.table):
        path = folder / index.source / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (row.height, row.width, 3), dtype=np.uint8))


def build(folder: Path, annotated: bool = True) -> None:
    """Write it into `folder`, where the stages are to run: the methods' maps are right at .2 (ddt), .5 and .7."""
    (folder / "params.yaml").write_text(PARAMS)
    for name in ("localization", "detection"):
        index, data = make_index(name), folder / "data" / name
        boxes = make_boxes(index)
        write_images(folder, index)
        write_index(data / "index.parquet", index)
        ground_truth = boxes.assign(difficult=False, instance=1)
        write_annotations(data / "truth/annotations.parquet", ground_truth if annotated else ground_truth[:0])
        write_table(data / "pseudo_boxes.parquet", boxes)
        write_table(data / "objectness" / "foreground.parquet", pd.concat([boxes, boxes.assign(score=np.float32(0.5))]))
        for method, level in (("ddt", 0.2), ("foreground", 0.5), ("segmentation-foreground", 0.7)):
            write_maps(data / "outputs" / method / "maps.h5", index, boxes, level)
        write_maps(data / "targets/pseudo_masks.h5", index, boxes, 0.5, Kind.MASK)
        write_maps(data / "targets/gaussian-foreground.h5", index, boxes, 0.5, Kind.TRISTATE)
