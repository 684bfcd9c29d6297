"""The pixel classifier, its low-resolution pseudo masks, and its transfer to another data set."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages import train as train_stage
from tests.small_project import entry, run_network, write_params, write_set
from wsol_core.backbones.create import BackboneParams
from wsol_core.core.boxes import rasterize
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, Kind, MapStore, create
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import Batch
from wsol_core.engine.checkpoints import load_checkpoint, save_checkpoint
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.wsfl import recipe
from wsol_core.methods.wsfl.foreground import ForegroundParams, build, foreground_loss, foreground_maps

PARAMS = ForegroundParams(
    backbone=BackboneParams(name="mobilenetv3_small_050", weights="none"),
    training=TrainingParams(epochs=0, batch=8, lr_backbone=0.1, lr_head=0.1, image_side=32, precision="32-true"),
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
        maps = foreground_maps(model, images, torch.zeros(2, 1))
    assert maps.shape == (2, 1, 14, 14)
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


@pytest.mark.parametrize(("name", "channels"), [("vgg16", 512), ("resnet50", 2048), ("inception_v3", 2048)])
def test_the_papers_networks_give_maps_of_fourteen_by_fourteen_cells(name: str, channels: int) -> None:
    """WSFL 4.2: VGG16 without its last pool, ResNet50 and InceptionV3 without their last strides."""
    backbone = BackboneParams(name=name, weights="none")
    with torch.device("meta"):
        model = build(PARAMS.model_copy(update={"backbone": backbone})).eval()
        assert model(torch.empty((1, 3, 224, 224), dtype=torch.uint8)).shape == (1, 14, 14)
    assert model.head.weight.shape == (1, channels, 1, 1)


def checkpoint(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_checkpoint(path, build(PARAMS).state_dict(), entry("wsfl", "foreground", PARAMS))
    return path


def equal(first: Path, second: Path) -> bool:
    one, other = (load_checkpoint(path).tensors for path in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


MASKS, START, MOVED = Path("data/localization/targets/pseudo_masks.h5"), Path("start.safetensors"), "moved"
TRAINED = Path(f"data/models/{MOVED}.safetensors")


@pytest.fixture
def workspace(tmp_path: Path, small_index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the small data set, its pseudo masks, and a foreground model of another set as `start`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSOL_SCRATCH", str(tmp_path / "scratch"))
    write_set(small_index)
    write_masks(MASKS, small_index.table["image_id"].tolist())
    checkpoint(START, seed=1)
    write_networks(epochs=0)
    return tmp_path


def write_masks(path: Path, ids: list[str]) -> None:
    with create(path, Kind.MASK, 2, 2) as writer:
        writer.append(ids, [CLASS_AGNOSTIC] * len(ids), np.tile(np.eye(2, dtype=np.uint8), (len(ids), 1, 1)))


def write_networks(epochs: int, name: str = MOVED, **changes: Any) -> None:
    """The parameters of one network that starts from another, unless told otherwise."""
    training = PARAMS.training.model_dump(mode="json") | {"epochs": epochs}
    given = {"learns_from": str(MASKS), "starts_from": str(START), "training": training} | changes
    write_params({name: entry("wsfl", "foreground", PARAMS, **given)})


@pytest.mark.usefixtures("workspace")
def test_network_starts_from_the_other_ones_weights_head_and_all() -> None:
    """The weights of its own backbone are not even read."""
    write_networks(epochs=0, backbone=PARAMS.backbone.model_dump() | {"weights": "missing.pth"})
    train_stage.main(MOVED)
    assert equal(TRAINED, START)


@pytest.mark.usefixtures("workspace")
def test_start_of_another_network_is_refused_in_one_line() -> None:
    write_networks(epochs=0, level=-2)
    with pytest.raises(InputError, match=r"start.safetensors: tensor 'head.weight' is .*, the network needs"):
        train_stage.main(MOVED)
    write_networks(epochs=0, starts_from="nothing.safetensors")
    with pytest.raises(InputError, match=r"nothing.safetensors: not a readable checkpoint"):
        train_stage.main(MOVED)


@pytest.mark.usefixtures("workspace")
def test_prediction_without_fine_tuning_keeps_every_weight() -> None:
    outputs = run_network(MOVED)
    assert equal(TRAINED, START)
    curve = pd.read_csv("data/models/loss-moved.csv")
    assert list(curve.columns) == ["epoch", "train", "held_out"]
    assert curve.empty
    with MapStore(outputs / "maps.h5") as maps:
        assert len(maps) == 24


@pytest.mark.usefixtures("workspace")
def test_fine_tuning_moves_the_weights() -> None:
    write_networks(epochs=1)
    train_stage.main(MOVED)
    before, after = (load_checkpoint(path).tensors["head.weight"] for path in (START, TRAINED))
    assert not torch.equal(before, after)


def test_interrupted_fine_tuning_of_another_start_is_not_resumed(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "foreground_loss", stop)
    write_networks(epochs=1)
    for seed in (1, 1, 2):
        checkpoint(START, seed)
        with pytest.raises(KeyboardInterrupt):
            train_stage.main(MOVED)
    assert len(list((workspace / "scratch").iterdir())) == 2


@pytest.mark.usefixtures("workspace")
def test_images_are_weighted_where_their_masks_ignore_cells(small_index: ImageIndex) -> None:
    """Half of the images are sure of one cell in three that may be the object."""
    write_networks(epochs=1, image_weights="agreement")
    with pytest.raises(InputError, match=r"pseudo_masks\.h5: has no ignored pixels"):
        train_stage.main(MOVED)
    ids = small_index.table["image_id"].tolist()
    with create(MASKS, Kind.TRISTATE, 2, 2) as writer:
        unsure, sure = np.array([[1, 255], [255, 0]]), np.array([[0, 1], [0, 1]])
        writer.append(ids, [CLASS_AGNOSTIC] * len(ids), np.stack([(unsure, sure)[n % 2] for n in range(len(ids))]))
    heads = {}
    for weights in ("equal", "agreement"):
        write_networks(epochs=1, image_weights=weights)
        train_stage.main(MOVED)
        found = load_checkpoint(TRAINED)
        assert found.config["image_weights"] == weights
        heads[weights] = found.tensors["head.weight"]
    assert all(torch.isfinite(head).all() for head in heads.values())
    assert not torch.equal(*heads.values())


@pytest.mark.usefixtures("workspace")
def test_an_oracles_masks_may_be_of_some_images_alone_and_pseudo_masks_may_not() -> None:
    some = [f"{number:02d}" for number in range(10)]
    oracle = MASKS.with_name("oracle-few.h5")
    for path in (MASKS, oracle):
        write_masks(path, some)
    write_networks(epochs=0, name="oracle-few", learns_from=str(oracle))
    train_stage.main("oracle-few")
    write_networks(epochs=1)
    with pytest.raises(InputError, match="no map for image '10'"):
        train_stage.main(MOVED)


@pytest.mark.usefixtures("workspace")
def test_what_learns_from_ground_truth_says_so_in_its_name() -> None:
    write_networks(epochs=0, learns_from="data/localization/targets/oracle-lr.h5")
    with pytest.raises(InputError, match="'moved' learns from ground truth: its name must begin with 'oracle-'"):
        train_stage.main(MOVED)
