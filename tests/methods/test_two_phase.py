"""Two-Phase learning: each equation by hand, degenerate maps, and the stages from labels to merged maps."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from stages import vote as vote_stage
from tests.small_project import entry, run_network, write_params, write_set
from wsol_core.backbones.create import BackboneParams
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import Batch, Geometry
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.two_phase.phases import (
    LaterPhaseParams,
    MaskedLabels,
    PhaseAnswer,
    PhaseNet,
    PhaseParams,
    build,
    different_labels,
    feedback,
    first_targets,
    later_targets,
    logistic_loss,
    suppress,
    suppression_mask,
    weighted_maps,
)
from wsol_core.methods.two_phase.voting import average, finest, vote

SMALL = BackboneParams(name="mobilenetv3_small_050", weights="none")
TRAINING = TrainingParams(epochs=1, batch=4, lr_backbone=0.01, lr_head=0.01, image_side=64)
Rows = Sequence[tuple[str, int, list[list[float]]]]


def phase_params(**changes: object) -> PhaseParams:
    given = {"backbone": SMALL, "training": TRAINING, "set": "detection", "output_stride": 16, "width": 8}
    return PhaseParams.model_validate(given | changes)


def network(classes: int = 3, **changes: object) -> PhaseNet:
    torch.manual_seed(0)
    return build(phase_params(**changes), classes)


def images(*sides: int) -> Tensor:
    return torch.randint(0, 256, (4, 3, *sides), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Says(PhaseNet):
    """A network that always says the same."""

    def __init__(self, heat: Tensor, logits: Tensor) -> None:
        nn.Module.__init__(self)
        self.answer = PhaseAnswer(heat, logits)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> PhaseAnswer:  # noqa: ARG002
        return self.answer


def write_store(path: Path, rows: Rows) -> Path:
    maps = np.array([own for *_, own in rows], np.float32)
    with create(path, Kind.SCORE, *maps.shape[1:]) as writer:
        writer.append([image_id for image_id, *_ in rows], [label for _, label, _ in rows], maps)
    return path


def table(**labels: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"image_id": list(labels), "labels": list(labels.values())})


# ---------------------------------------------------------------- the suppression mask, Eqs. 1 and 2


def test_mask_of_one_class_eq_1() -> None:
    """What lies above the threshold's share of the maximum is suppressed; the threshold itself is not."""
    score_map = np.array([[[0.5, 0.3], [0.25, 0]]], np.float32)
    assert suppression_mask(score_map, 0.55).tolist() == [[False, False], [True, True]]
    edge = np.array([[[1, 0.5, 0.25]]], np.float32)
    assert suppression_mask(edge, 0.5).tolist() == [[False, True, True]]


def test_masks_of_several_classes_multiply_eq_2() -> None:
    """Each class by its own maximum: the second is weak, and still suppresses where it is highest."""
    maps = np.array([[[1.0, 0.2, 0.0, 0.1]], [[0.0, 0.01, 0.02, 0.005]]], np.float32)
    assert suppression_mask(maps, 0.6).tolist() == [[False, True, False, True]]
    assert suppression_mask(maps, 0.4).tolist() == [[False, False, False, True]]


def test_mask_is_the_same_whatever_the_maps_scale() -> None:
    maps = np.random.default_rng(0).random((3, 5, 7), dtype=np.float32)
    naive = np.ones((5, 7), bool)
    for own in maps:
        for place in np.ndindex(5, 7):
            naive[place] &= not own[place] > np.float32(0.6) * own.max()
    assert 0 < naive.mean() < 1
    for scale in (1, 0.5, 2**-10):
        assert np.array_equal(suppression_mask(maps * np.float32(scale), 0.6), naive)


def test_degenerate_maps_suppress_nothing_or_all() -> None:
    for maps, seen in (
        (np.zeros((2, 2, 3)), True),
        (np.full((1, 2, 3), -1.0), True),
        (np.full((1, 2, 3), 0.4), False),
        (np.full((1, 1, 1), 0.4), False),
        (np.zeros((1, 1, 1)), True),
        (np.zeros((0, 2, 3)), True),
    ):
        mask = suppression_mask(maps.astype(np.float32), 0.6)
        assert mask.shape == maps.shape[1:]
        assert (mask == seen).all()


def test_threshold_one_is_no_feedback() -> None:
    assert suppression_mask(np.random.default_rng(0).random((2, 4, 4), dtype=np.float32), 1).all()


# ---------------------------------------------------------------- suppression, Eqs. 3 and 4


def test_suppression_forward_eq_3() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    assert suppress(features, torch.tensor([[[0.0, 1.0]]])).tolist() == [[[[0, 2]], [[0, 4]]]]


def test_suppression_backward_eq_4() -> None:
    """The gradient before is the mask times the gradient after, in every channel."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 4, 5, generator=generator).requires_grad_()
    after = torch.randn(2, 3, 4, 5, generator=generator)
    mask = (torch.rand(2, 4, 5, generator=generator) > 0.4).float()
    suppress(features, mask).backward(after)
    assert features.grad is not None
    assert torch.equal(features.grad, mask[:, None] * after)


def test_a_mask_of_another_resolution_is_resized_to_the_nearest_cell() -> None:
    features = torch.ones(1, 1, 4, 4)
    coarse = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])
    assert suppress(features, coarse)[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert torch.equal(suppress(features, torch.ones(1, 1, 1)), features)
    assert suppress(features.bfloat16(), coarse).dtype == torch.bfloat16


def masked_batch() -> tuple[Batch, Tensor]:
    """Four images with none to three of three classes, and half of their 4x6 cells suppressed, of the last all."""
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]])
    mask = (torch.rand(4, 4, 6, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    mask[3] = 0
    return Batch(images(64, 96), torch.cat([labels[:, :, None, None].expand(4, 3, 4, 6), mask[:, None]], dim=1)), mask


@pytest.mark.parametrize("autocast", [False, True])
def test_suppressed_cells_get_exactly_no_gradient(autocast: bool) -> None:
    """In the whole network, where every other cell gets some."""
    model, (batch, mask) = network(), masked_batch()
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: object, pyramid: list[Tensor]) -> None:
        pyramid[-1].retain_grad()
        kept.append(pyramid[-1])

    model.backbone.register_forward_hook(keep)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = logistic_loss(model, batch)
    torch.autograd.backward(loss)
    gradient = kept[0].grad
    assert gradient is not None
    strength = gradient.abs().sum(1)
    assert (strength[mask == 0] == 0).all()
    assert (strength[mask == 1] > 0).all()


def test_suppressed_cells_have_no_say() -> None:
    model, (batch, mask) = network(), masked_batch()
    before = logistic_loss(model, batch)

    def change(where: Tensor) -> float:
        def shifted(_: nn.Module, __: object, pyramid: list[Tensor]) -> list[Tensor]:
            return [*pyramid[:-1], pyramid[-1] + 7 * where[:, None]]

        with model.backbone.register_forward_hook(shifted):
            return logistic_loss(model, batch).item()

    assert change(1 - mask) == before.item()
    assert change(mask) != before.item()


def test_an_image_that_is_suppressed_everywhere_teaches_the_new_layers_alone() -> None:
    model = network()
    targets = torch.zeros(4, 4, 1, 1)
    torch.autograd.backward(logistic_loss(model, Batch(images(64, 64), targets)))
    assert all(p.grad is not None and (p.grad == 0).all() for p in model.backbone.parameters())
    assert model.bias.grad is not None
    assert (model.bias.grad != 0).all()


# ---------------------------------------------------------------- weighted maps and voting, Eq. 5


def test_weighted_maps_by_hand_eq_5() -> None:
    """Class 0: 4, 2, -1 at probability 3/4. Class 1: never positive. Class 2: constant, at probability 1/5."""
    heat = torch.tensor([[[[4.0, 2, -1]], [[-1, 0, -3]], [[2, 2, 2]]]])
    model = Says(heat, torch.tensor([[math.log(3), 5, -math.log(4)]]))
    labels = torch.tensor([[0, 2]])
    of_labels = weighted_maps(model, images(4, 4), labels, "label")
    assert torch.allclose(of_labels[0, :, 0], torch.tensor([[0.75, 0.375, 0], [0.2, 0.2, 0.2]]))
    of_all = weighted_maps(model, images(4, 4), labels, "all")
    assert of_all.shape == (1, 3, 1, 3)
    assert torch.equal(of_all[:, [0, 2]], of_labels)
    assert of_all[0, 1].tolist() == [[0, 0, 0]]


def test_weighted_maps_stay_in_range_and_skip_missing_labels() -> None:
    model = Says(torch.tensor([[[[1e-40, 0]], [[1e38, 1]]]]), torch.tensor([[90.0, -200.0]]))
    maps = weighted_maps(model, images(4, 4), torch.tensor([[1, -1]]), "label")
    assert maps.shape == (1, 2, 1, 2)
    assert torch.isfinite(maps).all()
    assert ((maps >= 0) & (maps <= 1)).all()
    assert weighted_maps(model, images(4, 4), torch.empty(1, 0, dtype=torch.int64), "label").shape == (1, 0, 1, 2)


def voted(folder: Path, first: Rows, second: Rows) -> MapStore:
    stores = [MapStore(write_store(folder / f"{n}.h5", rows)) for n, rows in enumerate((first, second))]
    with create(folder / "both.h5", Kind.SCORE, *stores[0].shape) as writer:
        vote(stores[0], stores[1], writer)
    return MapStore(folder / "both.h5")


def test_voting_takes_the_greater_weighted_map_eq_5(tmp_path: Path) -> None:
    """Probabilities 3/4 and 1/2: the second network is heard where the first is silent or less sure."""
    first: Rows = [("a", 0, [[0.75, 0.375, 0]]), ("a", 2, [[0, 0, 0]])]
    second: Rows = [("a", 0, [[0.125, 0.5, 0.25]]), ("a", 2, [[0.5, 0, 0.25]])]
    with voted(tmp_path, first, second) as both:
        assert both.find("a", 0).tolist() == [[0.75, 0.5, 0.25]]  # type: ignore[union-attr]
        assert both.find("a", 2).tolist() == [[0.5, 0, 0.25]]  # type: ignore[union-attr]
        assert both.labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ([("a", 0, [[1.0, 0]]), ("a", 2, [[1.0, 0]])], "label 2"),
        ([("b", 0, [[1.0, 0]])], "image 'a'"),
        ([("a", 0, [[1.0], [0]])], "maps of 1x2 and 2x1; give both phases the same output stride"),
    ],
)
def test_stores_that_differ_cannot_vote(tmp_path: Path, second: Rows, said: str) -> None:
    with pytest.raises(InputError, match=said):
        voted(tmp_path, [("a", 0, [[1.0, 0]])], second)


def averaged(folder: Path, first: Rows, second: Rows) -> MapStore:
    stores = [MapStore(write_store(folder / f"{n}.h5", rows)) for n, rows in enumerate((first, second))]
    with create(folder / "both.h5", Kind.SCORE, *finest(*stores)) as writer:
        average(stores[0], stores[1], writer)
    return MapStore(folder / "both.h5")


def test_mean_of_a_map_per_label_and_a_class_agnostic_one(tmp_path: Path) -> None:
    first: Rows = [("a", 0, [[1.0, 0.5]]), ("a", 2, [[0, 0]])]
    second: Rows = [("a", -1, [[0.5, 0]])]
    with averaged(tmp_path, first, second) as both:
        assert both.find("a", 0).tolist() == [[0.75, 0.25]]  # type: ignore[union-attr]
        assert both.find("a", 2).tolist() == [[0.25, 0]]  # type: ignore[union-attr]
        assert both.labels.tolist() == [0, 2]


def test_the_coarser_of_two_maps_is_enlarged_for_their_mean(tmp_path: Path) -> None:
    """One cell of .5 is .5 everywhere; whichever comes first, the mean has the finer resolution."""
    fine: Rows = [("a", -1, [[1.0, 0], [0.5, 0.25]])]
    coarse: Rows = [("a", -1, [[0.5]])]
    for number, (first, second) in enumerate(((fine, coarse), (coarse, fine))):
        folder = tmp_path / str(number)
        folder.mkdir()
        with averaged(folder, first, second) as both:
            assert both[0].tolist() == [[0.75, 0.25], [0.5, 0.375]]


def test_no_mean_without_the_second_map(tmp_path: Path) -> None:
    for second in ([("b", -1, [[1.0]])], [("a", 1, [[1.0]])]):
        with pytest.raises(InputError, match=r"1\.h5: no map of image 'a' for label 0; make the maps again"):
            averaged(tmp_path, [("a", 0, [[1.0]])], second)


# ---------------------------------------------------------------- targets


def test_feedback_is_that_of_an_images_own_labels(tmp_path: Path) -> None:
    """Image a shows classes 0 and 2; its map of class 1, which it does not show, suppresses nothing."""
    a: Rows = [("a", 0, [[1.0, 0, 0, 0]]), ("a", 1, [[0, 1, 0, 0]]), ("a", 2, [[0, 0, 0.1, 0]])]
    store = write_store(tmp_path / "seen.h5", [*a, ("b", -1, [[0, 0, 0, 1]])])
    masks = feedback(store, table(b=[5], a=[2, 0], c=[]), 0.6)
    assert [mask.tolist() for mask in masks] == [[[1, 1, 1, 0]], [[0, 1, 0, 1]], [[1, 1, 1, 1]]]
    for missing in (table(a=[3]), table(z=[0])):
        with pytest.raises(InputError, match="no map of its label"):
            feedback(store, missing, 0.6)


def test_targets_hold_labels_and_mask(tmp_path: Path) -> None:
    rows = table(a=[2, 0], b=[])
    first = first_targets(3)(rows)
    assert [np.asarray(first[position]).ravel().tolist() for position in range(2)] == [[1, 0, 1, 1], [0, 0, 0, 1]]
    store = write_store(tmp_path / "seen.h5", [("a", 0, [[1.0, 0]]), ("a", 2, [[0, 0]])])
    later = later_targets(3, store, 0.6)(rows)
    assert np.asarray(later[0]).tolist() == [[[1, 1]], [[0, 0]], [[1, 1]], [[0, 1]]]
    assert np.asarray(later[1]).tolist() == [[[0, 0]], [[0, 0]], [[0, 0]], [[1, 1]]]
    assert np.asarray(later[0]).dtype == np.float32


def test_the_mask_moves_with_the_picture() -> None:
    """A mirrored crop of 2 pixels from the top right of a 4x4 picture, in the mask and in no label."""
    mask = np.ones((4, 4), bool)
    mask[0, 3] = False
    target = np.asarray(MaskedLabels([[1]], [mask], 2)[0])
    moved = Geometry(2, 4, True).move_target(target, 0, 2, True)
    assert moved[:2].unique(dim=1).shape[1] == 1
    assert moved[:2, 0, 0].tolist() == [0, 1]
    assert moved[2].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_labels_alone_move_with_no_picture() -> None:
    target = np.asarray(first_targets(2)(table(a=[1]))[0])
    for mirror in (False, True):
        assert Geometry(2, 4, True).move_target(target, 1, 2, mirror).flatten().tolist() == [0, 1, 1]


def test_images_of_one_kind_teach_nothing(small_index: ImageIndex) -> None:
    assert different_labels(small_index) is small_index
    alike = replace(small_index, table=small_index.table.assign(labels=pd.Series([[1, 0], [0, 1]] * 12)))
    with pytest.raises(InputError, match="the same labels"):
        different_labels(alike)
    background = replace(small_index, table=small_index.table.assign(labels=pd.Series([[], [0]] * 12)))
    assert different_labels(background) is background


# ---------------------------------------------------------------- the network


def test_logistic_loss_by_hand() -> None:
    """Probabilities 3/4, 1/2 and 4/5 of three classes, of which the image shows the first two; it counts twice."""
    said = Says(torch.zeros(2, 3, 1, 1), torch.tensor([[math.log(3), 0, math.log(4)]] * 2))
    targets = torch.tensor([1.0, 1, 0, 1]).view(1, 4, 1, 1).expand(2, 4, 2, 2)
    loss = logistic_loss(said, Batch(torch.zeros(2, 3, 2, 2), targets))
    assert loss.item() == pytest.approx(math.log(4 / 3) + math.log(2) + math.log(5))


def test_logits_are_the_average_of_the_heat_maps_and_a_bias() -> None:
    model = network().eval()
    with torch.no_grad():
        model.bias.copy_(torch.tensor([1.0, 2, 3]))
        heat, logits = model(images(64, 96))
    assert heat.shape == (4, 3, 4, 6)
    assert torch.allclose(logits, heat.mean((2, 3)) + torch.tensor([1.0, 2, 3]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert {own.dtype for own in model(images(64, 96))} == {torch.float32}


def test_vgg16_without_pool4_and_pool5_gives_41x41_of_321() -> None:
    model = network(20, backbone=BackboneParams(name="vgg16", weights="none"), output_stride=8).eval()
    with torch.no_grad():
        heat, _ = model(images(321, 321)[:1])
    assert heat.shape == (1, 20, 41, 41)
    assert model.convolve[0].in_channels == 512


def test_the_default_backbone_under_the_same_surgery() -> None:
    model = network(backbone=BackboneParams(name="efficientnet_lite0", weights="none"), output_stride=8).eval()
    with torch.no_grad():
        assert model(images(321, 321)[:1]).heat.shape == (1, 3, 41, 41)


@pytest.mark.parametrize("masked", [False, True])
def test_a_step_lowers_the_loss(masked: bool) -> None:
    model = network()
    targets = torch.tensor([1.0, 0, 1, 1]).view(1, 4, 1, 1).repeat(4, 1, 4, 4)
    targets[:, -1, :2] = float(not masked)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003)
    losses = []
    for _ in range(3):
        value = logistic_loss(model, Batch(images(64, 64), targets))
        losses.append(value.item())
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
    assert all(after < before for before, after in pairwise(losses))


@pytest.mark.parametrize("change", [{"threshold": 1.5}, {"threshold": -0.1}, {"set": "train"}, {"maps": "predicted"}])
def test_bad_params_are_refused(change: dict[str, object]) -> None:
    good = phase_params().model_dump() | {"learns_from": "data/detection/outputs/one/maps.h5"}
    assert LaterPhaseParams.model_validate(good).threshold == 0.6
    with pytest.raises(ValidationError):
        LaterPhaseParams.model_validate(good | change)


# ---------------------------------------------------------------- the stages


def write_phases(chosen: str, maps: str, **second: Any) -> None:
    """Parameters of three phases; each later one is suppressed by what those before it found together."""
    training = TRAINING.model_copy(update={"batch": 8, "precision": "32-true"})
    phase = phase_params(set=chosen, maps=maps, training=training)
    outputs = f"data/{chosen}/outputs"
    write_params(
        {
            "first": entry("two_phase", "first", phase),
            "second": entry("two_phase", "later", phase, learns_from=f"{outputs}/first/maps.h5", **second),
            "third": entry("two_phase", "later", phase, learns_from=f"{outputs}/both/maps.h5", threshold=0.4),
        },
        votes={
            "both": {"set": chosen, "first": "first", "second": "second"},
            "three": {"set": chosen, "first": "both", "second": "third"},
        },
    )


@pytest.mark.parametrize(("chosen", "maps"), [("detection", "label"), ("localization", "label"), ("detection", "all")])
def test_stages(
    small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, maps: str
) -> None:
    """From labels, in the detection set several or none, to the maps of three phases and of two and three merged."""
    monkeypatch.chdir(tmp_path)
    write_phases(chosen, maps)
    table = small_index.table
    labels = [[[0], [1], [1, 0], []][n % 4] for n in range(24)] if chosen == "detection" else table["labels"].tolist()
    write_set(replace(small_index, table=table.assign(labels=pd.Series(labels))), chosen)
    run_network("first", chosen)
    run_network("second", chosen)
    vote_stage.main("both")
    run_network("third", chosen)
    vote_stage.main("three")
    found = {}
    for name in ("first", "second", "both", "third", "three"):
        with MapStore(Path(f"data/{chosen}/outputs/{name}/maps.h5")) as store:
            found[name] = store[:]
            wanted = [sorted(own) if maps == "label" else [0, 1] for own in labels]
            assert store.labels.tolist() == list(chain(*wanted))
            assert store.shape == (4, 4)
    assert np.array_equal(found["both"], np.maximum(found["first"], found["second"]))
    assert np.array_equal(found["three"], np.maximum(found["both"], found["third"]))
    assert not np.array_equal(found["first"], found["second"])


def test_stages_give_the_same_bytes_and_thresholds_matter(
    small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the same is the same; with a threshold of 1 the second phase is another network."""
    monkeypatch.chdir(tmp_path)
    write_set(small_index, "detection")
    weights, merged = Path("data/models/second.safetensors"), Path("data/detection/outputs/both/maps.h5")
    results = []
    for threshold in (0.6, 0.6, 1):
        write_phases("detection", "label", threshold=threshold)
        run_network("first", "detection")
        run_network("second", "detection")
        vote_stage.main("both")
        results.append((weights.read_bytes(), merged.read_bytes()))
    assert results[0] == results[1]
    assert results[1][0] != results[2][0]
