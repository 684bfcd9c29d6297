"""The map writer against a plain loop; checkpoints; scratch folders."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsol_core.backbones.create import Backbone, BackboneParams, OnBackbone
from wsol_core.backbones.pyramid import Chain, Pyramid, Statistics
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import Block
from wsol_core.core.scratch import scratch_folder
from wsol_core.data.images import decode_squashed
from wsol_core.data.index import ImageIndex
from wsol_core.engine.checkpoints import checkpoint_params, load_checkpoint, restore, save_checkpoint
from wsol_core.engine.devices import launch
from wsol_core.engine.inference import InferenceParams, Predict, padded_labels, resize_images, write_maps
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.wsfl.foreground import ForegroundParams, build

PARAMS = ForegroundParams(
    backbone=BackboneParams(name="mobilenetv3_small_050", weights="none"),
    training=TrainingParams(epochs=1, batch=2, lr_backbone=0.1, lr_head=0.1),
)


PLAIN = Statistics((0, 0, 0), (1, 1, 1), "bilinear")
TRAINING = TrainingParams(epochs=1, batch=7, lr_backbone=0, lr_head=0, image_side=32)


def pool() -> OnBackbone:
    """A network whose one feature map is the image at an eighth."""
    return OnBackbone(Backbone(Pyramid(Chain([("pool", nn.AvgPool2d(8))], ("pool",)), (3,), (8,), PLAIN)))


def brightness(model: OnBackbone, images: Tensor, _: Tensor) -> Tensor:
    return model.backbone(images)[0].mean(1, keepdim=True)


def write(index: ImageIndex, path: Path, predict: Predict = brightness, batch: int = 7, **views: Any) -> None:
    training = TRAINING.model_copy(update={"batch": batch})
    write_maps(launch("32-true"), pool(), predict, index, training, InferenceParams(**views), path)


@pytest.mark.parametrize("batch", [1, 7, 24, 100])
def test_every_image_has_its_own_map_in_order(small_index: ImageIndex, tmp_path: Path, batch: int) -> None:
    path = tmp_path / "maps.h5"
    write(small_index, path, batch=batch)
    with MapStore(path) as maps:
        assert maps.image_ids.tolist() == small_index.table["image_id"].tolist()
        assert maps.shape == (4, 4)
        for row, name in enumerate(small_index.table["path"]):
            image = decode_squashed(small_index.root / name, 32, 32, "bilinear")
            expected = image.reshape(4, 8, 4, 8, 3).mean((1, 3, 4)) / 255
            assert np.allclose(maps[row], expected, atol=1e-3)


def test_not_finite_maps_are_refused_by_name_and_nothing_is_left(small_index: ImageIndex, tmp_path: Path) -> None:
    def broken(model: OnBackbone, images: Tensor, labels: Tensor) -> Tensor:
        return brightness(model, images, labels) * torch.tensor(float("nan"))

    with pytest.raises(InputError, match="'00'"):
        write(small_index, tmp_path / "o" / "m.h5", broken)
    assert not list((tmp_path / "o").iterdir())


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_maps_of_the_images_own_labels(small_index: ImageIndex, tmp_path: Path, batch: int) -> None:
    """Images without, with one and with two labels; the map of label k is k / 10 throughout."""
    table = small_index.table.copy()
    table["labels"] = [[[3], [], [2, 1]][number % 3] for number in range(len(table))]
    index = replace(small_index, table=table)

    def by_label(_: OnBackbone, images: Tensor, labels: Tensor) -> Tensor:
        assert labels.shape == (len(images), 2)
        return (labels / 10).clamp_min(0)[:, :, None, None].expand(-1, -1, 2, 3)

    training = TRAINING.model_copy(update={"batch": batch})
    path = tmp_path / "m.h5"
    write_maps(launch("32-true"), pool(), by_label, index, training, InferenceParams(), path, "labels")
    with MapStore(path) as maps:
        pairs = [(image_id, label) for image_id, own in zip(table["image_id"], table["labels"], strict=True)
                 for label in sorted(own)]  # fmt: skip
        assert list(zip(maps.image_ids.tolist(), maps.labels.tolist(), strict=True)) == pairs
        assert np.allclose(maps[:].max((1, 2)), maps.labels / 10, atol=1e-3)


def test_several_maps_an_image(small_index: ImageIndex, tmp_path: Path) -> None:
    def halves(model: OnBackbone, images: Tensor, labels: Tensor) -> Tensor:
        maps = brightness(model, images, labels)
        return torch.cat([maps, maps / 2], dim=1)

    path = tmp_path / "m.h5"
    write_maps(launch("32-true"), pool(), halves, small_index, TRAINING, InferenceParams(), path, (0, 4))
    with MapStore(path) as maps:
        assert maps.labels.tolist() == [0, 4] * len(small_index.table)
        assert np.allclose(maps[:][::2] / 2, maps[:][1::2], atol=1e-3)


def test_views_are_averaged(small_index: ImageIndex, tmp_path: Path) -> None:
    """A predictor that sees only the left half of a view sees half of both halves of an image and its mirror."""

    def left(model: OnBackbone, images: Tensor, labels: Tensor) -> Tensor:
        maps = brightness(model, images, labels)
        maps[..., maps.shape[3] // 2 :] = 0
        return maps

    write(small_index, tmp_path / "plain")
    write(small_index, tmp_path / "mirrored", left, flip=True)
    write(small_index, tmp_path / "scaled", scales=(1.0, 2.0))
    with (
        MapStore(tmp_path / "plain") as plain,
        MapStore(tmp_path / "mirrored") as mirrored,
        MapStore(tmp_path / "scaled") as scaled,
    ):
        assert np.allclose(mirrored[:], plain[:] / 2, atol=1e-3)
        assert scaled.shape == plain.shape
        assert np.allclose(scaled[:], plain[:], atol=0.02)


def test_scales_are_rounded_to_32_pixels() -> None:
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    assert resize_images(images, 1) is images
    assert resize_images(images, 1.4).shape == (2, 3, 96, 128)
    assert resize_images(images, 0.1).shape == (2, 3, 32, 32)
    assert resize_images(images, 2).dtype == torch.uint8


def test_labels_are_filled_up() -> None:
    assert padded_labels([[5], [], [4, 2]]).tolist() == [[5, -1], [-1, -1], [2, 4]]
    assert padded_labels([[], []]).shape == (2, 0)


def test_checkpoint_comes_back_with_its_parameters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(PARAMS)
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, model.state_dict(), PARAMS.model_dump(mode="json"), ("red", "green"))
    found = load_checkpoint(path)
    assert checkpoint_params(path, found, ForegroundParams) == PARAMS
    assert found.classes == ("red", "green")
    assert all(torch.equal(found.tensors[name], own) for name, own in model.state_dict().items())
    first = path.read_bytes()
    save_checkpoint(path, model.state_dict(), PARAMS.model_dump(mode="json"), ("red", "green"))
    assert path.read_bytes() == first


def test_checkpoint_of_another_shape_is_one_line() -> None:
    model = nn.Linear(2, 3)
    with pytest.raises(InputError, match=r"'weight' is \(3, 4\), the network needs \(3, 2\)"):
        restore(model, nn.Linear(4, 3).state_dict(), Path("x.safetensors"))
    with pytest.raises(InputError, match="lacks tensor 'bias'"):
        restore(model, {"weight": torch.zeros(3, 2)}, Path("x.safetensors"))
    with pytest.raises(InputError, match="unknown tensor 'more'"):
        restore(model, {**model.state_dict(), "more": torch.zeros(1)}, Path("x.safetensors"))


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x80\x04\x95"])
def test_damaged_checkpoint_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint(path)
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "missing.safetensors")


def test_checkpoint_with_other_parameters_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, {"a": torch.zeros(1)}, {"backbone": {"name": "x"}, "old": 1})
    with pytest.raises(InputError, match="not of this version"):
        checkpoint_params(path, load_checkpoint(path), ForegroundParams)


class Rate(Block):
    value: float


def test_scratch_is_kept_on_failure_found_again_and_deleted_on_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSOL_SCRATCH", str(tmp_path / "scratch"))
    source = tmp_path / "input"
    source.write_text("one")
    stopped = scratch_folder("s", {"r": Rate(value=1)}, [source])
    (stopped.__enter__() / "part").write_text("half")
    with pytest.raises(RuntimeError, match="stopped"):
        stopped.gen.throw(RuntimeError("stopped"))
    with scratch_folder("s", {"r": Rate(value=2)}, [source]) as other:
        assert not (other / "part").exists()
    with scratch_folder("s", {"r": Rate(value=1)}, [source], seed=1) as other:
        assert not (other / "part").exists()
    source.write_text("two")
    with scratch_folder("s", {"r": Rate(value=1)}, [source]) as other:
        assert not (other / "part").exists()
    source.write_text("one")
    with scratch_folder("s", {"r": Rate(value=1)}, [source]) as again:
        assert (again / "part").read_text() == "half"
    assert not again.exists()


def test_store_written_twice_has_the_same_bytes(small_index: ImageIndex, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(small_index, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert h5py.is_hdf5(tmp_path / "a")


def test_a_large_input_is_known_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stage reads a feature store of many gigabytes for the name of a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wsol_core.core.scratch.READ_WHOLE", 4)
    source = tmp_path / "large"
    names = []
    for content, time in ((b"12345", 1), (b"54321", 1), (b"54321", 2), (b"543210", 1)):
        source.write_bytes(content)
        os.utime(source, (time, time))
        with scratch_folder("s", {}, [source]) as folder:
            names.append(folder.name)
    assert names[0] == names[1]
    assert len(set(names)) == 3
