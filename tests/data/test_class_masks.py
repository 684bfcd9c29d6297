"""Label masks from instance masks and from boxes, against hand-made tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from wsol_core.core.errors import InputError
from wsol_core.data.class_masks import ClassMasks, boxes_mask
from wsol_core.data.index import ANNOTATION_COLUMNS, ImageIndex

WIDTH, HEIGHT = 4, 2


def index(count: int = 1, classes: int = 3) -> ImageIndex:
    rows = [(f"d/{n}", f"{n}.png", "", "test", [0], WIDTH, HEIGHT) for n in range(count)]
    table = pd.DataFrame(rows, columns=["image_id", "path", "digest", "split", "labels", "width", "height"])
    return ImageIndex(table, tuple(f"c{n}" for n in range(classes)), "made-up")


def masks(folder: Path, instances: Any, *objects: tuple[int, int, tuple[int, int, int, int]]) -> ClassMasks:
    """Of one image; an object is its label, its instance and its box."""
    (folder / "d").mkdir(exist_ok=True)
    Image.fromarray(np.array(instances, np.uint8)).save(folder / "d/0.png")
    rows = [("d/0", label, *box, False, instance) for label, instance, box in objects]
    return ClassMasks(folder, index(2), pd.DataFrame(rows, columns=list(ANNOTATION_COLUMNS)))


BOX = (0, 0, 1, 1)


def test_instances_become_classes(tmp_path: Path) -> None:
    found = masks(tmp_path, [[0, 1, 2, 3], [255, 0, 9, 254]], (2, 1, BOX), (0, 2, BOX), (2, 3, BOX), (1, 254, BOX))
    assert found.read("d/0").tolist() == [[0, 3, 1, 3], [255, 0, 255, 2]]
    assert found.images["image_id"].tolist() == ["d/0"]
    assert "d/0" in found
    assert "d/1" not in found


def test_background_in_the_box_of_an_object_without_mask_does_not_count(tmp_path: Path) -> None:
    found = masks(tmp_path, [[1, 1, 0, 0], [0, 0, 0, 0]], (0, 1, (0, 0, 2, 1)), (1, 0, (1, 0, 3, 2)))
    assert found.read("d/0").tolist() == [[1, 1, 255, 0], [0, 255, 255, 0]]


def test_an_image_without_masked_objects_has_no_mask(tmp_path: Path) -> None:
    assert masks(tmp_path, [[1] * WIDTH] * HEIGHT, (0, 0, BOX)).images.empty


@pytest.mark.parametrize("content", [np.ones((2, 3)), np.ones((2, 4, 3)), None])
def test_a_mask_that_does_not_fit_is_refused(tmp_path: Path, content: Any) -> None:
    found = masks(tmp_path, [[1] * WIDTH] * HEIGHT, (0, 1, BOX))
    if content is None:
        (tmp_path / "d/0.png").write_bytes(b"none")
    else:
        Image.fromarray(content.astype(np.uint8)).save(tmp_path / "d/0.png")
    with pytest.raises(InputError, match=r"d/0\.png: not a mask of 4 x 2 pixels"):
        found.read("d/0")


def test_more_classes_than_a_mask_can_name_are_refused(tmp_path: Path) -> None:
    none = pd.DataFrame([], columns=list(ANNOTATION_COLUMNS))
    assert ClassMasks(tmp_path, index(classes=254), none).images.empty
    with pytest.raises(InputError, match="made-up: 255 classes"):
        ClassMasks(tmp_path, index(classes=255), none)


def test_boxes_hold_the_pixels_whose_centre_they_hold() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 4):
        low = rng.uniform(-2, 7, (count, 2))
        boxes = np.hstack([low, low + rng.uniform(0, 5, (count, 2))]).astype(np.float32)
        expected = np.zeros((5, 7), np.uint8)
        for y in range(5):
            for x in range(7):
                expected[y, x] = any(a <= x + 0.5 < c and b <= y + 0.5 < d for a, b, c, d in boxes)
        np.testing.assert_array_equal(boxes_mask(boxes, 7, 5), expected)
    assert boxes_mask(np.array([[1, 1, 3, 2]], np.float32), 4, 3).tolist() == [[0] * 4, [0, 1, 1, 0], [0] * 4]
