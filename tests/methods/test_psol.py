"""PSOL: targets that move with the picture, the loss, boxes as maps and back, and its stages."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from stages import maps as maps_stage
from stages import train as train_stage
from tests.small_project import write_params, write_set
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_table
from wsol_core.core.map_store import MapStore
from wsol_core.core.regions import map_box
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import Batch, Geometry
from wsol_core.methods.psol.network import RESOLUTION, box_loss, coverage, relative_boxes


class Fixed(nn.Module):
    """Says the same box of every image."""

    def __init__(self, *box: float) -> None:
        super().__init__()
        self.box = torch.tensor(box)

    def forward(self, images: Tensor) -> Tensor:
        return self.box.expand(len(images), 4)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((0.25, 0.5, 0.5, 0.25), [0, 0, 1, 0], [0, 1, 1, 0]),
        ((0.125, 0.0, 0.25, 1.0), [1, 1, 1, 1], [0.5, 0.5, 0, 0]),
        ((0.75, 0.9, 0.5, 0.5), [0, 0, 0, 0.4], [0, 0, 0, 1]),
        ((0.3125, 0.0, 0.125, 0.0), [0, 0, 0, 0], [0, 0.5, 0, 0]),
    ],
)
def test_coverage_by_hand(box: tuple[float, ...], rows: list[float], columns: list[float]) -> None:
    expected = torch.tensor(rows)[:, None] * torch.tensor(columns)[None]
    torch.testing.assert_close(coverage(torch.tensor([box]), 4)[0], expected.float())


@pytest.mark.parametrize(("threshold", "error"), [(0.4, 1.25), (0.5, 1.0), (0.6, 1.25)])
def test_map_gives_the_box_back_to_a_pixel_of_the_grid(threshold: float, error: float) -> None:
    generator = np.random.default_rng(0)
    low = generator.random((200, 2)) * 0.6
    extent = 0.05 + generator.random((200, 2)) * (0.95 - low)
    maps = coverage(torch.from_numpy(np.concatenate([low, extent], axis=1)).float(), RESOLUTION).numpy()
    expected = np.concatenate([low, np.minimum(low + extent, 1)], axis=1) * [300, 200, 300, 200]
    found = np.stack([map_box(each, threshold, 300, 200, 224) for each in maps])
    assert (np.abs(found - expected) / [300, 200, 300, 200] * 224).max() < error


def test_box_moves_by_hand() -> None:
    geometry = Geometry(side=8, resize=16, flip=True)
    box = np.array([0.25, 0.5, 0.75, 1.0], dtype=np.float32)
    assert geometry.move_box(box, 4, 2, False).tolist() == [0.25, 0.5, 1.0, 1.0]
    assert geometry.move_box(box, 4, 2, True).tolist() == [0.0, 0.5, 0.75, 1.0]
    assert geometry.move_box(box, 0, 8, False).tolist() == [0.0, 1.0, 0.5, 1.0]


@pytest.mark.parametrize(("top", "left", "mirror"), [(0, 0, True), (3, 5, False), (6, 1, True)])
def test_box_moves_as_its_mask_does(top: int, left: int, mirror: bool) -> None:
    """In whole cells both are exact: 14 cells of a picture of 28 pixels, 14 of which stay."""
    geometry = Geometry(side=14, resize=28, flip=True)
    mask = np.zeros((28, 28), dtype=np.float32)
    mask[8:16, 4:18] = 1
    moved = geometry.move_box(np.array([4 / 28, 8 / 28, 18 / 28, 16 / 28], dtype=np.float32), top, left, mirror)
    corner, extent = moved[:2], moved[2:] - moved[:2]
    drawn = coverage(torch.cat([corner, extent])[None], 28)[0]
    torch.testing.assert_close(drawn, geometry.move_target(mask, top, left, mirror), atol=1e-5, rtol=0)


def test_loss_by_hand() -> None:
    targets = torch.tensor([[0.25, 0.25, 0.75, 0.5], [0.0, 0.0, 1.0, 1.0]])
    loss = box_loss(Fixed(0.25, 0.5, 0.5, 0.25), Batch(torch.zeros(2, 3, 1, 1), targets))
    assert loss.item() == pytest.approx(50 * (0.25**2 + (0.25**2 + 0.5**2 + 0.5**2 + 0.75**2)) / 8)


def test_targets_are_shares_of_each_images_sides_in_the_order_of_the_rows() -> None:
    boxes = pd.DataFrame([("a", 10, 0, 20, 8), ("b", 0, 5, 40, 10)], columns=["image_id", *BOX_COLUMNS])
    rows = pd.DataFrame({"image_id": ["b", "a"], "width": [40, 20], "height": [20, 16]})
    found = relative_boxes(boxes, rows)
    assert [each.tolist() for each in found] == [[0, 0.25, 1, 0.5], [0.5, 0, 1, 0.5]]
    assert found[0].dtype == np.float32
    with pytest.raises(InputError, match="no pseudo box for image 'b'"):
        relative_boxes(boxes[:1], rows)


def test_regression_learns_and_writes_a_box_for_every_image(
    small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = Path("data/localization")
    write_set(small_index)
    ids = small_index.table["image_id"]
    boxes = pd.DataFrame({"image_id": ids, "x0": 16.0, "y0": 12.0, "x1": 48.0, "y1": 36.0, "score": 1.0, "label": -1})
    write_table(data / "pseudo_boxes.parquet", boxes)
    training = {"epochs": 3, "batch": 8, "lr_backbone": 0.0, "lr_head": 0.01, "image_side": 32, "resize": 40}
    backbone = {"name": "mobilenetv3_small_050", "weights": "none"}
    learns_from = str(data / "pseudo_boxes.parquet")
    write_params({"psol": {"method": "psol", "learns_from": learns_from, "backbone": backbone, "training": training}})
    train_stage.main("psol")
    curve = pd.read_csv("data/models/loss-psol.csv")
    assert curve["held_out"].iloc[-1] < curve["held_out"].iloc[0]
    maps_stage.main("psol", "localization", "data/localization/index.parquet")
    with MapStore(data / "outputs/psol/maps.h5") as maps:
        assert maps.image_ids.tolist() == ids.tolist()
        assert maps.shape == (RESOLUTION, RESOLUTION)
        for each in maps[:]:
            x0, y0, x1, y1 = map_box(each, 0.5, 64, 48, 224)
            assert 0 <= x0 < x1 <= 64
            assert 0 <= y0 < y1 <= 48
