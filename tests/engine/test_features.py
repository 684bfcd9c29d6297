"""Cached features: the store, networks on it, and the same networks on images."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError

from stages import features as features_stage
from stages import maps as maps_stage
from stages import train as train_stage
from tests.engine.test_recipes import write_pseudo_labels
from tests.tiny_backbone import use_tiny_backbone
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import MapStore
from wsol_core.data.images import decode_squashed
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.engine.devices import launch
from wsol_core.engine.feature_pairs import FeaturePairs
from wsol_core.engine.feature_store import FeatureStore
from wsol_core.engine.features import FeatureParams, frozen_backbone, pack, unpack, view_of
from wsol_core.engine.recipe import load_network
from wsol_core.methods.wsfl.foreground import ForegroundParams

STORE = Path("data/localization/features/frozen.h5")
NETWORKS: dict[str, dict[str, Any]] = {
    "foreground": {"method": "wsfl", "network": "foreground", "learns_from": "data/localization/targets/masks.h5"},
    "cam": {"method": "spol", "network": "cam", "levels": [-2, -1], "maps": "class_agnostic"},
    "segmentation": {
        "method": "spol", "network": "segmentation", "levels": [-2, -1],
        "learns_from": "data/localization/targets/tristate.h5",
    },
    "classifier": {"method": "classifier", "network": "classifier"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def project(tmp_path: Path, small_index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """The small data set with pseudo labels, and a backbone of two levels, (16, 8, 8) and (24, 4, 4) at 32 pixels."""
    use_tiny_backbone(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSOL_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    write_index(Path("data/localization/index.parquet"), small_index)
    write_pseudo_labels(small_index)
    return small_index


def write_params(features: dict[str, Any] | None = None, **training: Any) -> None:
    """Entries of all networks on one store."""
    frozen = {"backbone": {"name": "resnet50", "weights": "none"}, "levels": [-2, -1], "side": 32, **(features or {})}
    fit = {"epochs": 3, "batch": 8, "lr_head": 0.02, "optimizer": {"name": "adamw"}, **training}
    networks = {name: {**entry, "sees": str(STORE), "training": fit} for name, entry in NETWORKS.items()}
    content = {"seed": 0, "inference": {"flip": False}, "features": {"frozen": frozen}, "networks": networks}
    Path("params.yaml").write_text(yaml.safe_dump(content))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_rows_are_the_backbones_levels_of_every_view(project: ImageIndex) -> None:
    write_params({"views": ["plain", "mirrored", "turned"], "batch": 5})
    features_stage.main("frozen")
    backbone = frozen_backbone(FeatureParams(**yaml.safe_load(Path("params.yaml").read_text())["features"]["frozen"]))
    table = project.table
    pictures = [decode_squashed(project.root / path, 32, 32, backbone.interpolation) for path in table["path"]]
    images = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures])
    with FeatureStore(STORE) as store:
        assert store.shapes == ((16, 8, 8), (24, 4, 4))
        assert store.image_ids == table["image_id"].tolist()
        assert store.row_shape == (3, 16 * 64 + 24 * 16)
        rows = torch.cat(list(store.reader(launch("32-true"), project).read(range(24))))
        for number, view in enumerate(("plain", "mirrored", "turned")):
            for level, expected in enumerate(backbone(view_of(images, view))):
                torch.testing.assert_close(store.level(rows, level)[:, number], expected, atol=2e-3, rtol=2e-3)
        with pytest.raises(InputError, match="none of number -3"):
            store.level(rows, -3)
    with h5py.File(STORE) as file:
        assert (file["rows"].dtype, file["rows"].chunks) == (np.float16, (1, *file["rows"].shape[1:]))
        assert file["rows"].compression is None


def test_two_runs_give_the_same_bytes() -> None:
    write_params()
    features_stage.main("frozen")
    first = digest(STORE)
    features_stage.main("frozen")
    assert digest(STORE) == first


def test_packed_rows_are_unpacked_as_they_were() -> None:
    levels = [torch.rand(2, 3, 4, 5).half().float(), torch.rand(2, 6, 1, 1).half().float()]
    rows = pack(levels)
    assert (rows.shape, rows.dtype) == ((2, 66), torch.float16)
    for found, expected in zip(unpack(rows, [(3, 4, 5), (6, 1, 1)]), levels, strict=True):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("view", ["plain", "mirrored", "turned"])
def test_a_view_undoes_itself(view: Any) -> None:
    maps = torch.arange(12.0).view(1, 3, 4)
    assert torch.equal(view_of(view_of(maps, view), view), maps)
    corner = {"plain": 0.0, "mirrored": 3.0, "turned": 11.0}[view]
    assert float(view_of(maps, view)[0, 0, 0]) == corner


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("views", [["plain"], ["plain", "mirrored"]])
def test_heads_learn_and_are_the_same_twice_and_without_a_store(name: str, views: list[str]) -> None:
    digests = []
    for keep in ("always", "always", "never"):
        write_params({"store": keep, "views": views})
        features_stage.main("frozen")
        train_stage.main(name)
        loss = np.loadtxt(f"data/models/loss-{name}.csv", delimiter=",", skiprows=1)[:, 1]
        assert loss[-1] < loss[0]
        maps_stage.main(name, "localization")
        tensors = load_network(Path(f"data/models/{name}.safetensors")).model.state_dict()
        heads = b"".join(tensors[key].numpy().tobytes() for key in sorted(tensors))
        outputs = [digest(path) for path in sorted(Path(f"data/localization/outputs/{name}").iterdir())]
        digests.append((hashlib.sha256(heads).hexdigest(), outputs))
    assert digests[0] == digests[1] == digests[2]
    with h5py.File(STORE) as file:
        assert "rows" not in file


@pytest.mark.parametrize("views", [["plain"], ["mirrored", "plain"]])
def test_a_network_says_of_images_what_it_says_of_their_features(project: ImageIndex, views: list[str]) -> None:
    """On the other data set, and for `predict`, there is no store."""
    write_params({"views": views})
    features_stage.main("frozen")
    train_stage.main("foreground")
    maps_stage.main("foreground", "localization")
    write_index(Path("data/detection/index.parquet"), project)
    maps_stage.main("foreground", "detection")
    with (
        MapStore(Path("data/localization/outputs/foreground/maps.h5")) as of_features,
        MapStore(Path("data/detection/outputs/foreground/maps.h5")) as of_images,
    ):
        np.testing.assert_allclose(of_features[:], of_images[:], atol=2e-3)


def test_a_checkpoint_keeps_the_frozen_weights_as_they_were() -> None:
    write_params()
    features_stage.main("frozen")
    train_stage.main("foreground")
    network = load_network(Path("data/models/foreground.safetensors"))
    assert network.params.features is not None
    before = frozen_backbone(network.params.features).state_dict()
    after = network.model.backbone.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert network.params.training.inference_side == 32


class Numbers:
    """Targets by position."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, position: int) -> Any:
        return self.values[position]


@pytest.mark.parametrize("views", [["plain"], ["plain", "mirrored"]])
@pytest.mark.parametrize("kept", [True, False])
def test_features_and_targets_are_mirrored_together(
    project: ImageIndex, views: list[str], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:
        monkeypatch.setattr("wsol_core.engine.feature_pairs.CACHE_BYTES", 0)
    write_params({"views": views})
    features_stage.main("frozen")
    maps = np.random.default_rng(0).random((24, 2, 3), dtype=np.float32)
    boxes = np.tile(np.array([0.1, 0.2, 0.4, 0.9], np.float32), (24, 1))
    with FeatureStore(STORE) as store:
        rows = store.reader(launch("32-true"), project)
        plain = torch.cat(list(rows.read(range(24))))
        for targets in (maps, boxes, np.arange(24)):
            pairs = FeaturePairs(store, rows, Numbers(targets), flip=True, seed=3)
            keys = [[(1, position) for position in range(24)]]
            (batch,) = pairs.batches(keys)
            moved = [not torch.equal(batch.inputs[n], plain[n, 0]) for n in range(24)]
            assert 4 < sum(moved) < 20
            for number in np.flatnonzero(moved):
                expected = pack([view_of(level, "mirrored") for level in unpack(plain[number, :1], store.shapes)])[0]
                expected = plain[number, 1] if "mirrored" in views else expected
                assert torch.equal(batch.inputs[number], expected)
            if targets is maps:
                flipped = np.array([m[:, ::-1] if move else m for m, move in zip(maps, moved, strict=True)])
                np.testing.assert_array_equal(batch.targets.numpy(), flipped)
            elif targets is boxes:
                mirrored = np.array([[0.6, 0.2, 0.9, 0.9] if move else boxes[0] for move in moved], np.float32)
                np.testing.assert_allclose(batch.targets.numpy(), mirrored, atol=1e-6)
            else:
                assert batch.targets.tolist() == list(range(24))
            (held_out,) = pairs.batches([[(-1, position) for position in range(24)]])
            assert torch.equal(held_out.inputs, plain[:, 0])
            assert torch.equal(pairs[(1, 5)][0], batch.inputs[5])


def test_what_does_not_fit_is_one_line(project: ImageIndex) -> None:
    write_params()
    features_stage.main("frozen")
    train_stage.main("foreground")
    write_params({"side": 64})
    features_stage.main("frozen")
    with pytest.raises(InputError, match="other features than the network was trained on; train it again"):
        maps_stage.main("foreground", "localization")
    more = replace(project, table=project.table.assign(image_id=[f"new-{n}" for n in range(24)]))
    with FeatureStore(STORE) as store, pytest.raises(InputError, match="no features of image 'new-0'"):
        store.reader(launch("32-true"), more)
    STORE.write_bytes(b"not HDF5")
    with pytest.raises(InputError, match="not a readable feature store"):
        FeatureStore(STORE)
    for levels in ([-3], [-1, -2], [-1, -1]):
        with pytest.raises(InputError, match="ascending, each once"):
            frozen_backbone(FeatureParams(levels=levels, backbone={"name": "resnet50", "weights": "none"}))


@pytest.mark.parametrize("idle", [{"backbone": {}}, {"output_stride": 16}])
def test_what_the_features_decide_is_not_said_again(idle: dict[str, Any]) -> None:
    entry: dict[str, Any] = {"sees": str(STORE), "training": {"epochs": 1, "lr_head": 0.1}}
    assert ForegroundParams.model_validate(entry).sees_features
    with pytest.raises(ValidationError, match="of no effect on cached features"):
        ForegroundParams.model_validate({**entry, **idle})
    with pytest.raises(ValidationError, match="of no effect on cached features"):
        ForegroundParams.model_validate({**entry, "training": {"epochs": 1, "lr_head": 0.1, "image_side": 224}})
    with pytest.raises(ValidationError, match=r"training.lr_backbone\n  Field required"):
        ForegroundParams.model_validate({"training": entry["training"]})
