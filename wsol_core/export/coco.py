"""COCO JSON: boxes as `x, y, width, height` in pixels from the image's corner; masks as run lengths (RLE).

COCO's boxes are not rounded and have no pixel to add: a half-open box is corner and difference. Numbers of images and
categories start at 1, in the order of the ids and the classes. `score` stands in each annotation, which readers of
ground truth pass over; an image without any annotation is listed like the others.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from faster_coco_eval.core import mask as run_lengths

from wsol_core.core.boxes import to_xywh
from wsol_core.export.place import MARK
from wsol_core.export.results import BoxResults

Content = dict[str, Any]
ClassMask = tuple[str, int, npt.NDArray[np.uint8]]
"""An image's id, a class, and 1 on its pixels `(height, width)`."""


def write_boxes(results: BoxResults, path: Path) -> None:
    """Write boxes as one JSON file."""
    content = _frame(results.source, results.images, results.classes)
    number = _numbers(results.images)
    rows = zip(
        results.boxes["image_id"], to_xywh(results.corners()).tolist(), results.boxes["score"], results.boxes["label"],
        strict=True,
    )  # fmt: skip
    content["annotations"] = [
        {
            "id": place, "image_id": number[image_id], "category_id": int(label) + 1, "bbox": box,
            "area": box[2] * box[3], "iscrowd": 0, "score": float(score),
        }
        for place, (image_id, box, score, label) in enumerate(rows, start=1)
    ]  # fmt: skip
    _write(content, path)


def write_masks(
    source: str, images: pd.DataFrame, classes: Sequence[str], masks: Iterable[ClassMask], path: Path
) -> None:
    """Write masks as one JSON file, an annotation for each class in each image; boxes are the masks' bounds."""
    content = _frame(source, images, classes)
    number = _numbers(images)
    for place, (image_id, label, mask) in enumerate(masks, start=1):
        code = run_lengths.encode(np.asfortranarray(mask))
        content["annotations"].append({
            "id": place, "image_id": number[image_id], "category_id": label + 1,
            "segmentation": {"size": list(mask.shape), "counts": _text(code["counts"])},
            "bbox": [float(side) for side in run_lengths.toBbox(code)], "area": int(mask.sum()), "iscrowd": 0,
        })  # fmt: skip
    _write(content, path)


def _frame(source: str, images: pd.DataFrame, classes: Sequence[str]) -> Content:
    rows = zip(images["path"], images["width"], images["height"], strict=True)
    return {
        "info": {"description": MARK, "source": source},
        "images": [
            {"id": place, "file_name": path, "width": int(width), "height": int(height)}
            for place, (path, width, height) in enumerate(rows, start=1)
        ],
        "categories": [{"id": place, "name": name} for place, name in enumerate(classes, start=1)],
        "annotations": [],
    }


def _numbers(images: pd.DataFrame) -> dict[str, int]:
    return {str(image_id): place for place, image_id in enumerate(images["image_id"], start=1)}


def _text(counts: bytes | str) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


def _write(content: Content, path: Path) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
