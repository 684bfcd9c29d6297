"""SEC: each loss by hand and against naive references, its gradients, targets, the network and the stages."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from stages import maps as maps_stage
from stages import train as train_stage
from tests.small_project import entry, write_params, write_set
from wsol_core.backbones.create import BackboneParams
from wsol_core.core.crf_params import FLOOR, CRFParams
from wsol_core.core.map_store import CLASS_AGNOSTIC, IGNORE, Kind, MapStore, create
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import Batch, Geometry
from wsol_core.engine.checkpoints import load_checkpoint
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.sec import network as sec
from wsol_core.methods.sec.cues import ABSENT, CUE, PRESENT, ImageCues
from wsol_core.methods.sec.network import (
    POSITIONS,
    LossName,
    SecParams,
    build,
    constrain_loss,
    crf_log_q,
    expand_loss,
    label_maps,
    label_rows,
    probabilities,
    sec_loss,
    seed_loss,
    weighted_rank_pooling,
)

SMALL = BackboneParams(name="mobilenetv3_small_050", weights="none")
TRAINING = TrainingParams(
    epochs=1, batch=8, lr_backbone=0.01, lr_head=0.01, image_side=32, precision="32-true", flip=True
)
NETWORK = SecParams(backbone=SMALL, training=TRAINING, output_stride=16, pooling=1, width=8, dilation=1)


def params(**changes: object) -> SecParams:
    return SecParams.model_validate(NETWORK.model_dump() | changes)


def random_scores(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def pictures(count: int, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def fixed_crf(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """A CRF that answers with the third power of the probabilities and a tenth of the first class; keeps its inputs."""
    seen = []

    def answer(unaries: Tensor, images: Tensor, _: CRFParams) -> Tensor:
        seen.append((unaries, images))
        q = (-unaries * 3).softmax(1)
        q[:, 0] *= 0.1
        return q / q.sum(1, keepdim=True)

    monkeypatch.setattr(sec, "mean_field", answer)
    return seen


# ---------------------------------------------------------------- probabilities and seed


def test_probabilities_have_a_floor_and_sum_to_one() -> None:
    p = probabilities(torch.tensor([[[[0.0]], [[0.0]], [[-100.0]]]]))
    expected = [(0.5 + FLOOR) / (1 + 3 * FLOOR)] * 2 + [FLOOR / (1 + 3 * FLOOR)]
    assert p.flatten().tolist() == pytest.approx(expected)
    assert torch.allclose(probabilities(random_scores(2, 5, 3, 4)).sum(1), torch.ones(2, 3, 4, dtype=torch.float64))


def test_seed_loss_by_hand() -> None:
    """Two cues of 1/2 and 1/8 in one image, one of 1/4 in the other, none in the third."""
    p = torch.full((3, 2, 1, 2), 0.9)
    cues = torch.zeros(3, 2, 1, 2, dtype=torch.bool)
    for place, value in (((0, 0, 0, 0), 1 / 2), ((0, 1, 0, 1), 1 / 8), ((1, 1, 0, 0), 1 / 4)):
        p[place], cues[place] = value, True
    assert seed_loss(p, cues).item() == pytest.approx((4 / 2 * math.log(2) + 2 * math.log(2)) / 3)


def test_seed_loss_without_any_cue_is_zero_with_a_gradient() -> None:
    scores = random_scores(2, 3, 2, 2).requires_grad_()
    value = seed_loss(probabilities(scores), torch.zeros(2, 3, 2, 2, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert scores.grad is not None
    assert (scores.grad == 0).all()


# ---------------------------------------------------------------- expand


def naive_pooling(values: Sequence[float], decay: float) -> float:
    ranked = sorted(values, reverse=True)
    weights = [decay ** (j * POSITIONS / len(ranked)) if j else 1.0 for j in range(len(ranked))]
    return sum(w * v for w, v in zip(weights, ranked, strict=True)) / sum(weights)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.996, 0.999, 1.0])
@pytest.mark.parametrize("side", [(1, 1), (3, 5), (41, 41)])
def test_rank_pooling_equals_a_naive_sort(decay: float, side: tuple[int, int]) -> None:
    maps = torch.rand(2, 3, *side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = weighted_rank_pooling(maps, decay)
    for b, c in np.ndindex(2, 3):
        assert found[b, c].item() == pytest.approx(naive_pooling(maps[b, c].flatten().tolist(), decay))


def test_rank_pooling_of_41x41_as_published() -> None:
    """Weights d^0, d^1, ...; half of the weight lies on the first 173 positions at .996."""
    maps = torch.zeros(1, 41, 41, dtype=torch.float64)
    maps.view(-1)[:173] = 1
    assert weighted_rank_pooling(maps, 0.996).item() == pytest.approx((1 - 0.996**173) / (1 - 0.996**1681))
    assert weighted_rank_pooling(maps, 0.0).item() == 1
    assert weighted_rank_pooling(maps, 1.0).item() == pytest.approx(173 / 1681)


def test_the_share_of_a_map_that_counts_does_not_hang_on_its_size() -> None:
    coarse = torch.rand(1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    fine = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
    for decay in (0.996, 0.999):
        assert weighted_rank_pooling(fine, decay).item() == pytest.approx(
            weighted_rank_pooling(coarse, decay).item(), abs=0.03
        )


def test_pooling_of_a_constant_map_is_the_constant() -> None:
    assert weighted_rank_pooling(torch.full((2, 3, 3), 0.3), 0.9).tolist() == pytest.approx([0.3, 0.3])


def test_expand_loss_by_hand() -> None:
    """One position: the pools are the probabilities. Classes .4 and .1 shown, .2 not, background .3."""
    p = torch.tensor([0.3, 0.4, 0.2, 0.1]).view(1, 4, 1, 1)
    present = torch.tensor([[True, False, True]])
    expected = -(math.log(0.4) + math.log(0.1)) / 2 - math.log(0.8) - math.log(0.3)
    assert expand_loss(p, present, (0.996, 0.0, 0.999)).item() == pytest.approx(expected)


def test_expand_loss_pools_each_group_by_its_own_decay() -> None:
    p = probabilities(random_scores(1, 3, 4, 5))
    shown, hidden, background = (p[0, c].flatten().tolist() for c in (1, 2, 0))
    expected = -math.log(naive_pooling(shown, 0.996)) - math.log(1 - max(hidden))
    expected -= math.log(naive_pooling(background, 0.999))
    found = expand_loss(p, torch.tensor([[True, False]]), (0.996, 0.0, 0.999))
    assert found.item() == pytest.approx(expected)


def test_images_of_all_classes_or_none_are_finite() -> None:
    p = torch.tensor([0.5, 0.25, 0.25]).view(1, 3, 1, 1).repeat(2, 1, 1, 1)
    found = expand_loss(p, torch.tensor([[True, True], [False, False]]), (0.996, 0.0, 0.999))
    everything, nothing = -math.log(0.25) - math.log(0.5), -math.log(0.75) - math.log(0.5)
    assert found.item() == pytest.approx((everything + nothing) / 2)


# ---------------------------------------------------------------- constrain


def test_constrain_loss_by_hand() -> None:
    p = torch.tensor([[[[0.5, 0.9]], [[0.5, 0.1]]]])
    q = torch.tensor([[[[0.25, 0.9]], [[0.75, 0.1]]]])
    expected = (0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)) / 2
    assert constrain_loss(p, q.log()).item() == pytest.approx(expected)
    assert constrain_loss(q, q.log()).item() == pytest.approx(0, abs=1e-7)


def test_the_crf_sees_log_probabilities_and_shrunk_pictures(fixed_crf: list[tuple[Tensor, Tensor]]) -> None:
    scores = random_scores(2, 3, 4, 4)
    images = pictures(2)
    images[0], images[1, 0] = 7, 255
    log_q = crf_log_q(scores, images, params(crf_gradient="constant"))
    unaries, small = fixed_crf[0]
    assert torch.allclose(unaries, -scores.log_softmax(1))
    assert small.dtype == torch.uint8
    assert small.shape == (2, 3, 4, 4)
    assert (small[0] == 7).all()
    assert (small[1, 0] == 255).all()
    assert torch.allclose(log_q.exp().sum(1), torch.ones(2, 4, 4, dtype=torch.float64))


@pytest.mark.usefixtures("fixed_crf")
def test_the_crf_has_a_floor() -> None:
    scores = torch.zeros(1, 3, 1, 1)
    scores[0, 1] = 60
    q = crf_log_q(scores, pictures(1), params()).exp().flatten()
    assert q.tolist() == pytest.approx(
        [FLOOR / (1 + 2 * FLOOR), 1 / (1 + 2 * FLOOR), FLOOR / (1 + 2 * FLOOR)], rel=1e-4
    )


def numerical_slope(value: Sequence[float], step: float) -> float:
    return (value[0] - value[1]) / (2 * step)


@pytest.mark.usefixtures("fixed_crf")
def test_constant_gradient_is_that_of_a_fixed_target() -> None:
    """(p - q) over positions, but for the floor; against differences with Q held fast, and autograd's own."""
    scores = random_scores(2, 3, 2, 3).requires_grad_()
    fixed = crf_log_q(scores, pictures(2), params(crf_gradient="constant"))
    assert not fixed.requires_grad
    constrain_loss(probabilities(scores), fixed).backward()
    assert scores.grad is not None
    softmax = scores.detach().softmax(1)
    floored = probabilities(scores.detach())
    pull = -fixed.exp() * softmax / (floored * (1 + 3 * FLOOR))
    assert torch.allclose(scores.grad, (pull - softmax * pull.sum(1, keepdim=True)) / (2 * 6))
    assert torch.allclose(scores.grad, (softmax - fixed.exp()) / (2 * 6), atol=1e-4)
    assert torch.autograd.gradcheck(lambda s: constrain_loss(probabilities(s), fixed), scores)


@pytest.mark.usefixtures("fixed_crf")
def test_diagonal_gradient_adds_that_of_log_q_times_one_minus_q() -> None:
    """Against differences of the loss in which log Q moves by (1 - Q) times its own score, and no other."""
    base = random_scores(1, 3, 2, 2)
    q = crf_log_q(base, pictures(1), params(crf_gradient="constant")).exp()

    def moved(scores: Tensor) -> Tensor:
        return constrain_loss(probabilities(scores), q.log() + (1 - q) * (scores - base))

    scores = base.clone().requires_grad_()
    value = constrain_loss(probabilities(scores), crf_log_q(scores, pictures(1), params(crf_gradient="diagonal")))
    value.backward()
    assert scores.grad is not None
    step = 1e-5
    for place in np.ndindex(1, 3, 2, 2):
        shift = torch.zeros_like(base)
        shift[place] = step
        slope = numerical_slope([moved(base + shift).item(), moved(base - shift).item()], step)
        assert scores.grad[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-9)
    fixed_part = base.clone().requires_grad_()
    constrain_loss(probabilities(fixed_part), q.log()).backward()
    assert fixed_part.grad is not None
    expected = q * (1 - q) * (q.log() - probabilities(base).log() + 1) / 4
    assert torch.allclose(scores.grad - fixed_part.grad, expected)


@pytest.mark.usefixtures("fixed_crf")
@pytest.mark.parametrize("gradient", ["constant", "diagonal"])
def test_a_step_down_the_gradient_lowers_the_divergence(gradient: str) -> None:
    scores = (random_scores(1, 2, 3, 3) * 2).requires_grad_()
    loss = constrain_loss(probabilities(scores), crf_log_q(scores, pictures(1), params(crf_gradient=gradient)))
    (slope,) = torch.autograd.grad(loss, scores)
    fixed = crf_log_q(scores, pictures(1), params(crf_gradient="constant"))
    assert constrain_loss(probabilities(scores - slope), fixed) < loss


@pytest.mark.parametrize("gradient", ["constant", "diagonal"])
def test_with_the_real_crf_scores_come_to_follow_the_edges(gradient: str) -> None:
    """Scores that favour class 1 on most of a bright square, and on some cells beside it, descend on the loss alone."""
    square = torch.zeros(1, 1, 12, 12)
    square[..., 3:9, 4:10] = 1
    images = (square * 200).repeat_interleave(4, 2).repeat_interleave(4, 3).expand(1, 3, 48, 48).to(torch.uint8)
    noise = torch.rand(square.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    rough = (square.bool() ^ noise).float() * 4 - 2
    scores = torch.cat([-rough, rough], 1).requires_grad_()
    changed = params(crf_gradient=gradient, crf={"appearance_pixels": 4})
    first = constrain_loss(probabilities(scores), crf_log_q(scores, images, changed)).item()
    for _ in range(30):
        loss = constrain_loss(probabilities(scores), crf_log_q(scores, images, changed))
        (slope,) = torch.autograd.grad(loss, scores)
        scores = (scores - 50 * slope).detach().requires_grad_()
    assert (scores.argmax(1) == square[0].bool()).all()
    assert loss.item() < first / 4


@pytest.mark.parametrize("loss", ["seed", "expand"])
def test_gradients_against_differences(loss: LossName) -> None:
    scores = random_scores(2, 3, 3, 4).requires_grad_()
    cues = torch.rand(2, 3, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.3
    present = torch.tensor([[True, False], [True, True]])
    terms = {
        "seed": lambda s: seed_loss(probabilities(s), cues),
        "expand": lambda s: expand_loss(probabilities(s), present, (0.996, 0.0, 0.999)),
    }
    assert torch.autograd.gradcheck(terms[loss], scores)


# ---------------------------------------------------------------- targets and the sum


def test_targets_tell_cues_present_and_absent_classes() -> None:
    cues = np.array([[0, 2, IGNORE], [2, 3, 1]], dtype=np.float32)
    planes = ImageCues([cues, np.full((2, 3), IGNORE)], [[1], []], 3)[0]
    assert planes.dtype == np.float32
    assert planes[0].tolist() == [[CUE, PRESENT, PRESENT], [PRESENT] * 3]
    assert planes[2].tolist() == [[PRESENT, CUE, PRESENT], [CUE, PRESENT, PRESENT]]
    assert (planes[[1, 3]] == ABSENT).all()
    nothing = ImageCues([cues, np.full((2, 3), IGNORE)], [[1], []], 3)[1]
    assert (nothing[0] == PRESENT).all()
    assert (nothing[1:] == ABSENT).all()


def test_targets_move_with_the_picture() -> None:
    planes = np.arange(2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4)
    moved = Geometry(8, 16, True).move_target(planes, 8, 0, True)
    assert torch.equal(moved, torch.stack([Geometry(8, 16, True).move_target(each, 8, 0, True) for each in planes]))
    assert moved[1].tolist() == [[25, 25, 24, 24]] * 2 + [[29, 29, 28, 28]] * 2


class Says(nn.Module):
    """A network that always says the same."""

    def __init__(self, scores: Tensor, steps: int = 1) -> None:
        super().__init__()
        self.scores, self.steps = scores, steps

    def forward(self, _: Tensor) -> Tensor:
        return self.scores


@pytest.mark.usefixtures("fixed_crf")
def test_the_loss_is_the_sum_of_the_terms_asked_for() -> None:
    scores = random_scores(2, 3, 4, 4).float()
    targets = torch.tensor([[[1, 0], [0, 0]], [[0, 1], [0, 0]], [[-1, -1], [-1, -1]]]).float().expand(2, 3, 2, 2)
    batch = Batch(pictures(2), targets)
    large = targets.repeat_interleave(2, 2).repeat_interleave(2, 3)
    p = probabilities(scores)
    terms: dict[LossName, Tensor] = {
        "seed": seed_loss(p, large == CUE),
        "expand": expand_loss(p, torch.tensor([[True, False]] * 2), (0.996, 0.0, 0.999)),
        "constrain": constrain_loss(p, crf_log_q(scores, batch.inputs, NETWORK)),
    }
    choices: list[tuple[LossName, ...]] = [
        ("seed",),
        ("expand",),
        ("seed", "constrain"),
        ("seed", "expand", "constrain"),
    ]
    for names in choices:
        found = sec_loss(Says(scores), batch, params(losses=names))
        assert found.item() == pytest.approx(sum(terms[name].item() for name in names))


def test_the_crf_is_not_asked_where_its_term_is_left_out(fixed_crf: list[tuple[Tensor, Tensor]]) -> None:
    batch = Batch(pictures(1), torch.zeros(1, 3, 2, 2))
    sec_loss(Says(torch.zeros(1, 3, 2, 2)), batch, params(losses=["seed", "expand"]))
    assert not fixed_crf


@pytest.mark.parametrize(("after", "steps", "asked"), [(0, 1, True), (3, 3, False), (3, 4, True), (3, 1, False)])
def test_constrain_begins_after_its_steps(
    fixed_crf: list[tuple[Tensor, Tensor]], after: int, steps: int, asked: bool
) -> None:
    scores, batch = random_scores(1, 3, 2, 2).float(), Batch(pictures(1), torch.zeros(1, 3, 2, 2))
    found = sec_loss(Says(scores, steps), batch, params(constrain_after=after))
    assert bool(fixed_crf) == asked
    assert (found.item() > 0) == asked


# ---------------------------------------------------------------- the network


def test_the_network_counts_its_steps_of_training() -> None:
    model = build(NETWORK, 2)
    for _ in range(3):
        model(pictures(2))
    model.eval()(pictures(2))
    assert model.steps.item() == 3
    assert model.state_dict()["steps"].item() == 3


@pytest.mark.parametrize(("name", "stride", "pooling"), [("vgg16", 8, 3), ("mobilenetv3_small_050", 16, 1)])
def test_network_keeps_the_side_of_its_features(name: str, stride: int, pooling: int) -> None:
    backbone = BackboneParams(name=name, weights="none")
    model = build(params(backbone=backbone, output_stride=stride, pooling=pooling, dilation=12), 4).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = model(pictures(2, 64))
        maps = label_maps(model, pictures(2, 64), torch.zeros(2, 1))
    assert scores.dtype == torch.float32
    assert scores.shape == maps.shape == (2, 5, 64 // stride, 64 // stride)
    assert torch.allclose(maps[:, 0], maps[:, 1:].sum(1), atol=1e-5)
    assert ((maps >= 0) & (maps <= 1)).all()
    assert list(label_rows(4)) == [-1, 0, 1, 2, 3]


BAD: list[dict[str, object]] = [
    {"losses": []},
    {"losses": ["grow"]},
    {"pooling": 2},
    {"crf_gradient": "exact"},
    {"losses": ["constrain"], "constrain_after": 1},
]


@pytest.mark.parametrize("change", BAD)
def test_bad_params_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        params(**change)


# ---------------------------------------------------------------- the stages


@pytest.fixture
def project(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    table = small_index.table.copy()
    table["labels"] = [[], [0, 1], *table["labels"][2:]]
    write_set(ImageIndex(table, small_index.classes, "squares", "images"), "detection")
    cues = Path("data/detection/targets/cues-sec.h5")
    network = params(losses=["seed", "expand", "constrain"], learns_from=str(cues))
    write_params({"sec": entry("sec", "sec", network)}, seed=1)
    drawn = np.array([[0, 1, 2], [IGNORE, 1, 2]], dtype=np.uint8)
    with create(cues, Kind.LABELS, 2, 3) as writer:
        ids = table["image_id"].tolist()[:20]
        writer.append(ids, [CLASS_AGNOSTIC] * 20, np.stack([drawn] * 20))
    return tmp_path


@pytest.mark.usefixtures("fixed_crf", "project")
def test_stages_train_and_write_maps() -> None:
    train_stage.main("sec")
    tensors, config, _ = load_checkpoint(Path("data/models/sec.safetensors"))
    assert config["losses"] == ["seed", "expand", "constrain"]
    torch.manual_seed(1)
    fresh = build(NETWORK, 2).state_dict()
    assert not torch.equal(tensors["classify.weight"], fresh["classify.weight"])
    assert tensors["steps"].item() == 2
    assert not torch.equal(tensors["backbone.network.conv_stem.weight"], fresh["backbone.network.conv_stem.weight"])
    maps_stage.main("sec", "detection", "data/detection/index.parquet")
    with MapStore(Path("data/detection/outputs/sec/maps.h5")) as maps:
        assert maps.shape == (2, 2)
        assert maps.labels.tolist() == [-1, 0, 1] * 24
        assert np.allclose(maps[0:3][0], maps[0:3][1:].sum(0), atol=2e-3)


@pytest.mark.usefixtures("fixed_crf", "project")
def test_training_with_the_crf_twice_gives_the_same_bytes() -> None:
    path = Path("data/models/sec.safetensors")
    train_stage.main("sec")
    first = path.read_bytes()
    train_stage.main("sec")
    assert path.read_bytes() == first
