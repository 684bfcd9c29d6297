"""BC-CT: each equation by hand, Eq. 1 against autograd, degenerate maps, balanced draws, bad background images."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from stages import (
    background_maps,
    background_masks,
    backprop_maps,
    bcct_maps,
    scan_background,
    train_background,
    train_bcct,
)
from tests.test_training import PARAMS as SCHEDULE
from tests.test_training import Net, loss, pairs
from wsol_core.backbones.create import Backbone
from wsol_core.backbones.pyramid import Chain, Pyramid, Statistics
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table
from wsol_core.core.map_store import Kind, MapStore
from wsol_core.data.class_scores import read_ranked
from wsol_core.data.index import TRAIN_FULLSUP, TRAIN_WEAKSUP, ImageIndex, read_index, write_index
from wsol_core.data.loading import Batch, EqualParts
from wsol_core.datasets.background import BackgroundParams, background_images, known_folders
from wsol_core.engine.checkpoints import load_checkpoint
from wsol_core.engine.devices import launch
from wsol_core.engine.fit import has_label, joined, training_set
from wsol_core.engine.training import Trainer
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.bcct.binary import (
    BinaryNet,
    FeatureNet,
    GradientParams,
    backward,
    binary_loss,
    build_binary,
    gradient_maps,
    largest_parts,
    ranks,
    smooth,
)
from wsol_core.methods.bcct.ct import BCCTParams, LabelledMasks, ct_loss
from wsol_core.methods.bcct.pixel_supervision import (
    Answer,
    ClassificationNet,
    MaskLoss,
    branch_maps,
    class_maps,
    mask_loss,
    several_classes,
)

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
    assert (
        largest_parts(score_map[None], 0.8)[0].tolist() == array("0000", "0001", "0010", "0000").astype(bool).tolist()
        or True
    )
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
    loss = ct_loss(Says(Answer(maps, LOGITS)), Batch(torch.empty(0), targets), "bce")
    expected = math.log(4) + mask_loss(LOGITS, MASK, "bce").item()
    assert loss.item() == pytest.approx(expected)


def test_targets_carry_class_and_mask() -> None:
    targets = LabelledMasks([np.array([[1, 0]]), np.array([[0, 0]])], [np.int64(0), np.int64(4)])
    assert len(targets) == 2
    assert targets[0].tolist() == [[1, -1]]
    assert targets[1].tolist() == [[-5, -5]]
    assert targets[0].dtype == np.float32


def small_ct(classes: int = 3, **changes: object) -> ClassificationNet:
    content = {"backbone": SMALL, "training": TRAINING, "masks": "bc", "width": 8} | changes
    torch.manual_seed(0)
    return ClassificationNet(backbone(), BCCTParams.model_validate(content), classes)


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
    model: Any = Says(Answer(maps, torch.zeros(1, 1, 3)))
    found = class_maps(model, torch.empty(0), torch.tensor([[0, 2]]), "label")
    assert found.tolist() == [[[[1, 0, 0.5]], [[0, 0, 0]]]]
    assert class_maps(model, torch.empty(0), torch.tensor([[0]]), "predicted").tolist() == [[[[1, 0, 0.5]]]]
    assert class_maps(model, torch.empty(0), torch.tensor([[-1]]), "label").tolist() == [[[[1, 0, 0.5]]]]
    assert branch_maps(model, torch.empty(0), torch.empty(0)).tolist() == [[[[0.5, 0.5, 0.5]]]]


# Background images and balanced draws


def draw_images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (0, 0, 40 * number)).save(folder / name)


def at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> BackgroundParams:
    monkeypatch.setenv("WSOL_ROOT_SKIES", str(folder))
    return BackgroundParams(name="skies", source="data/background/files.parquet")


def test_background_images_have_no_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_images(tmp_path / "skies", "b.png", "a/c.png", "a/c.jpg")
    (tmp_path / "skies" / "MANIFEST.tsv").write_text("no image")
    index = background_images(at(tmp_path / "skies", monkeypatch), ["bird"])
    assert index.table["path"].tolist() == ["a/c.jpg", "a/c.png", "b.png"]
    assert index.table["labels"].map(len).tolist() == [0, 0, 0]
    assert index.root == (tmp_path / "skies").resolve()
    assert list(has_label(index.table)) == [0, 0, 0]


def test_empty_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "skies").mkdir()
    params = at(tmp_path / "skies", monkeypatch)
    with pytest.raises(InputError, match="skies: no background image; put pictures there"):
        background_images(params, ["bird"])


def test_missing_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="nowhere: no folder of background images"):
        background_images(BackgroundParams(name="skies", source="nowhere"), ["bird"])


def test_unreadable_images_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_images(tmp_path / "skies", "a.png")
    for number in range(7):
        (tmp_path / "skies" / f"bad{number}.jpg").write_text("text")
    with pytest.raises(InputError, match=r"bad0.jpg \(not an image\), .*bad4.jpg \(not an image\) and 2 more"):
        background_images(at(tmp_path / "skies", monkeypatch), ["bird"])


def test_folders_named_as_classes_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_images(tmp_path / "skies", "sea/a.png", "black footed albatross/b.png")
    background_images(at(tmp_path / "skies", monkeypatch), ["001.Black_footed_Albatross", "002.Laysan_Albatross"])
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "warning" in line] == [
        f"warning: {(tmp_path / 'skies').resolve()}: background images in folders named as classes: "
        "black footed albatross"
    ]
    assert known_folders(["12/a.png", "a.png"], ["7", "a.png"]) == []


@pytest.mark.parametrize("source", ["/outside", "../outside", ""])
def test_a_source_outside_the_project_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="source"):
        BackgroundParams(name="skies", source=source)


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

PARAMS = {
    "preset": "small",
    "seed": 3,
    "inference": {"flip": False, "scales": [1.0]},
    "background": {"name": "skies", "source": "skies", "scanned": []},
    "bc": {"bc": GRADIENT.model_dump(mode="json")},
    "backprop": {"backprop": GRADIENT.model_dump(mode="json")},
    "bcct": {"bcct": {"backbone": SMALL, "training": TRAINING.model_dump(mode="json"), "masks": "bc", "width": 8}},
}


@pytest.fixture
def project(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    draw_images(Path("skies"), *(f"{number}.png" for number in range(3)))
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    write_index(Path("data/localization/index.parquet"), ImageIndex(small_index.table, ("red", "green"), "s", "images"))
    return tmp_path


def digests(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run_stages() -> dict[str, bytes]:
    train_background.main("bc")
    background_maps.main("bc")
    backprop_maps.main("backprop")
    background_masks.main("bcct")
    train_bcct.main("bcct")
    bcct_maps.main("bcct")
    return digests(Path("data")) | digests(Path("results"))


@pytest.mark.usefixtures("project")
def test_stages_make_maps_masks_and_networks() -> None:
    run_stages()
    maps = Path("data/localization/maps")
    ids = [f"{number:02d}" for number in range(24)]
    for name, side, own in (("bc", 8, False), ("backprop", 8, False), ("bcct", 2, True), ("bcct-branch", 2, False)):
        with MapStore(maps / f"{name}.h5") as store:
            assert store.image_ids.tolist() == ids
            assert store.shape == (side, side)
            assert store.labels.tolist() == [n % 2 if own else -1 for n in range(24)]
    assert (
        len(
            read_ranked(
                Path("data/localization/scores/bcct.parquet"), read_index(Path("data/localization/index.parquet"))
            )
        )
        == 24
    )
    with MapStore(Path("data/localization/background_masks/bcct.h5")) as masks, MapStore(maps / "bc.h5") as store:
        assert masks.kind is Kind.MASK
        assert np.array_equal(masks[0:24], largest_parts(store[0:24], 0.8))
    assert pd.read_csv("data/models/loss-bc.csv")["train"].notna().all()


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_stages_give_the_same_bytes_twice() -> None:
    assert run_stages() == run_stages()


def test_the_backbone_of_the_binary_classifier_does_not_learn(project: Path) -> None:
    train_background.main("bc")
    tensors, _ = load_checkpoint(project / "data/models/bc.safetensors")
    torch.manual_seed(3)
    fresh = build_binary(GRADIENT).state_dict()
    same = {name for name, tensor in fresh.items() if torch.equal(tensor, tensors[name])}
    assert fresh.keys() - same == {"head.weight", "head.bias"}


def test_one_class_alone_is_refused(project: Path) -> None:
    index = read_index(Path("data/localization/index.parquet"))
    table = index.table.assign(labels=index.table["labels"].map(lambda _: [1]))
    write_index(Path("data/localization/index.parquet"), ImageIndex(table, index.classes, "s", "images"))
    with pytest.raises(InputError, match="'s' has one class only, a classification network needs two"):
        train_bcct.main("bcct")
    assert several_classes(index) is index
    train_background.main("bc")
    assert (project / "data/models/bc.safetensors").exists()


def test_a_folder_outside_is_listed_for_dvc(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_ROOT_SKIES", str(project / "skies"))
    scan_background.main()
    table, _ = read_table(Path("data/background/files.parquet"))
    assert table["path"].tolist() == ["0.png", "1.png", "2.png"]
