"""BC-CT: each equation by hand, Eq. 1 against autograd, degenerate maps, balanced draws, background images."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from stages import gradient_masks as masks_stage
from stages import train as train_stage
from tests.engine.test_training import PARAMS as SCHEDULE
from tests.engine.test_training import Net, loss, pairs
from tests.small_project import entry, run_network, write_params, write_set
from wsol_core.backbones.create import Backbone
from wsol_core.backbones.pyramid import Chain, Pyramid, Statistics
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore
from wsol_core.data.class_scores import read_ranked
from wsol_core.data.index import INDEX_COLUMNS, TRAIN_FULLSUP, TRAIN_WEAKSUP, ImageIndex, read_index, write_index
from wsol_core.data.loading import Batch, EqualParts
from wsol_core.engine.checkpoints import load_checkpoint
from wsol_core.engine.devices import launch
from wsol_core.engine.fit import joined, training_set
from wsol_core.engine.targets import has_label
from wsol_core.engine.training import Trainer
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.bcct.binary import (
    BinaryNet,
    FeatureNet,
    GradientParams,
    backward,
    binary_loss,
    build_binary,
    build_features,
    gradient_maps,
    ranks,
    smooth,
)
from wsol_core.methods.bcct.ct import LabelledMasks, ct_loss
from wsol_core.methods.bcct.masks import largest_parts
from wsol_core.methods.bcct.pixel_supervision import (
    ClassificationNet,
    CTAnswer,
    CTParams,
    MaskLoss,
    branch_maps,
    class_maps,
    mask_loss,
    several_classes,
)
from wsol_core.methods.bcct.surroundings import folders_of_classes

SMALL = {"name": "mobilenetv3_small_050", "weights": "none"}
TRAINING = TrainingParams(
    epochs=1, batch=8, lr_backbone=0.01, lr_head=0.01, image_side=32, precision="32-true", flip=False
)
GRADIENT = GradientParams.model_validate({"backbone": SMALL, "training": TRAINING, "resolution": 8, "smoothing": 0.1})
LOSSES: tuple[MaskLoss, ...] = ("bce", "foreground", "none")


def backbone() -> Backbone:
    """One convolution and a smooth non-linearity."""
    torch.manual_seed(0)
    plain = Statistics((0.5, 0.4, 0.3), (0.2, 0.3, 0.5), "bilinear")
    return Backbone(
        Pyramid(Chain([("stem", nn.Conv2d(3, 4, 3, 2, 1)), ("bend", nn.Tanh())], ("bend",)), (4,), (2,), plain)
    )


def pictures(*sides: int, count: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, 3, *sides), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Says(nn.Module):
    """A network that always says the same."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, _: Tensor) -> Any:
        return self.answer


# Eqs. 1 and 2


def test_the_gradient_is_autograds_of_half_the_square() -> None:
    """Image by image, on float pixels in [0, 1], against one call for the batch."""
    model = BinaryNet(backbone(), -1)
    images = pictures(6, 8)
    together = backward(model, images)
    for image, own in zip(images, together, strict=True):
        pixels = (image[None] / 255).requires_grad_()
        (model(pixels) ** 2 / 2).sum().backward()
        assert pixels.grad is not None
        torch.testing.assert_close(pixels.grad[0], own)
    assert together.abs().max() > 0


def test_the_gradient_of_a_linear_network_by_hand() -> None:
    """2 red - 3 blue on the image's means: (f 2/N, 0, f -3/N) at each of its N = 2 pixels."""

    class Linear(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            red, _, blue = images.mean((2, 3)).unbind(1)
            return 2 * red - 3 * blue

    images = torch.tensor([255, 0, 255, 255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 2)
    answer = 2 * 0.5 - 3 * 0
    assert backward(Linear(), images).flatten().tolist() == pytest.approx([answer, answer, 0, 0, -1.5, -1.5])
    values = GRADIENT.model_copy(update={"strength": "value"})
    assert gradient_maps(Linear(), images, torch.empty(0), values).flatten().tolist() == pytest.approx([1] * 64)


def test_the_gradient_comes_where_gradients_are_off_and_leaves_no_trace() -> None:
    model = BinaryNet(backbone(), -1)
    with torch.no_grad():
        maps = gradient_maps(model, pictures(6, 8), torch.empty(0), GRADIENT)
    torch.testing.assert_close(maps, gradient_maps(model, pictures(6, 8), torch.empty(0), GRADIENT))
    assert all(weight.grad is None for weight in model.parameters())
    assert maps.shape == (3, 1, 8, 8)
    assert maps.amax((1, 2, 3)).tolist() == pytest.approx([1, 1, 1])


def test_features_are_their_own_gradient() -> None:
    model = FeatureNet(backbone(), -1)
    images = pictures(6, 8)
    pixels = (images / 255).requires_grad_()
    (model(pixels) ** 2 / 2).sum().backward()
    assert pixels.grad is not None
    torch.testing.assert_close(backward(model, images), pixels.grad)


def test_ranks_by_hand() -> None:
    """Equal values have one rank, that of the lowest place; a constant map has rank 0 everywhere."""
    maps = torch.tensor([[[3.0, 1.0], [1.0, 7.0]], [[5.0, 5.0], [5.0, 5.0]]])
    assert ranks(maps).tolist() == [[[0.5, 0], [0, 0.75]], [[0, 0], [0, 0]]]
    assert ranks(torch.ones(2, 1, 1)).tolist() == [[[0]], [[0]]]


@pytest.mark.parametrize("strength", ["rank", "value"])
def test_a_gradient_of_zero_gives_a_map_of_zeros(strength: str) -> None:
    class Blind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (0 * images).sum((1, 2, 3))

    params = GRADIENT.model_copy(update={"strength": strength})
    assert gradient_maps(Blind(), pictures(4, 4), torch.empty(0), params).max() == 0


@pytest.mark.parametrize("sides", [(5, 9), (1, 1), (4, 1)])
def test_smoothing_equals_the_plain_sum(sides: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(2, *sides, generator=generator)
    found = smooth(maps, 3, 0.2)
    for row in range(3):
        for column in range(3):
            weights = torch.empty(sides)
            for y in range(sides[0]):
                for x in range(sides[1]):
                    across = (x + 0.5) / sides[1] - (column + 0.5) / 3
                    down = (y + 0.5) / sides[0] - (row + 0.5) / 3
                    weights[y, x] = math.exp(-(across**2 + down**2) / (2 * 0.2**2))
            expected = (maps * weights).sum((1, 2)) / weights.sum()
            torch.testing.assert_close(found[:, row, column], expected)


def test_smoothing_keeps_a_constant_however_narrow() -> None:
    for deviation in (1e-6, 0.05, 1.0):
        torch.testing.assert_close(smooth(torch.full((1, 7, 5), 0.3), 4, deviation), torch.full((1, 4, 4), 0.3))


def array(*rows: str) -> npt.NDArray[np.float32]:
    """A map from digits that stand for tenths."""
    return np.array([[int(digit) / 10 for digit in row] for row in rows], dtype=np.float32)


def test_the_largest_part_from_delta_on_by_hand() -> None:
    """At .8 of .5 a pixel of .4 still belongs: a diagonal pair beats the maximum itself."""
    score_map = array("5000", "0034", "0043", "0000")
    found = largest_parts(score_map[None], 0.8)[0]
    assert found.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert largest_parts(score_map[None], 0.9)[0].tolist() == [[1, 0, 0, 0], *[[0] * 4] * 3]


def test_degenerate_maps_have_defined_masks() -> None:
    assert largest_parts(np.zeros((1, 3, 2), np.float32), 0.8).all()
    assert largest_parts(np.full((1, 3, 2), 0.4, np.float32), 0.8).all()
    assert largest_parts(np.full((1, 1, 1), 0.4, np.float32), 0.8).tolist() == [[[1]]]
    assert largest_parts(np.zeros((0, 3, 2), np.float32), 0.8).shape == (0, 3, 2)
    equal = array("900", "000", "009")
    assert largest_parts(equal[None], 0.8)[0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


# Eqs. 3 to 6


def test_binary_cross_entropy_by_hand() -> None:
    """p = 3/4 for a target, 1/5 for a background: -(ln 3/4 + ln 4/5) / 2."""
    logits = torch.tensor([math.log(3), -math.log(4)])
    batch = Batch(torch.empty(0), torch.tensor([1, 0]))
    assert binary_loss(Says(logits), batch).item() == pytest.approx(-math.log(3 / 4 * 4 / 5) / 2)


MASK = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
LOGITS = torch.tensor([[[math.log(3), 0.0], [0.0, -math.log(4)]]])


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("foreground", -(math.log(3 / 4) + math.log(1 / 2)) / 4),
        ("bce", -(math.log(3 / 4) + math.log(1 / 2) + math.log(1 / 2) + math.log(4 / 5)) / 4),
        ("none", 0.0),
    ],
)
def test_mask_loss_by_hand(form: MaskLoss, expected: float) -> None:
    assert mask_loss(LOGITS, MASK, form).item() == pytest.approx(expected)


def test_ones_minimise_the_papers_form_and_not_cross_entropy() -> None:
    ones, right = torch.full((1, 2, 2), 30.0), torch.where(MASK > 0, 30.0, -30.0)
    assert mask_loss(ones, MASK, "foreground").item() == pytest.approx(0, abs=1e-6)
    assert mask_loss(ones, MASK, "bce").item() == pytest.approx(15)
    assert mask_loss(right, MASK, "bce").item() == pytest.approx(0, abs=1e-6)


def test_the_branch_is_resized_to_the_mask() -> None:
    assert mask_loss(torch.zeros(1, 1, 1), MASK, "bce").item() == pytest.approx(math.log(2))


def test_the_whole_loss_is_the_sum() -> None:
    """Class averages ln 3 and 0 against class 1: -ln 1/4; the mask as above."""
    maps = torch.tensor([[[[2 * math.log(3), 0.0]], [[1.0, -1.0]]]])
    targets = torch.tensor([[[2.0, 2.0], [-2.0, -2.0]]])
    loss = ct_loss(Says(CTAnswer(maps, LOGITS)), Batch(torch.empty(0), targets), "bce")
    expected = math.log(4) + mask_loss(LOGITS, MASK, "bce").item()
    assert loss.item() == pytest.approx(expected)


def test_targets_carry_class_and_mask() -> None:
    targets = LabelledMasks([np.array([[1, 0]]), np.array([[0, 0]])], [np.int64(0), np.int64(4)])
    assert len(targets) == 2
    assert targets[0].tolist() == [[1, -1]]
    assert targets[1].tolist() == [[-5, -5]]
    assert targets[0].dtype == np.float32


def small_ct(classes: int = 3, **changes: object) -> ClassificationNet:
    content = {"backbone": SMALL, "training": TRAINING, "width": 8} | changes
    torch.manual_seed(0)
    return ClassificationNet(backbone(), CTParams.model_validate(content), classes)


@pytest.mark.parametrize("form", LOSSES)
def test_a_step_lowers_the_loss_and_reaches_every_weight(form: MaskLoss) -> None:
    model = small_ct()
    targets = torch.where(torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(0)) > 0.5, 1.0, -1.0)
    batch = Batch(pictures(8, 8, count=4), targets * torch.tensor([1, 2, 3, 1])[:, None, None])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = ct_loss(model, batch, form)
    before.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    optimizer.step()
    assert ct_loss(model, batch, form) < before


def test_class_maps_by_hand() -> None:
    """Negative values are cut, the rest is divided by the maximum; class 1 has the highest average."""
    maps = torch.tensor([[[[2.0, -4.0, 1.0]], [[3.0, 0.0, 1.5]], [[-1.0, -2.0, 0.0]]]])
    model: Any = Says(CTAnswer(maps, torch.zeros(1, 1, 3)))
    found = class_maps(model, torch.empty(0), torch.tensor([[0, 2]]), "label")
    assert found.tolist() == [[[[1, 0, 0.5]], [[0, 0, 0]]]]
    assert class_maps(model, torch.empty(0), torch.tensor([[0]]), "predicted").tolist() == [[[[1, 0, 0.5]]]]
    assert class_maps(model, torch.empty(0), torch.tensor([[-1]]), "label").tolist() == [[[[1, 0, 0.5]]]]
    assert branch_maps(model, torch.empty(0), torch.empty(0)).tolist() == [[[[0.5, 0.5, 0.5]]]]


# Balanced draws


class Numbered:
    """Pairs that tell their key."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return torch.tensor(key), torch.tensor(self._count)


@pytest.mark.parametrize(("first", "second"), [(5, 2), (2, 5), (3, 3)])
def test_both_sets_are_drawn_equally_often(first: int, second: int) -> None:
    both = EqualParts(Numbered(first), Numbered(second + 100))
    assert len(both) == 2 * first
    both = EqualParts(Numbered(first), Numbered(second))
    rounds: list[list[int]] = []
    for epoch in range(second):
        keys = [both[(epoch, position)][0].tolist() for position in range(len(both))]
        assert keys[:first] == [[epoch, position] for position in range(first)]
        rounds += keys[first:]
    assert rounds == [[turn, place] for turn in range(first) for place in range(second)]
    held_out = [both[(-1, position)][0].tolist() for position in range(first, 2 * first)]
    assert held_out == [[-1, position % second] for position in range(first)]


def test_sets_join_where_both_have_images(small_index: ImageIndex) -> None:
    train, held_out = (
        training_set(small_index, split, has_label, TRAINING, "bilinear", 0) for split in (TRAIN_WEAKSUP, TRAIN_FULLSUP)
    )
    assert joined([train]) is train
    assert joined([None]) is None
    assert joined([train, None]) is None
    both = joined([train, held_out])
    assert both is not None
    assert len(both) == 32


def test_an_interrupted_run_on_both_sets_ends_like_an_undisturbed_one(
    small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 and 4 images are 32 in batches of 5: 7 steps an epoch; it stops inside the second."""
    monkeypatch.setenv("WSOL_CHECKPOINT_MINUTES", "0")
    both = EqualParts(pairs(small_index, TRAIN_WEAKSUP), pairs(small_index, TRAIN_FULLSUP))

    def train(folder: str, stop: int) -> dict[str, Tensor]:
        steps = 0

        def breaking(model: nn.Module, batch: Batch) -> Tensor:
            nonlocal steps
            steps += 1
            if steps > stop:
                raise KeyboardInterrupt
            return loss(model, batch)

        (tmp_path / folder).mkdir(exist_ok=True)
        torch.manual_seed(0)
        trainer = Trainer(launch("32-true"), Net(), breaking, SCHEDULE, seed=0, folder=tmp_path / folder)
        trainer.fit(both, None)
        return dict(trainer.model.module.state_dict())

    expected = train("undisturbed", 100)
    with pytest.raises(KeyboardInterrupt):
        train("stopped", 10)
    found = train("stopped", 100)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


# The stages


def draw_images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (0, 0, 40 * number)).save(folder / name)


BACKGROUND = "data/background/index.parquet"


def write_background(*names: str) -> None:
    """Draw background images in the folder `skies`, and write their index."""
    draw_images(Path("skies"), *names)
    rows: list[tuple[Any, ...]] = [(name, name, "", TRAIN_WEAKSUP, [], 20, 16) for name in names]
    write_index(Path(BACKGROUND), ImageIndex(pd.DataFrame(rows, columns=list(INDEX_COLUMNS)), (), "skies", "skies"))


def write_networks(**changes: Any) -> None:
    """Parameters of the binary classifier, of its baseline, and of CT behind the first."""
    ct = CTParams.model_validate({"backbone": SMALL, "training": TRAINING, "width": 8})
    untrained = TRAINING.model_dump(mode="json") | {"epochs": 0}
    networks = {
        "bc": entry("bcct", "binary", GRADIENT, background=BACKGROUND),
        "backprop": entry("bcct", "features", GRADIENT, training=untrained),
        "bcct": entry("bcct", "ct", ct, learns_from="data/localization/targets/masks-bcct.h5"),
    }
    masks = {"masks-bcct": {"maps": "bc", "delta": 0.8}}
    write_params(networks | changes, seed=3, gradient_masks=masks)


@pytest.fixture
def project(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_background(*(f"{number}.png" for number in range(3)))
    write_networks()
    write_set(ImageIndex(small_index.table, ("red", "green"), "s", "images"))
    return tmp_path


def run_stages() -> dict[str, bytes]:
    run_network("bc")
    run_network("backprop")
    masks_stage.main("masks-bcct")
    run_network("bcct")
    return {str(path): path.read_bytes() for path in sorted(Path("data").rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("project")
def test_stages_make_maps_masks_and_networks() -> None:
    run_stages()
    outputs = Path("data/localization/outputs")
    ids = [f"{number:02d}" for number in range(24)]
    for name, side, own in (
        ("bc/maps", 8, False), ("backprop/maps", 8, False), ("bcct/maps", 2, True), ("bcct/branch", 2, False)
    ):  # fmt: skip
        with MapStore(outputs / f"{name}.h5") as store:
            assert store.image_ids.tolist() == ids
            assert store.shape == (side, side)
            assert store.labels.tolist() == [n % 2 if own else -1 for n in range(24)]
    index = read_index(Path("data/localization/index.parquet"))
    assert len(read_ranked(outputs / "bcct/classes.parquet", index)) == 24
    targets = Path("data/localization/targets/masks-bcct.h5")
    with MapStore(targets) as masks, MapStore(outputs / "bc/maps.h5") as store:
        assert masks.kind is Kind.MASK
        assert np.array_equal(masks[0:24], largest_parts(store[0:24], 0.8))
    assert pd.read_csv("data/models/loss-bc.csv")["train"].notna().all()


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_stages_give_the_same_bytes_twice() -> None:
    assert run_stages() == run_stages()


@pytest.mark.usefixtures("project")
def test_the_backbone_of_the_binary_classifier_does_not_learn() -> None:
    train_stage.main("bc")
    tensors = load_checkpoint(Path("data/models/bc.safetensors")).tensors
    torch.manual_seed(3)
    fresh = build_binary(GRADIENT).state_dict()
    same = {name for name, tensor in fresh.items() if torch.equal(tensor, tensors[name])}
    assert fresh.keys() - same == {"head.weight", "head.bias"}


@pytest.mark.usefixtures("project")
def test_the_baseline_is_the_pretrained_network_and_learns_nothing() -> None:
    train_stage.main("backprop")
    tensors = load_checkpoint(Path("data/models/backprop.safetensors")).tensors
    torch.manual_seed(3)
    fresh = build_features(GRADIENT).state_dict()
    assert fresh.keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in fresh.items())
    write_networks(backprop=entry("bcct", "features", GRADIENT))
    with pytest.raises(InputError, match=r"bcct/features learns nothing; set its training.epochs to 0"):
        train_stage.main("backprop")


@pytest.mark.usefixtures("project")
def test_one_class_alone_is_refused() -> None:
    index = read_index(Path("data/localization/index.parquet"))
    table = index.table.assign(labels=index.table["labels"].map(lambda _: [1]))
    write_set(ImageIndex(table, index.classes, "s", "images"))
    with pytest.raises(InputError, match="'s' has one class only, a classification network needs two"):
        train_stage.main("bcct")
    assert several_classes(index) is index
    train_stage.main("bc")
    assert Path("data/models/bc.safetensors").exists()


# Background images


@pytest.mark.usefixtures("project")
def test_background_images_have_no_labels() -> None:
    assert list(has_label(read_index(Path(BACKGROUND)).table)) == [0, 0, 0]


@pytest.mark.usefixtures("project")
def test_background_images_in_folders_named_as_classes_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    write_background("sea/a.png", "01.Red/b.png")
    train_stage.main("bc")
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "warning" in line] == [
        f"warning: {BACKGROUND}: background images in folders named as classes: 01.Red"
    ]


def test_case_digits_and_punctuation_of_folders_do_not_count() -> None:
    paths = ["sea/a.png", "black footed albatross/b.png"]
    classes = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    assert folders_of_classes(paths, classes) == ["black footed albatross"]
    assert folders_of_classes(["12/a.png", "a.png"], ["7", "a.png"]) == []
