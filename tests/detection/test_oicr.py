"""OICR: seeds, their spread over neighbours and the weighted loss, by hand and against the paper's loops."""

import math

import pytest
import torch
from torch import Tensor

from wsol_core.detection.oicr import Assignment, assign, refinement_loss, top_seeds


def boxes_of(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows)


LINE = boxes_of((0, 0, 10, 10), (0, 0, 10, 8), (0, 0, 10, 5), (0, 0, 10, 4), (20, 20, 30, 30))
"""IoU with the first: 1, .8, .5, .4 and 0."""


def random_boxes(count: int, generator: torch.Generator) -> Tensor:
    low = torch.rand(count, 2, generator=generator)
    return torch.cat([low, low + 0.05 + torch.rand(count, 2, generator=generator)], dim=1)


def naive_iou(first: Tensor, second: Tensor) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    overlap = float(max(width, torch.tensor(0.0)) * max(height, torch.tensor(0.0)))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (first, second)]
    return overlap / (sum(areas) - overlap)


def naive_assign(boxes: Tensor, scores: Tensor, present: list[int], classes: int) -> tuple[list[int], list[float]]:
    """Algorithm 1 of the paper, line by line, with the overlap I starting below 0."""
    labels, weights, overlaps = [classes] * len(boxes), [0.0] * len(boxes), [-1.0] * len(boxes)
    for c in present:
        seed = max(range(len(boxes)), key=lambda r: float(scores[r, c]))
        for r in range(len(boxes)):
            overlap = naive_iou(boxes[r], boxes[seed])
            if overlap > overlaps[r]:
                overlaps[r], weights[r] = overlap, float(scores[seed, c])
                labels[r] = c if overlap >= 0.5 else classes
    return labels, weights


@pytest.mark.parametrize("seed", range(20))
def test_assignment_is_that_of_the_papers_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes, scores = random_boxes(12, generator), torch.rand(12, 5, generator=generator)
    found = assign(boxes, scores, top_seeds(scores, torch.tensor([0, 2, 3])), classes=5)
    labels, weights = naive_assign(boxes, scores, [0, 2, 3], classes=5)
    assert found.labels.tolist() == labels
    assert found.weights.tolist() == pytest.approx(weights)


def test_neighbours_take_the_seeds_class_from_one_half() -> None:
    scores = torch.tensor([[0.9], [0.1], [0.1], [0.1], [0.1]])
    found = assign(LINE, scores, top_seeds(scores, torch.tensor([0])), classes=1)
    assert found.labels.tolist() == [0, 0, 0, 1, 1]
    assert found.weights.tolist() == pytest.approx([0.9] * 5)
    assert found.seeds.tolist() == [0] * 5


def test_weight_is_that_of_the_seed_most_overlapped() -> None:
    scores = torch.tensor([[0.9, 0.2], [0, 0], [0, 0], [0, 0], [0.1, 0.3]])
    found = assign(LINE, scores, top_seeds(scores, torch.tensor([0, 1])), classes=2)
    assert found.labels.tolist() == [0, 0, 0, 2, 1]
    assert found.weights.tolist() == pytest.approx([0.9, 0.9, 0.9, 0.9, 0.3])


def test_of_equal_scores_the_first_is_the_seed() -> None:
    scores = torch.tensor([[0.1], [0.7], [0.7], [0.7], [0.7]])
    assert top_seeds(scores, torch.tensor([0])).tolist() == [[1, 0]]


def test_the_seed_of_two_classes_has_the_first_named() -> None:
    scores = torch.tensor([[0.9, 0.8], [0.1, 0.1], [0.1, 0.1], [0.1, 0.1], [0.1, 0.1]])
    for order, label, weight in (([0, 1], 0, 0.9), ([1, 0], 1, 0.8)):
        found = assign(LINE, scores, top_seeds(scores, torch.tensor(order)), classes=2)
        assert found.labels.tolist()[:3] == [label] * 3
        assert found.weights.tolist() == pytest.approx([weight] * 5)


def test_the_backgrounds_score_gives_no_seed() -> None:
    """C scores of WSDDN and C + 1 of a branch are read alike, however high the background is."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(8, 20, generator=generator)
    with_background = torch.cat([scores, torch.ones(8, 1)], dim=1)
    present = torch.tensor([3, 19])
    assert torch.equal(top_seeds(scores, present), top_seeds(with_background, present))
    boxes = random_boxes(8, generator)
    first, second = (assign(boxes, each, top_seeds(each, present), 20) for each in (scores, with_background))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_image_of_no_class_is_background_without_weight() -> None:
    scores = torch.rand(5, 3)
    found = assign(LINE, scores, top_seeds(scores, torch.tensor([], dtype=torch.int64)), classes=3)
    assert found.labels.tolist() == [3] * 5
    assert found.weights.tolist() == [0] * 5
    assert float(refinement_loss(torch.randn(5, 4), found)) == 0


def test_loss_is_that_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, weights = torch.randn(7, 4, generator=generator), torch.rand(7, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 3, 3, 0])
    expected = 0.0
    for r in range(7):
        total = sum(math.exp(logits[r, c]) for c in range(4))
        expected -= float(weights[r]) * math.log(math.exp(logits[r, labels[r]]) / total) / 7
    assert float(refinement_loss(logits, Assignment(labels, weights, labels))) == pytest.approx(expected, rel=1e-5)


def test_loss_without_positive_proposals_learns_background() -> None:
    logits = torch.zeros(3, 4, requires_grad=True)
    background = Assignment(torch.full((3,), 3), torch.full((3,), 0.5), torch.zeros(3, dtype=torch.int64))
    refinement_loss(logits, background).backward()
    assert logits.grad is not None
    assert (logits.grad[:, :3] > 0).all()
    assert (logits.grad[:, 3] < 0).all()


def test_gradient_of_the_loss() -> None:
    learnt = Assignment(torch.tensor([0, 2, 1]), torch.tensor([0.5, 1.0, 0.2], dtype=torch.float64), torch.zeros(3))
    logits = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: refinement_loss(x, learnt), logits)
