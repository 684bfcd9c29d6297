"""WSDDN: scores and loss against naive loops, and what happens at the edges."""

import math

import pytest
import torch
from torch import Tensor

from wsol_core.detection.wsddn import WsddnHead, image_loss, proposal_scores


def random_logits(proposals: int = 6, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(proposals, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    return first.requires_grad_(), second.requires_grad_()


def naive_scores(classification: Tensor, detection: Tensor) -> Tensor:
    classification, detection = classification.detach(), detection.detach()
    proposals, classes = classification.shape
    scores = torch.zeros(proposals, classes, dtype=torch.float64)
    for r in range(proposals):
        for c in range(classes):
            over_classes = sum(math.exp(classification[r, k]) for k in range(classes))
            over_proposals = sum(math.exp(detection[k, c]) for k in range(proposals))
            scores[r, c] = math.exp(classification[r, c]) / over_classes * math.exp(detection[r, c]) / over_proposals
    return scores


@pytest.mark.parametrize(("proposals", "classes"), [(6, 3), (1, 3), (5, 1)])
def test_scores_are_those_of_a_plain_loop(proposals: int, classes: int) -> None:
    logits = random_logits(proposals, classes)
    torch.testing.assert_close(proposal_scores(*logits), naive_scores(*logits))


def test_loss_is_that_of_a_plain_loop() -> None:
    labels = torch.tensor([1.0, 0.0, 1.0])
    scores = naive_scores(*random_logits())
    expected = 0.0
    for c in range(3):
        found = sum(float(scores[r, c]) for r in range(len(scores)))
        expected -= math.log(found if labels[c] else 1 - found)
    assert float(image_loss(scores, labels)) == pytest.approx(expected)


def test_loss_by_hand_of_one_proposal() -> None:
    """A single proposal has weight 1 in each class: the image's score is its softmax over classes."""
    scores = proposal_scores(torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[5.0, -5.0]]))
    assert scores.tolist() == [pytest.approx([0.75, 0.25])]
    assert float(image_loss(scores, torch.tensor([1.0, 0.0]))) == pytest.approx(-2 * math.log(0.75))


def test_proposals_compete_for_a_class() -> None:
    assert proposal_scores(*random_logits(classes=1)).sum().item() == pytest.approx(1)


def test_gradient() -> None:
    labels = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: image_loss(proposal_scores(a, b), labels), random_logits())


def test_impossible_scores_have_a_finite_loss() -> None:
    far = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = image_loss(proposal_scores(far, far), torch.tensor([0.0, 1.0]))
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert far.grad is not None
    assert far.grad.isfinite().all()


def test_an_image_without_proposals_counts_nothing() -> None:
    empty = torch.zeros(0, 3, requires_grad=True)
    loss = image_loss(proposal_scores(empty, empty), torch.tensor([1.0, 0.0, 0.0]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert empty.grad is not None


def test_head_starts_undecided() -> None:
    torch.manual_seed(0)
    scores = proposal_scores(*WsddnHead(16, 4)(torch.randn(10, 16)))
    assert scores.shape == (10, 4)
    assert float((scores.detach() * 40 - 1).abs().max()) < 0.5
