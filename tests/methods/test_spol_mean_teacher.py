"""MFF-Net 2's mean teacher: its pace, its answers and the student's view by hand, and a run that is stopped."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wsol_core.backbones.create import BackboneParams
from wsol_core.data.loading import Batch
from wsol_core.engine.devices import launch
from wsol_core.engine.training import Trainer
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.spol.mean_teacher import (
    MeanTeacherNet,
    MeanTeacherParams,
    build_mean_teacher,
    completed,
    mean_teacher_loss,
    strong_view,
)
from wsol_core.methods.spol.networks import segmentation_loss, segmentation_maps

SMALL = BackboneParams(name="mobilenetv3_small_050", weights="none")
TRAINING = TrainingParams(epochs=2, batch=3, lr_backbone=0.01, lr_head=0.01, image_side=32, precision="32-true")


def network(**changes: object) -> MeanTeacherNet:
    torch.manual_seed(0)
    params = {"backbone": SMALL, "training": TRAINING, "levels": (-2, -1)} | changes
    return build_mean_teacher(MeanTeacherParams.model_validate(params))


def images(*sides: int) -> Tensor:
    return torch.randint(0, 256, (4, 3, *sides), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_labels_are_completed_where_the_teacher_is_sure() -> None:
    """Probabilities .9, .1, .6 and .9: sure from .8, but what has a label keeps it."""
    answer = torch.logit(torch.tensor([[[0.9, 0.1], [0.6, 0.9]]]))
    labels = torch.tensor([[[255.0, 255], [255, 0]]])
    assert completed(labels, answer, 0.8).tolist() == [[[1, 0], [255, 0]]]
    assert completed(labels, answer, 0.5).tolist() == [[[1, 0], [1, 0]]]
    assert torch.equal(completed(labels, answer, 0.95), labels)
    assert completed(labels.byte(), answer, 0.8).dtype == torch.uint8


def test_the_answer_is_resized_to_the_labels() -> None:
    answer = torch.tensor([[[-9.0, 9.0]]])
    assert completed(torch.full((1, 2, 4), 255.0), answer, 0.9).tolist() == [[[0, 0, 1, 1]] * 2]


class Says(nn.Module):
    """A network that always says the same."""

    def __init__(self, *outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, _: Tensor) -> list[Tensor]:
        return list(self.outputs)


def test_loss_by_hand() -> None:
    """Of four pixels one has a label, one the teacher's answer; the others carry neither loss nor gradient."""
    student = torch.tensor([[[0.0, 2.0], [-1.0, 5.0]]], requires_grad=True)
    answer = torch.tensor([[[0.0, -9.0], [1.0, -1.0]]], requires_grad=True)
    batch = Batch(torch.zeros(1, 3, 2, 2), torch.tensor([[[1.0, 255.0], [255.0, 255.0]]]))
    said = Says(student, answer)
    loss = mean_teacher_loss(said, batch, 0.9)
    loss.backward()
    assert loss.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(2))) / 4, rel=1e-6)
    assert student.grad is not None
    assert answer.grad is None
    assert (student.grad[0] != 0).tolist() == [[True, True], [False, False]]
    held_out = mean_teacher_loss(Says(answer).eval(), batch, 0.9)
    assert held_out.item() == pytest.approx(math.log(2) / 4, rel=1e-6)


def test_teacher_is_the_mean_of_the_first_students_then_an_exponential_one() -> None:
    model = network(decay=0.6)
    student, teacher = (next(net.parameters()) for net in (model.student, model.teacher))
    found = []
    for value in (1.0, 2.0, 6.0):
        nn.init.constant_(student, value)
        model.follow()
        found.append(teacher.flatten()[0].item())
    assert found == pytest.approx([1, 1.5, 0.6 * 1.5 + 0.4 * 6])
    assert model.updates == 3


def test_teacher_follows_once_per_pass_and_in_training_alone() -> None:
    model, batch = network(), Batch(images(32, 32), torch.zeros(4, 4, 4))
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    model.eval()
    mean_teacher_loss(model, batch, 0.9)
    segmentation_maps(model, images(32, 32), torch.zeros(4, 1))
    assert model.updates == 0
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())
    model.train()
    for _ in range(3):
        mean_teacher_loss(model, batch, 0.9)
    assert model.updates == 3


def test_the_student_learns_and_the_teacher_does_not() -> None:
    model = network()
    mean_teacher_loss(model, Batch(images(32, 32), torch.ones(4, 4, 4)), 0.9).backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith("teacher."), name
        assert (parameter.grad is None) == name.startswith("teacher."), name
    assert not any("backbone" in name for name in (*model.student.state_dict(), *model.teacher.state_dict()))


def test_maps_and_held_out_loss_are_the_teachers() -> None:
    model = network().eval()
    pictures, targets = images(32, 48), torch.ones(4, 8, 8)
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.fill_(math.nan)
        maps = segmentation_maps(model, pictures, torch.zeros(4, 1))
        assert torch.equal(maps[:, 0], torch.sigmoid(model.teacher(model.backbone(pictures))[-1]))
        loss = mean_teacher_loss(model, Batch(pictures, targets), 0.9)
        assert loss == segmentation_loss(model, Batch(pictures, targets))
    assert maps.shape == (4, 1, 2, 3)
    assert torch.isfinite(maps).all()


def test_the_teacher_sees_the_features_as_they_are() -> None:
    """In training too: what the student's view leaves out changes nothing for it."""
    answers: list[Tensor] = []
    for dropout in (0.0, 0.9):
        torch.manual_seed(len(answers))
        with torch.no_grad():
            *student, answer = network(channel_dropout=dropout, erased_side=dropout)(images(32, 32))
        answers.append(answer)
        assert len(student) == 1
        assert not torch.equal(student[0], answer) or dropout == 0
    assert torch.equal(*answers)


def test_strong_view_erases_one_place_of_all_levels() -> None:
    """A square of half the side, whose centre lies in the map: a quarter of it where all of it does."""
    torch.manual_seed(0)
    fine, coarse = strong_view([torch.ones(64, 3, 8, 8), torch.ones(64, 2, 4, 4)], 0.0, 0.5)
    assert (fine == fine[:, :1]).all()
    assert set(fine.unique().tolist()) == {0, 1}
    shares = (1 - fine[:, 0]).mean((1, 2))
    assert shares.max() == 0.25
    assert 0 < shares.min() < 0.25
    enlarged = nn.functional.interpolate(coarse[:, :1], (8, 8))[:, 0]
    assert (enlarged != fine[:, 0]).float().mean() < 0.2  # cells of the coarse level are counted by their centres


def test_strong_view_drops_whole_channels_and_keeps_their_mean() -> None:
    torch.manual_seed(0)
    (seen,) = strong_view([torch.ones(16, 400, 2, 3)], 0.25, 0.0)
    values = seen.flatten(2)
    assert (values == values[:, :, :1]).all()
    assert values.unique().tolist() == pytest.approx([0, 4 / 3])
    assert values.mean().item() == pytest.approx(1, abs=0.05)


def test_with_nothing_left_out_the_views_are_the_same() -> None:
    for features in (torch.rand(2, 3, 1, 1), torch.rand(1, 2, 5, 3)):
        assert torch.equal(strong_view([features], 0.0, 0.0)[0], features)


class TriState:
    """Eight pictures with pseudo labels, a third of whose pixels are ignored."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(key[1])
        picture = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, 3, (4, 4), generator=generator).float()
        return picture, torch.where(labels == 2, 255.0, labels)


def train(folder: Path, stop: int, accumulate: int = 1) -> dict[str, Tensor]:
    """Two epochs of three steps, or until `stop` calls of the loss."""
    steps = 0

    def breaking(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal steps
        steps += 1
        if steps > stop:
            raise KeyboardInterrupt
        return mean_teacher_loss(model, batch, 0.5)

    folder.mkdir(exist_ok=True)
    schedule = TRAINING.model_copy(update={"accumulate": accumulate})
    trainer = Trainer(launch("32-true"), network(), breaking, schedule, seed=0, folder=folder)
    trainer.fit(TriState(), None)
    return dict(trainer.model.module.state_dict())


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_run_that_is_stopped_ends_like_an_undisturbed_one(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSOL_CHECKPOINT_MINUTES", "0")
    expected = train(tmp_path / "undisturbed", 100)
    assert expected["updates"] == 6
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stop)
    found = train(tmp_path / "stopped", 100)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_with_parts_of_batches_the_teacher_follows_once_for_each(tmp_path: Path) -> None:
    assert train(tmp_path / "parts", 100, accumulate=3)["updates"] == 2 * (3 + 3 + 2)
