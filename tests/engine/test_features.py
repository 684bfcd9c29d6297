"""Cached features: the store, networks on it, and the same networks on images."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
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
from tests.commands import run
from tests.engine.test_recipes import NAMES as RECIPES
from tests.engine.test_recipes import UNTRAINED, write_pseudo_labels
from tests.engine.test_recipes import write_params as write_entry
from tests.limited_disk import limited_disk
from tests.tiny_backbone import use_tiny_backbone
from tests.tiny_networks import write_threshold
from wsol_core.configuration.expand import expand
from wsol_core.configuration.parameters import typed
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import MapStore
from wsol_core.data.images import decode_squashed
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.engine.devices import launch
from wsol_core.engine.feature_pairs import FeaturePairs
from wsol_core.engine.feature_store import ComputedRows, FeatureStore, regrouped
from wsol_core.engine.features import FeatureParams, frozen_backbone, pack, unpack, view_of
from wsol_core.engine.recipe import find_recipe, load_network
from wsol_core.engine.training_params import IDLE_ON_FEATURES
from wsol_core.methods.wsfl.foreground import ForegroundParams
from wsol_core.prediction.predictor import Predictor

PROJECT = Path(__file__).parents[2]
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
    content = {
        "seed": 0, "inference": {"flip": False}, "localize": {"resolution": 64},
        "features": {"frozen": frozen}, "networks": networks,
    }  # fmt: skip
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
        for number, view in enumerate(store.params.views):
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
        maps_stage.main(name, "localization", str(STORE))
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
    maps_stage.main("foreground", "localization", str(STORE))
    write_index(Path("data/detection/index.parquet"), project)
    maps_stage.main("foreground", "detection", "data/detection/index.parquet")
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
        maps_stage.main("foreground", "localization", str(STORE))
    more = replace(project, table=project.table.assign(image_id=[f"new-{n}" for n in range(24)]))
    with FeatureStore(STORE) as store, pytest.raises(InputError, match="no features of image 'new-0'"):
        store.reader(launch("32-true"), more)
    STORE.write_bytes(b"not HDF5")
    with pytest.raises(InputError, match="not a readable feature store"):
        FeatureStore(STORE)
    for levels in ([-3], [-1, -2], [-1, -1]):
        with pytest.raises(InputError, match="ascending, each once"):
            frozen_backbone(FeatureParams(levels=levels, backbone={"name": "resnet50", "weights": "none"}))


@pytest.mark.parametrize("views", [["mirrored"], ["turned", "mirrored"], ["plain", "plain"], []])
def test_views_hold_the_plain_one_and_each_once(views: list[str]) -> None:
    with pytest.raises(ValidationError):
        FeatureParams(views=views)


def damage(change: str) -> None:
    with h5py.File(STORE, "r+") as file:
        if change.startswith("rows"):
            rows = file["rows"][:]
            del file["rows"]
        match change:
            case "params" | "shapes":
                del file.attrs[change]
            case "image_id":
                del file["image_id"]
            case "rows of fewer images":
                file["rows"] = rows[1:]
            case "rows of another width":
                file["rows"] = rows[..., 1:]
            case "rows of another type":
                file["rows"] = rows.astype(np.float32)


@pytest.mark.parametrize(
    "change",
    ["params", "shapes", "image_id", "rows", "rows of fewer images", "rows of another width", "rows of another type"],
)
def test_a_damaged_store_is_one_line_and_is_closed(change: str) -> None:
    write_params()
    features_stage.main("frozen")
    damage(change)
    with pytest.raises(
        InputError, match=r"frozen\.h5: not a readable feature store .* run the stage that makes it again"
    ):
        FeatureStore(STORE)
    assert not opened_files()


def opened_files() -> list[str]:
    """The feature stores that this process has open."""
    files = h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)
    names = (h5py.h5f.get_name(file).decode() for file in files)
    return [name for name in names if name.endswith(STORE.name)]


def test_stores_are_closed_when_stages_end() -> None:
    write_params()
    features_stage.main("frozen")
    assert not opened_files()
    with FeatureStore(STORE):
        assert opened_files() == [str(STORE)]
    train_stage.main("classifier")
    maps_stage.main("classifier", "localization", str(STORE))
    assert not opened_files()


def test_features_that_float16_does_not_hold_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def huge(self: Any, images: Any) -> list[torch.Tensor]:
        del self
        return [torch.full((len(images), 16, 8, 8), 1e6).half().float(), torch.zeros(len(images), 24, 4, 4)]

    write_params()
    monkeypatch.setattr("wsol_core.engine.features.FrozenBackbone.forward", huge)
    with pytest.raises(InputError, match="resnet50: features that float16 does not hold"):
        features_stage.main("frozen")
    assert not list(STORE.parent.iterdir())


def test_a_full_disk_and_a_kill_leave_the_store_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    write_params()
    features_stage.main("frozen")
    before, read = digest(STORE), ComputedRows.read

    def stopped(self: ComputedRows, positions: Sequence[int]) -> Iterator[torch.Tensor]:
        yield next(read(self, positions))
        raise KeyboardInterrupt

    write_params({"side": 64})
    with limited_disk(40_000), pytest.raises(OSError, match="File too large"):
        features_stage.main("frozen")
    monkeypatch.setattr(ComputedRows, "read", stopped)
    with pytest.raises(KeyboardInterrupt):
        features_stage.main("frozen")
    assert [path.name for path in STORE.parent.iterdir()] == [STORE.name]
    assert digest(STORE) == before
    assert not opened_files()


def test_blocks_are_cut_anew() -> None:
    def blocks() -> Iterator[torch.Tensor]:
        for start in range(0, 12, 5):
            yield torch.arange(start, min(start + 5, 12))

    assert [each.tolist() for each in regrouped(blocks(), [1, 7, 4])] == [[0], [1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11]]
    assert [len(each) for each in regrouped(blocks(), [5, 5, 2])] == [5, 5, 2]
    assert not list(regrouped(iter(()), []))


@pytest.mark.parametrize("store", ["always", "never"])
@pytest.mark.parametrize("views", [["plain"], ["turned", "mirrored", "plain"]])
def test_batches_are_the_same_in_memory_and_read_anew(
    project: ImageIndex, store: str, views: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params({"store": store, "views": views, "batch": 5})
    features_stage.main("frozen")
    order = np.random.default_rng(0).permutation(24).tolist()
    keys = [[(2, position) for position in order[start : start + 7]] for start in range(0, 24, 7)]
    with FeatureStore(STORE) as opened:
        rows = opened.reader(launch("32-true"), project)
        maps = Numbers(np.random.default_rng(0).random((24, 2, 3), dtype=np.float32))
        kept = list(FeaturePairs(opened, rows, maps, flip=True, seed=3).batches(keys))
        monkeypatch.setattr("wsol_core.engine.feature_pairs.CACHE_BYTES", 24 * maps.values[0].nbytes)
        pairs = FeaturePairs(opened, rows, maps, flip=True, seed=3)
        for found, expected in zip(pairs.batches(keys), kept, strict=True):
            assert torch.equal(found.inputs, expected.inputs)
            assert torch.equal(found.targets, expected.targets)
        assert not list(pairs.batches([]))


@pytest.mark.parametrize("name", RECIPES)
def test_every_network_learns_from_features_or_says_that_it_needs_images(name: str) -> None:
    write_entry(name, epochs=0 if name in UNTRAINED else 1)
    content = yaml.safe_load(Path("params.yaml").read_text())
    entry = content["networks"]["net"]
    del entry["backbone"], entry["training"]["lr_backbone"], entry["training"]["image_side"]
    entry["sees"] = str(STORE)
    frozen = {"backbone": {"name": "resnet50", "weights": "none"}, "levels": [-2, -1], "side": 32}
    content["features"] = {"frozen": frozen}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    features_stage.main("frozen")
    if name in ("bcct/binary", "bcct/features", "bcct/joint", "two_phase/first"):
        with pytest.raises(InputError, match=r"networks\.net\.sees: a network that needs the images themselves"):
            train_stage.main("net")
        return
    train_stage.main("net")
    maps_stage.main("net", "localization", str(STORE))
    outputs = sorted(Path("data/localization/outputs/net").iterdir())
    assert outputs
    for path in outputs:
        if path.suffix == ".h5":
            with MapStore(path) as store:
                assert set(store.image_ids) <= {f"{number:02d}" for number in range(24)}
                assert store[:].std() > 0


@pytest.mark.parametrize(("losses", "needed"), [(("seed", "expand"), False), (("seed", "constrain"), True)])
def test_a_crf_needs_the_images(losses: tuple[str, ...], needed: bool) -> None:
    recipe = find_recipe("sec")
    params = recipe.params.model_validate({"losses": losses, "training": {"epochs": 1, "lr_backbone": 0, "lr_head": 0}})
    assert recipe.needs_images(params) == needed


@pytest.mark.parametrize("views", [["plain"], ["plain", "mirrored"]])
def test_what_is_exported_says_what_the_stage_says(project: ImageIndex, views: list[str]) -> None:
    write_params({"views": views})
    features_stage.main("frozen")
    train_stage.main("foreground")
    maps_stage.main("foreground", "localization", str(STORE))
    write_threshold(Path(), "foreground", 0.5)
    for out in ("model.safetensors", "model.pt2"):
        done = run("export", "model", "--method", "foreground", "--out", out)
        assert done.exit_code == 0, done.stderr
    pictures = [project.root / path for path in project.table["path"][:4]]
    with MapStore(Path("data/localization/outputs/foreground/maps.h5")) as store:
        stored = store[:4]
    shutil.rmtree("data")
    predictor = Predictor.load("model.safetensors", device="cpu")
    assert predictor.side == 32
    squashed = [predictor.squash(path) for path in pictures]
    seen = np.stack([each.score_map for each in predictor.look(squashed)])
    np.testing.assert_allclose(seen, stored, atol=2e-3)
    extra = {"wsol export.json": ""}
    program = torch.export.load("model.pt2", extra_files=extra).module()
    images = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in squashed])
    described = json.loads(extra["wsol export.json"])
    assert described["inference"] == {"flip": "mirrored" in views, "scales": [1.0]}
    maps = [program(images)[0]]
    if described["inference"]["flip"]:
        maps.append(program(images.flip(3))[0].flip(2))
    np.testing.assert_allclose(torch.stack(maps).mean(0).detach().numpy(), stored, atol=2e-3)


@pytest.mark.parametrize("sees", ["data/localization/index.parquet", str(STORE)])
def test_params_yaml_hides_what_features_decide(sees: str) -> None:
    training = {"epochs": 1, "lr_head": 0.1} | ({} if sees == str(STORE) else {"lr_backbone": 0.25})
    network = {"method": "wsfl", "network": "foreground", "sees": sees, "training": training}
    content = yaml.safe_load(Path(PROJECT / "params.yaml").read_text()) | {"networks": {"net": network}, "transfer": {}}
    written = yaml.safe_load(expand(typed(content)))["networks"]["net"]
    hidden = {field for field in IDLE_ON_FEATURES if find(written, field) is None}
    assert hidden == (set(IDLE_ON_FEATURES) if sees == str(STORE) else set())
    assert "features" not in written
    assert written["training"]["lr_head"] == 0.1
    assert typed(content | {"networks": {"net": written}}).networks["net"].sees == sees


def find(block: dict[str, Any], field: str) -> Any:
    """A field, also of a nested block (`training.resize`), or None."""
    found: Any = block
    for key in field.split("."):
        found = found.get(key)
        if found is None:
            return None
    return found


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
