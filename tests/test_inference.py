"""The map writer against a plain loop; checkpoints; scratch folders."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsol_core.backbones.create import BackboneParams
from wsol_core.checkpoints import load_checkpoint, rebuild, restore, save_checkpoint
from wsol_core.data.images import decode_squashed
from wsol_core.data.index import ImageIndex
from wsol_core.devices import launch
from wsol_core.errors import InputError
from wsol_core.inference import write_maps
from wsol_core.maps import MapStore
from wsol_core.methods.wsfl import ForegroundParams, build
from wsol_core.params import Block
from wsol_core.scratch import scratch_folder
from wsol_core.training import TrainingParams

PARAMS = ForegroundParams(
    backbone=BackboneParams(name="mobilenetv3_small_050", weights="none"),
    training=TrainingParams(epochs=1, batch=2, backbone_rate=0.1, head_rate=0.1),
)


def brightness(model: nn.Module, images: Tensor) -> Tensor:
    pooled: Tensor = model(images.float() / 255).mean(1)
    return pooled


@pytest.mark.parametrize("batch", [1, 7, 24, 100])
def test_every_image_has_its_own_map_in_order(small_index: ImageIndex, tmp_path: Path, batch: int) -> None:
    path = tmp_path / "maps.h5"
    write_maps(launch("32-true"), nn.AvgPool2d(8), brightness, small_index, "bilinear", 32, batch, path)
    with MapStore(path) as maps:
        assert maps.image_ids.tolist() == small_index.table["image_id"].tolist()
        assert maps.shape == (4, 4)
        for row, name in enumerate(small_index.table["path"]):
            image = decode_squashed(small_index.root / name, 32, 32, "bilinear")
            expected = image.reshape(4, 8, 4, 8, 3).mean((1, 3, 4)) / 255
            assert np.allclose(maps[row], expected, atol=1e-3)


def test_not_finite_maps_are_refused_by_name_and_nothing_is_left(small_index: ImageIndex, tmp_path: Path) -> None:
    def broken(model: nn.Module, images: Tensor) -> Tensor:
        return brightness(model, images) * torch.tensor(float("nan"))

    with pytest.raises(InputError, match="'00'"):
        write_maps(launch("32-true"), nn.AvgPool2d(8), broken, small_index, "bilinear", 32, 8, tmp_path / "o" / "m.h5")
    assert not list((tmp_path / "o").iterdir())


def test_checkpoint_comes_back_with_its_parameters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(PARAMS)
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, model.state_dict(), PARAMS.model_dump(mode="json"))
    again, params = rebuild(path, ForegroundParams, build)
    assert params == PARAMS
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    first = path.read_bytes()
    save_checkpoint(path, model.state_dict(), PARAMS.model_dump(mode="json"))
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
        rebuild(path, ForegroundParams, build)


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
        assert not list(other.iterdir())
    source.write_text("two")
    with scratch_folder("s", {"r": Rate(value=1)}, [source]) as other:
        assert not list(other.iterdir())
    source.write_text("one")
    with scratch_folder("s", {"r": Rate(value=1)}, [source]) as again:
        assert (again / "part").read_text() == "half"
    assert not again.exists()


def test_store_written_twice_has_the_same_bytes(small_index: ImageIndex, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_maps(launch("32-true"), nn.AvgPool2d(8), brightness, small_index, "bilinear", 32, 8, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert h5py.is_hdf5(tmp_path / "a")
