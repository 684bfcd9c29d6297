"""The recipe that trains Faster R-CNN on pseudo boxes, for a step, on pictures of noise."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsol_core.backbones.create import BackboneParams
from wsol_core.external.ground_truth import read_ground_truth
from wsol_core.external.predicted_boxes import read_boxes

RECIPE = Path(__file__).parents[2] / "docs/faster_rcnn.py"


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, 4):
        Image.fromarray(noise.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 64})
        box = {"id": number, "image_id": number, "category_id": 1 + number % 2, "bbox": [8, 4, 40, 30], "iscrowd": 0}
        annotations.append(box | {"area": 1200})
    kinds = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    path = tmp_path / "pseudo.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations[:2], "categories": kinds}))
    return path


def test_the_recipe_runs_to_coco_results(tmp_path: Path, boxes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "found.json"
    words = ["--train", boxes, "--test", boxes, "--images", tmp_path, "--out", out, "--weights", "none"]
    words += ["--side", "64", "--epochs", "1", "--batch", "2", "--rate", "0.001"]
    monkeypatch.setattr(sys, "argv", ["faster_rcnn.py", *map(str, words)])
    runpy.run_path(str(RECIPE), run_name="__main__")
    found = json.loads(out.read_text())
    assert {row["category_id"] for row in found} <= {"cat", "dog"}
    table, cut, _ = read_boxes(out, read_ground_truth(boxes))
    assert len(table) == len(found)
    assert cut == 0


def test_boxes_are_corners_and_mirrored_ones_too(boxes: Path) -> None:
    recipe = runpy.run_path(str(RECIPE))
    found = recipe["boxes_of"](json.loads(boxes.read_text()))
    assert {number: own[1].tolist() for number, own in found.items()} == {1: [2], 2: [1]}
    assert found[1][0].tolist() == [[8, 4, 48, 34]]
    assert recipe["mirrored"](found[1][0], 96).tolist() == [[48, 4, 88, 34]]


def test_levels_are_those_of_strides_8_to_32() -> None:
    torch.manual_seed(0)
    recipe = runpy.run_path(str(RECIPE))
    model = recipe["faster_rcnn"](BackboneParams(name="efficientnet_lite0", weights="none"), 2, 64)
    features = model.backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(level.shape) for level in features.values()] == [(1, 128, 8, 12), (1, 128, 4, 6), (1, 128, 2, 3)]
