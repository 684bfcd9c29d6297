"""The pixel classifier and the low-resolution pseudo masks."""

import math

import numpy as np
import pytest
import torch

from wsol_core.backbones.create import BackboneParams
from wsol_core.data.loading import Batch
from wsol_core.methods.wsfl import ForegroundParams, build, foreground_loss, foreground_maps
from wsol_core.pseudo_masks import rasterize
from wsol_core.training import TrainingParams

PARAMS = ForegroundParams(
    backbone=BackboneParams(name="mobilenetv3_small_050", weights="none"),
    training=TrainingParams(epochs=1, batch=2, backbone_rate=0.1, head_rate=0.1),
)


def naive_mask(box: np.ndarray, width: int, height: int, resolution: int) -> np.ndarray:
    """Cell by cell: is its centre, in pixels of the image, inside the box?"""
    mask = np.zeros((resolution, resolution), dtype=np.uint8)
    for row in range(resolution):
        for column in range(resolution):
            x, y = (column + 0.5) * width / resolution, (row + 0.5) * height / resolution
            mask[row, column] = box[0] <= x < box[2] and box[1] <= y < box[3]
    return mask


def test_masks_equal_the_naive_rule() -> None:
    generator = np.random.default_rng(0)
    sides = generator.integers(20, 300, (50, 2))
    low = generator.random((50, 2)) * 0.5
    boxes = np.concatenate([low, low + 0.3 + generator.random((50, 2)) * 0.2], axis=1) * np.tile(sides, 2)
    found = rasterize(boxes.astype(np.float32), sides[:, 0], sides[:, 1], 14)
    for box, (width, height), mask in zip(boxes.astype(np.float32), sides, found, strict=True):
        assert np.array_equal(mask, naive_mask(box, width, height, 14))


@pytest.mark.parametrize("resolution", [1, 7, 14, 28])
def test_masks_are_never_empty_and_the_whole_image_is_full(resolution: int) -> None:
    boxes = np.array([[0, 0, 90, 40], [31, 13, 31.5, 13.2], [89.9, 39.9, 90, 40]], dtype=np.float32)
    found = rasterize(boxes, [90] * 3, [40] * 3, resolution)
    assert found.shape == (3, resolution, resolution)
    assert found[0].all()
    assert found[1].sum() == found[2].sum() == 1
    assert found[2, -1, -1] == 1


def test_no_boxes_no_masks() -> None:
    assert rasterize(np.zeros((0, 4), np.float32), [], [], 14).shape == (0, 14, 14)


def test_maps_are_probabilities_of_fourteen_by_fourteen_cells() -> None:
    model = build(PARAMS).eval()
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    with torch.no_grad():
        maps = foreground_maps(model, images)
    assert maps.shape == (2, 14, 14)
    assert ((maps > 0) & (maps < 1)).all()


def test_loss_by_hand_and_resized() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[[0.0, 1.0]]])

    def loss(targets: torch.Tensor) -> float:
        return foreground_loss(Fixed(), Batch(torch.zeros(1, 3, 1, 2), targets)).item()

    expected = (math.log(2) + math.log(1 + math.exp(-1))) / 2
    assert loss(torch.tensor([[[0.0, 1.0]]])) == pytest.approx(expected, rel=1e-6)
    assert loss(torch.ones(1, 1, 1)) == pytest.approx(math.log(1 + math.exp(-0.5)), rel=1e-6)
