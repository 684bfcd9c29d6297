"""MIST: seeds that no better proposal overlaps, box regression, and Concrete DropBlock."""

import math

import pytest
import torch
from torch import Tensor

from tests.detection.test_oicr import naive_iou, random_boxes
from wsol_core.detection.mist import (
    ConcreteDropBlock,
    DropBlockParams,
    MistParams,
    decode,
    draw_blocks,
    encode,
    regression_loss,
    spread_seeds,
)

CHAIN = torch.tensor([[0, 0, 10, 10], [6, 0, 16, 10], [12, 0, 22, 10], [40, 0, 50, 10]], dtype=torch.float32)
"""Each of the first three overlaps the next by IoU 1/4, and none but the next; the fourth stands alone."""
ALL = MistParams(share=1.0)


def scores_of(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def greedy(boxes: Tensor, scores: Tensor, overlap: float) -> list[int]:
    kept: list[int] = []
    for r in sorted(range(len(boxes)), key=lambda r: -float(scores[r])):
        if all(naive_iou(boxes[r], boxes[k]) < overlap for k in kept):
            kept.append(r)
    return kept


def test_all_better_proposals_count_not_only_seeds() -> None:
    scores, present = scores_of(0.9, 0.8, 0.7, 0.1), torch.tensor([0])
    assert spread_seeds(scores, CHAIN, present, ALL).tolist() == [[0, 0], [3, 0]]
    assert greedy(CHAIN, scores[:, 0], ALL.overlap) == [0, 2, 3]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.15, 0.5, 1.0])
def test_seeds_are_those_of_a_plain_loop(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes, scores = random_boxes(20, generator), torch.rand(20, 3, generator=generator)
    expected = []
    for c in (2, 0):
        ranked = sorted(range(20), key=lambda r, c=c: -float(scores[r, c]))[: int(share * 20)]  # type: ignore[misc]
        for place, r in enumerate(ranked):
            if all(naive_iou(boxes[r], boxes[better]) < 0.2 for better in ranked[:place]):
                expected.append([r, c])
    assert spread_seeds(scores, boxes, torch.tensor([2, 0]), MistParams(share=share)).tolist() == expected


def test_one_proposal_at_least_is_looked_at() -> None:
    assert spread_seeds(scores_of(0.1, 0.2, 0.4, 0.3), CHAIN, torch.tensor([0]), MistParams()).tolist() == [[2, 0]]


def test_of_equal_scores_the_first_is_better() -> None:
    assert spread_seeds(scores_of(0.5, 0.5, 0.5, 0.5), CHAIN, torch.tensor([0]), ALL).tolist() == [[0, 0], [3, 0]]


def test_the_backgrounds_score_gives_no_seed() -> None:
    """21 scores of a branch are read like the 20 of WSDDN, however high the background is."""
    generator = torch.Generator().manual_seed(0)
    boxes, scores, present = random_boxes(30, generator), torch.rand(30, 20, generator=generator), torch.tensor([4, 19])
    with_background = torch.cat([scores, torch.ones(30, 1)], dim=1)
    found = spread_seeds(with_background, boxes, present, MistParams())
    assert torch.equal(found, spread_seeds(scores, boxes, present, MistParams()))
    assert set(found[:, 1].tolist()) == {4, 19}


def test_no_class_gives_no_seed() -> None:
    assert spread_seeds(torch.rand(4, 2), CHAIN, torch.tensor([], dtype=torch.int64), ALL).shape == (0, 2)


# Box regression


def test_a_move_by_hand() -> None:
    """A shift by half a width, and twice the height: .5 / .1 and log 2 / .2."""
    moves = encode(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, -5, 15, 15]]))
    assert moves.tolist() == [pytest.approx([5, 0, 0, math.log(2) / 0.2])]


def test_decoding_undoes_encoding_for_each_class() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, first, second = (random_boxes(9, generator) for _ in range(3))
    moves = torch.stack([encode(boxes, first), encode(boxes, second)], dim=1)
    torch.testing.assert_close(decode(boxes, moves), torch.stack([first, second], dim=1), rtol=1e-4, atol=1e-5)


def test_a_wild_move_stays_finite() -> None:
    assert decode(torch.tensor([[0.0, 0, 1, 1]]), torch.full((1, 1, 4), 1e4)).isfinite().all()


def test_regression_is_that_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    moves, wanted = torch.randn(6, 3, 4, generator=generator) * 2, torch.randn(6, 4, generator=generator)
    labels, weights = torch.tensor([0, 2, 3, 1, 3, 0]), torch.rand(6, generator=generator)
    expected = 0.0
    for r in range(6):
        for i in range(4):
            if labels[r] < 3:
                distance = abs(float(moves[r, labels[r], i] - wanted[r, i]))
                loss = distance**2 / 2 if distance < 1 else distance - 0.5
                expected += float(weights[r]) * loss / 6
    assert float(regression_loss(moves, wanted, labels, weights)) == pytest.approx(expected, rel=1e-5)


def test_only_the_own_class_learns_to_move() -> None:
    moves = torch.ones(3, 2, 4, requires_grad=True)
    regression_loss(moves, torch.zeros(3, 4), torch.tensor([0, 1, 2]), torch.ones(3)).backward()
    assert moves.grad is not None
    assert moves.grad.abs().sum(2).ne(0).tolist() == [[True, False], [False, True], [False, False]]


def test_background_alone_moves_nothing() -> None:
    moves = torch.randn(3, 2, 4, requires_grad=True)
    loss = regression_loss(moves, torch.zeros(3, 4), torch.tensor([2, 2, 2]), torch.ones(3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert moves.grad is not None
    assert not moves.grad.any()


def test_gradient_of_the_regression() -> None:
    moves = torch.randn(4, 2, 4, dtype=torch.float64, requires_grad=True)
    wanted, weights = torch.randn(4, 4, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: regression_loss(x, wanted, torch.tensor([0, 1, 2, 0]), weights), moves)


# Concrete DropBlock


@pytest.mark.parametrize(("probability", "largest", "expected"), [(0.1, 0.3, 0.1), (0.9, 0.3, 0.3), (0.0, 0.3, 0.0)])
def test_a_cell_is_dropped_as_often_as_said_and_never_more(probability: float, largest: float, expected: float) -> None:
    torch.manual_seed(0)
    drawn = draw_blocks(torch.full((1000, 1, 7, 7), probability), DropBlockParams(largest=largest, block=1))
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    assert float(drawn.mean()) == pytest.approx(expected, abs=0.01)


def test_a_cell_is_hidden_by_any_block_that_reaches_it() -> None:
    """Inside by nine possible centres, in a corner by four; each has a ninth of the probability."""
    torch.manual_seed(0)
    drawn = draw_blocks(torch.full((4000, 1, 7, 7), 0.27), DropBlockParams(largest=0.3, block=3)).mean((0, 1))
    assert float(drawn[3, 3]) == pytest.approx(1 - 0.97**9, abs=0.03)
    assert float(drawn[0, 0]) == pytest.approx(1 - 0.97**4, abs=0.03)


def test_kept_features_grow_to_the_same_mean() -> None:
    torch.manual_seed(0)
    block = ConcreteDropBlock(4, DropBlockParams())
    found = block(torch.ones(50, 4, 7, 7)).detach()
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.ones(50))
    assert (found == 0).any()
    assert torch.equal(found[:, :1].expand_as(found), found)


def test_in_evaluation_nothing_is_hidden() -> None:
    features = torch.randn(2, 4, 7, 7)
    assert torch.equal(ConcreteDropBlock(4, DropBlockParams()).eval()(features), features)


def test_without_proposals_nothing_is_drawn() -> None:
    assert ConcreteDropBlock(4, DropBlockParams())(torch.zeros(0, 4, 7, 7)).shape == (0, 4, 7, 7)


def test_the_generator_learns_to_raise_the_loss() -> None:
    """The loss is the first cell's feature, the only one that is not 0: SGD's descent must drop it more often."""
    torch.manual_seed(0)
    block = ConcreteDropBlock(1, DropBlockParams(largest=0.9, block=1))
    features = torch.zeros(400, 1, 3, 3)
    features[:, :, 0, 0] = 1.0
    optimizer = torch.optim.SGD(block.parameters(), lr=0.5)

    def dropped() -> float:
        return float(torch.sigmoid(block.generate(features))[:, 0, 0, 0].mean().detach())

    before = dropped()
    for _ in range(20):
        optimizer.zero_grad()
        (-block(features)).mean().backward()
        optimizer.step()
    assert dropped() > before
