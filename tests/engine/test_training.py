"""The training loop: schedules, groups, geometry, and a killed run that ends like an undisturbed one."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.limited_disk import limited_disk
from wsol_core.backbones.create import Backbone, BackboneParams, OnBackbone
from wsol_core.backbones.pyramid import Chain, Pyramid, Statistics
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, Kind, create
from wsol_core.data.index import TRAIN_FULLSUP, TRAIN_WEAKSUP, ImageIndex, write_index
from wsol_core.data.loading import Batch, Geometry, SquashedImages, TrainingSet
from wsol_core.data.targets import StoredTargets
from wsol_core.engine.checkpoints import load_checkpoint, save_checkpoint
from wsol_core.engine.devices import launch
from wsol_core.engine.fit import fit_network, training_set
from wsol_core.engine.recipe import Answer, LabelRecipe, Output
from wsol_core.engine.targets import class_labels, images_with_maps, stored_maps
from wsol_core.engine.training import Loss, Trainer, create_optimizer, parameter_groups
from wsol_core.engine.training_params import NetworkParams, OptimizerParams, TrainingParams, rate_factor

PARAMS = TrainingParams(epochs=3, batch=5, lr_backbone=0.01, lr_head=0.1, image_side=16, precision="32-true")


class Net(nn.Module):
    """A convolution called backbone, dropout (so that the random state matters), and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(torch.relu(self.backbone(images.float() / 255)))).squeeze(1)
        return logits


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(model(batch.inputs), batch.targets)


def pairs(index: ImageIndex, split: str, geometry: Geometry = PARAMS.geometry) -> TrainingSet:
    rows = index.split(split)
    images = SquashedImages(index.root, rows, geometry.resize, geometry.resize, "bilinear", keep=True)
    targets = [np.full((8, 8), float(i % 2), dtype=np.float32) for i in range(len(rows))]
    return TrainingSet(images, targets, geometry, seed=3)


def train(index: ImageIndex, folder: Path, held_out: bool = True) -> tuple[dict[str, Tensor], pd.DataFrame]:
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    trainer = Trainer(launch("32-true"), Net(), loss, PARAMS, seed=0, folder=folder)
    history = trainer.fit(pairs(index, TRAIN_WEAKSUP), pairs(index, TRAIN_FULLSUP) if held_out else None)
    return dict(trainer.model.module.state_dict()), history


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_loss_falls_and_two_runs_are_equal(small_index: ImageIndex, tmp_path: Path) -> None:
    weights, history = train(small_index, tmp_path / "a")
    again, _ = train(small_index, tmp_path / "b")
    assert same(weights, again)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train"].iloc[-1] < history["train"].iloc[0]
    assert history["held_out"].notna().all()


def test_without_held_out_images_their_loss_is_nan(small_index: ImageIndex, tmp_path: Path) -> None:
    _, history = train(small_index, tmp_path / "a", held_out=False)
    assert history["held_out"].isna().all()


@pytest.mark.parametrize("after", [1, 4, 6])
def test_interrupted_run_ends_like_an_undisturbed_one(
    small_index: ImageIndex, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 images in batches of 5 are 4 steps an epoch: stop inside the first, at its end, and inside the second."""
    expected, curve = train(small_index, tmp_path / "undisturbed")
    monkeypatch.setenv("WSOL_CHECKPOINT_MINUTES", "0")
    steps = 0

    def breaking(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal steps
        if model.training:
            steps += 1
            if steps > after:
                raise KeyboardInterrupt
        return loss(model, batch)

    folder = tmp_path / "stopped"
    folder.mkdir()
    torch.manual_seed(0)
    trainer = Trainer(launch("32-true"), Net(), breaking, PARAMS, seed=0, folder=folder)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(pairs(small_index, TRAIN_WEAKSUP), pairs(small_index, TRAIN_FULLSUP))
    torch.manual_seed(99)
    weights, history = train(small_index, folder)
    assert same(weights, expected)
    pd.testing.assert_frame_equal(history, curve)


def stopped(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of a run that stops in its second epoch."""
    monkeypatch.setenv("WSOL_CHECKPOINT_MINUTES", "0")
    folder.mkdir()
    steps = 0

    def breaking(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal steps
        steps += model.training
        if steps > 6:
            raise KeyboardInterrupt
        return loss(model, batch)

    torch.manual_seed(0)
    trainer = Trainer(launch("32-true"), Net(), breaking, PARAMS, seed=0, folder=folder)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(pairs(index, TRAIN_WEAKSUP), pairs(index, TRAIN_FULLSUP))
    return folder / "checkpoint.pt"


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "other", "folder"])
def test_a_damaged_checkpoint_is_discarded_with_a_word(
    small_index: ImageIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    expected, _ = train(small_index, tmp_path / "undisturbed")
    checkpoint = stopped(small_index, tmp_path / "stopped", monkeypatch)
    whole = bytearray(checkpoint.read_bytes())
    if damage == "flipped":
        with ZipFile(checkpoint) as records:
            largest = max(records.infolist(), key=lambda record: record.file_size)
        whole[largest.header_offset + 200 + len(largest.filename)] ^= 1
    checkpoint.unlink()
    if damage == "folder":
        checkpoint.mkdir()
    elif damage == "other":
        torch.save({"model": {}}, checkpoint)
    else:
        kept = {"empty": 0, "short": len(whole) // 2}.get(damage, len(whole))
        checkpoint.write_bytes(whole[:kept])
    capsys.readouterr()
    weights, _ = train(small_index, tmp_path / "stopped")
    said = capsys.readouterr().err.splitlines()
    warnings = [line for line in said if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert str(checkpoint) in warnings[0]
    assert "weights_only" not in warnings[0]
    assert same(weights, expected)


@pytest.mark.parametrize("most", [100, 3000])
def test_a_full_disk_is_an_error_of_the_system_and_leaves_nothing(
    small_index: ImageIndex, tmp_path: Path, most: int
) -> None:
    (tmp_path / "scratch").mkdir()
    trainer = Trainer(launch("32-true"), Net(), loss, PARAMS, seed=0, folder=tmp_path / "scratch")
    with limited_disk(most), pytest.raises(OSError, match=r"File too large.*checkpoint\.pt"):
        trainer.fit(pairs(small_index, TRAIN_WEAKSUP), None)
    with limited_disk(100), pytest.raises(OSError, match=r"network\.safetensors"):
        save_checkpoint(tmp_path / "scratch/network.safetensors", Net().state_dict(), {})
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("minutes", ["-1", "nan", "inf", "five"])
def test_minutes_between_checkpoints_are_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: str
) -> None:
    monkeypatch.setenv("WSOL_CHECKPOINT_MINUTES", minutes)
    with pytest.raises(InputError, match=f"WSOL_CHECKPOINT_MINUTES={minutes}: not a number"):
        Trainer(launch("32-true"), Net(), loss, PARAMS, seed=0, folder=tmp_path)


def test_a_batch_in_parts_ends_like_the_whole_batch(small_index: ImageIndex, tmp_path: Path) -> None:
    """Parts of 2, 2 and 1 pictures, without dropout, which would draw anew for each."""
    found = []
    for accumulate in (1, 3):
        torch.manual_seed(0)
        net, params = Net(), PARAMS.model_copy(update={"accumulate": accumulate})
        net.drop.p = 0.0
        (tmp_path / str(accumulate)).mkdir()
        trainer = Trainer(launch("32-true"), net, loss, params, seed=0, folder=tmp_path / str(accumulate))
        found.append((trainer.fit(pairs(small_index, TRAIN_WEAKSUP), None), trainer.model.module.state_dict()))
    pd.testing.assert_frame_equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_step_schedule_by_hand() -> None:
    params = PARAMS.model_copy(update={"schedule": "step", "step_epochs": 10, "epochs": 30})
    assert [rate_factor(params, 100 * e, 100) for e in (0, 9, 10, 20)] == pytest.approx([1, 1, 0.1, 0.01])


def test_cosine_one_cycle_and_constant_by_hand() -> None:
    def factor(schedule: str, step: int) -> float:
        return rate_factor(PARAMS.model_copy(update={"schedule": schedule, "epochs": 10}), step, 10)

    assert [factor("cosine", s) for s in (0, 50, 99)] == pytest.approx([1, 0.5, 0.000247], abs=1e-5)
    assert [factor("one_cycle", s) for s in (0, 30, 100)] == pytest.approx([0.04, 1, 0.04])
    assert factor("one_cycle", 15) == pytest.approx(0.52)
    assert factor("constant", 77) == 1


def test_groups_by_name() -> None:
    model = Net()
    backbone, head = parameter_groups(model, PARAMS)
    assert backbone["peak"] == 0.01
    assert {id(p) for p in backbone["params"]} == {id(p) for p in model.backbone.parameters()}
    assert head["peak"] == 0.1
    assert {id(p) for p in head["params"]} == {id(p) for p in model.head.parameters()}


def test_the_optimizer_is_a_choice() -> None:
    groups = parameter_groups(Net(), PARAMS)
    sgd = create_optimizer(groups, OptimizerParams(momentum=0.8, weight_decay=0.2))
    assert isinstance(sgd, torch.optim.SGD)
    assert {(group["momentum"], group["weight_decay"]) for group in sgd.param_groups} == {(0.8, 0.2)}
    adamw = create_optimizer(groups, OptimizerParams(name="adamw", momentum=0.8, weight_decay=0.2))
    assert isinstance(adamw, torch.optim.AdamW)
    assert {(group["betas"], group["weight_decay"]) for group in adamw.param_groups} == {((0.8, 0.999), 0.2)}
    assert [group["lr"] for group in adamw.param_groups] == [0.01, 0.1]


@pytest.mark.parametrize(("top", "left", "mirror"), [(0, 0, False), (4, 6, False), (3, 2, True)])
def test_image_and_target_move_together(top: int, left: int, mirror: bool) -> None:
    """A target as fine as the picture is cropped and mirrored exactly like it."""
    geometry = Geometry(side=15, resize=21, flip=True)
    image = torch.arange(21 * 21).view(1, 21, 21).float()
    moved = geometry.move_image(image, top, left, mirror)[0]
    fine = geometry.move_target(image[0].numpy(), top, left, mirror)
    nearest = nn.functional.interpolate(moved[None, None], (21, 21), mode="nearest-exact")[0, 0]
    assert torch.equal(fine, nearest)


def test_mirrored_coarse_target_by_hand() -> None:
    geometry = Geometry(side=4, resize=4, flip=True)
    target = np.array([[1, 2], [3, 4]], dtype=np.float32)
    assert geometry.move_target(target, 0, 0, True).tolist() == [[2, 1], [4, 3]]
    assert geometry.move_target(target, 0, 0, False).tolist() == [[1, 2], [3, 4]]


def test_geometry_depends_on_epoch_and_position_alone(small_index: ImageIndex) -> None:
    cropped = pairs(small_index, TRAIN_WEAKSUP, Geometry(16, 24, flip=True))
    assert torch.equal(cropped[(1, 2)][0], cropped[(1, 2)][0])
    pictures = [cropped[(epoch, 2)][0] for epoch in range(6)]
    assert any(not torch.equal(pictures[0], other) for other in pictures[1:])
    assert torch.equal(cropped[(-1, 2)][0], cropped[(-1, 2)][0])


def store(path: Path, ids: list[str]) -> Path:
    with create(path, Kind.MASK, 4, 4) as writer:
        for number, image_id in enumerate(ids):
            writer.append([image_id], [CLASS_AGNOSTIC], np.full((1, 4, 4), number % 2))
    return path


def test_stored_targets_read_their_rows(tmp_path: Path) -> None:
    targets = StoredTargets(store(tmp_path / "m.h5", ["a", "b", "c"]), [2, 1])
    assert len(targets) == 2
    assert targets[0].max() == 0
    assert targets[1].min() == 1


def test_image_without_pseudo_label_is_named(small_index: ImageIndex, tmp_path: Path) -> None:
    path = store(tmp_path / "m.h5", [f"{n:02d}" for n in range(15)])
    with pytest.raises(InputError, match="no map for image '15'"):
        training_set(small_index, TRAIN_WEAKSUP, stored_maps(path), PARAMS, "bilinear", 0)


def test_images_with_maps_are_those_of_the_store(small_index: ImageIndex, tmp_path: Path) -> None:
    few = images_with_maps(small_index, store(tmp_path / "m.h5", ["03", "07", "elsewhere"]))
    assert few.table["image_id"].tolist() == ["03", "07"]
    assert few.table.index.tolist() == [0, 1]
    assert few.classes == small_index.classes


def labels_loss(model: nn.Module, batch: Batch) -> Tensor:
    return functional.cross_entropy(model(batch.inputs), batch.targets)


class Classifier(OnBackbone):
    """The smallest: mean colours and a linear layer."""

    def __init__(self) -> None:
        plain = Statistics((0, 0, 0), (1, 1, 1), "bilinear")
        super().__init__(Backbone(Pyramid(Chain([("stem", nn.Conv2d(3, 4, 2, 2))], ("stem",)), (4,), (2,), plain)))
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images)[0].mean((2, 3)))
        return logits


class LossRecipe(LabelRecipe[NetworkParams]):
    """The classifier, which learns from labels by a loss."""

    params = NetworkParams

    def __init__(self, loss: Loss = labels_loss) -> None:
        self._loss = loss

    def build(self, params: NetworkParams, classes: int) -> Classifier:
        del params, classes
        return Classifier()

    def loss(self, params: NetworkParams, index: ImageIndex) -> Loss:
        del params, index
        return self._loss

    def outputs(self, params: NetworkParams, classes: int) -> Mapping[str, Output]:
        del params, classes
        return {}

    def look(self, params: NetworkParams) -> Callable[[OnBackbone, Tensor], Answer]:
        raise NotImplementedError


@pytest.fixture
def workspace(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """A project with the index."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("preset: tiny\nseed: 3\n")
    write_index(INDEX, small_index)
    return small_index


INDEX, TRAINED = Path("data/localization/index.parquet"), Path("data/models/c.safetensors")


def network(training: TrainingParams) -> NetworkParams:
    return NetworkParams(backbone=BackboneParams(name="small", weights="none"), training=training)


def test_a_classifier_learns_from_labels(workspace: ImageIndex) -> None:
    params = network(PARAMS.model_copy(update={"precision": "32-true"}))
    fit_network("c", LossRecipe(), params)
    tensors, config, classes = load_checkpoint(TRAINED)
    assert config == params.model_dump(mode="json")
    assert classes == workspace.classes
    assert tensors["head.weight"].shape == (3, 4)
    curve = pd.read_csv("data/models/loss-c.csv")
    assert curve["train"].iloc[-1] < curve["train"].iloc[0]
    assert curve["held_out"].notna().all()
    assert not list(Path(".wsol").iterdir())


@pytest.mark.usefixtures("workspace")
def test_no_epochs_keep_the_starting_weights() -> None:
    fit_network("c", LossRecipe(), network(PARAMS.model_copy(update={"epochs": 0})))
    torch.manual_seed(3)
    assert same(Classifier().state_dict(), load_checkpoint(TRAINED).tensors)
    assert Path("data/models/loss-c.csv").read_text() == "epoch,train,held_out\n"


def test_the_same_numbers_are_drawn_as_by_the_loop_alone(workspace: ImageIndex, tmp_path: Path) -> None:
    """The seed's weights first; then the loop on moved images."""
    params = network(PARAMS.model_copy(update={"resize": 20}))
    fit_network("c", LossRecipe(), params)
    sets = [training_set(workspace, split, class_labels, params.training, "bilinear", 3) for split in
            (TRAIN_WEAKSUP, TRAIN_FULLSUP)]  # fmt: skip
    assert sets[0] is not None
    torch.manual_seed(3)
    trainer = Trainer(launch("32-true"), Classifier(), labels_loss, params.training, seed=3, folder=tmp_path)
    history = trainer.fit(sets[0], sets[1])
    assert same(dict(trainer.model.module.state_dict()), load_checkpoint(TRAINED).tensors)
    pd.testing.assert_frame_equal(pd.read_csv("data/models/loss-c.csv"), history.round(6))


def test_set_without_training_images_is_refused(workspace: ImageIndex) -> None:
    write_index(INDEX, replace(workspace, table=workspace.split(TRAIN_FULLSUP)))
    with pytest.raises(InputError, match="no image in train-weaksup"):
        fit_network("c", LossRecipe(), network(PARAMS))
    assert not Path("data/models").exists()


SCRIPT = """
import sys, torch
from pathlib import Path
from zipfile import ZipFile
from wsol_core.engine.checkpoints import save_checkpoint
from tests.engine.test_training import Net, PARAMS, loss, pairs
from wsol_core.data.index import read_index
from wsol_core.engine.devices import launch
from wsol_core.engine.training import Trainer
import time

if __name__ == "__main__":
    index = read_index(Path(sys.argv[1]))
    pause = float(sys.argv[3])

    def slow(model, batch):
        time.sleep(pause)
        return loss(model, batch)

    torch.manual_seed(0)
    Path(sys.argv[2]).mkdir(exist_ok=True)
    trainer = Trainer(launch("32-true"), Net().eval() if sys.argv[4:] else Net(), slow, PARAMS, 0, Path(sys.argv[2]))
    trainer.fit(pairs(index, "train-weaksup"), pairs(index, "train-fullsup"))
    if trainer._fabric.is_global_zero:
        save_checkpoint(Path(sys.argv[2] + ".safetensors"), trainer.model.module.state_dict(), {})
"""


@pytest.mark.slow
def test_sigkill_and_run_again_gives_the_same_bytes(small_index: ImageIndex, tmp_path: Path) -> None:
    write_index(tmp_path / "index.parquet", small_index)
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = {**os.environ, "WSOL_CHECKPOINT_MINUTES": "0", "PYTHONPATH": str(Path.cwd())}

    def start(name: str, pause: float) -> "subprocess.Popen[bytes]":
        words = [sys.executable, str(script), str(tmp_path / "index.parquet"), str(tmp_path / name), str(pause)]
        return subprocess.Popen(words, env=environment, start_new_session=True)

    assert start("whole", 0).wait(120) == 0
    victim = start("killed", 0.5)
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    while not checkpoint.exists():
        assert victim.poll() is None
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    assert start("killed", 0).wait(120) == 0
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


@pytest.mark.usefixtures("workspace")
def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    def broken(model: nn.Module, batch: Batch) -> Tensor:
        return labels_loss(model, batch) * torch.tensor(float("nan"))

    with pytest.raises(InputError, match="the loss is nan in epoch 1; lower the rates"):
        fit_network("c", LossRecipe(broken), network(PARAMS))
    assert not Path("data/models").exists()
