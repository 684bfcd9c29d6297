"""The loss of pixels: by hand, against loops over pixels, and as plain cross entropy where nothing is ignored."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, IGNORE, Kind, create
from wsol_core.heads.pixel_loss import ImageWeights, agreement, pixel_labels, pixel_loss


def naive_agreement(labels: list[list[float]]) -> float:
    sure = {(y, x) for y, row in enumerate(labels) for x, value in enumerate(row) if value == 1}
    possible = {(y, x) for y, row in enumerate(labels) for x, value in enumerate(row) if value in (1, IGNORE)}
    return len(sure & possible) / len(sure | possible) if sure | possible else 1.0


def naive_loss(logits: Tensor, labels: Tensor, weights: ImageWeights) -> float:
    """Pixel by pixel, image by image."""
    losses, shares = [], []
    for own, wanted in zip(logits.tolist(), labels.tolist(), strict=True):
        pixels = len(wanted) * len(wanted[0])
        known = [(y, x) for y, row in enumerate(wanted) for x, value in enumerate(row) if value != IGNORE]
        losses.append(
            sum(
                math.log1p(math.exp(head[y][x])) - wanted[y][x] * head[y][x] for head in own for y, x in known
            ) / pixels
        )  # fmt: skip
        shares.append(1.0 if weights == "equal" else naive_agreement(wanted))
    total = sum(shares)
    return sum(share * loss for share, loss in zip(shares, losses, strict=True)) / total if total else 0.0


def draw(seed: int, images: int, side: int, heads: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (images, side, side), generator=generator).float()
    labels[labels == 2] = IGNORE
    return torch.randn((images, heads, side, side), generator=generator, requires_grad=True), labels


@pytest.mark.parametrize("weights", ["equal", "agreement"])
@pytest.mark.parametrize(("images", "side", "heads"), [(1, 1, 1), (5, 3, 1), (4, 5, 2)])
def test_loss_equals_the_loop_over_pixels(images: int, side: int, heads: int, weights: ImageWeights) -> None:
    for seed in range(5):
        logits, labels = draw(seed, images, side, heads)
        found = pixel_loss(logits, labels, weights)
        assert found.item() == pytest.approx(naive_loss(logits, labels, weights), rel=1e-5, abs=1e-7)
        found.backward()
        assert logits.grad is not None
        assert (logits.grad[(labels == IGNORE)[:, None].expand_as(logits)] == 0).all()


@pytest.mark.parametrize("side", [4, 7])
def test_without_ignored_pixels_it_is_plain_cross_entropy_to_the_last_bit(side: int) -> None:
    """Masks and shares, of the logits' resolution and of another, one image after another weighted alike."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((6, 1, 4, 4), generator=generator)
    for labels in (torch.randint(0, 2, (6, side, side), generator=generator).float(), torch.rand(6, side, side)):
        first, second = (logits.clone().requires_grad_() for _ in range(2))
        resized = second if side == 4 else functional.interpolate(second, (side, side), mode="bilinear")
        loss, plain = pixel_loss(first, labels), functional.binary_cross_entropy_with_logits(resized[:, 0], labels)
        loss.backward()
        plain.backward()
        assert torch.equal(loss, plain)
        assert first.grad is not None
        assert second.grad is not None
        assert torch.equal(first.grad, second.grad)


def test_images_weigh_by_agreement_by_hand() -> None:
    """One of two pixels that may be the object is sure: weight 1/2; an image that ignores none weighs 1."""
    labels = torch.tensor([[[1.0, 255.0]], [[1.0, 0.0]]])
    logits = torch.tensor([[[[0.0, 9.0]]], [[[2.0, 0.0]]]])
    first, second = math.log(2) / 2, (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert agreement(labels).tolist() == [0.5, 1.0]
    assert pixel_loss(logits, labels).item() == pytest.approx((first + second) / 2, rel=1e-6)
    assert pixel_loss(logits, labels, "agreement").item() == pytest.approx((first / 2 + second) / 1.5, rel=1e-6)


def test_agreement_of_empty_full_and_ignored_labels() -> None:
    labels = torch.stack([torch.full((2, 3), value) for value in (0.0, 1.0, 255.0)])
    assert agreement(labels).tolist() == [1.0, 1.0, 0.0]
    assert agreement(torch.tensor([[[1.0]], [[0.0]], [[255.0]]])).tolist() == [1.0, 1.0, 0.0]
    for seed in range(5):
        drawn = draw(seed, 8, 3, 1)[1]
        assert agreement(drawn).tolist() == pytest.approx([naive_agreement(each) for each in drawn.tolist()])


@pytest.mark.parametrize("weights", ["equal", "agreement"])
@pytest.mark.parametrize("ground", [0.0, 255.0])
def test_a_batch_without_weight_has_no_loss_and_no_gradient(ground: float, weights: ImageWeights) -> None:
    """No pixel is foreground: known background beside ignored pixels weighs nothing by agreement."""
    labels = torch.full((2, 2, 2), ground)
    labels[:, 0, 0] = IGNORE
    logits = torch.ones(2, 1, 2, 2, requires_grad=True)
    loss = pixel_loss(logits, labels, weights)
    loss.backward()
    assert logits.grad is not None
    silent = weights == "agreement" or ground == IGNORE
    assert (loss.item() == 0) == silent
    assert (logits.grad == 0).all().item() == silent


@pytest.mark.parametrize("kind", [Kind.MASK, Kind.SCORE, Kind.TRISTATE])
def test_labels_of_one_threshold_have_no_agreement(kind: Kind, tmp_path: Path) -> None:
    path, rows = tmp_path / "labels.h5", pd.DataFrame({"image_id": ["a", "b"]})
    labels = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]).numpy()
    with create(path, kind, 1, 2) as writer:
        writer.append(["a", "b"], [CLASS_AGNOSTIC] * 2, labels)
    assert (pixel_labels(path, "equal")(rows)[1] == labels[1]).all()
    if kind is Kind.TRISTATE:
        assert (pixel_labels(path, "agreement")(rows)[1] == labels[1]).all()
    else:
        with pytest.raises(InputError, match=r"labels\.h5: has no ignored pixels, .* leave out image_weights"):
            pixel_labels(path, "agreement")(rows)
