"""The exact mean field: against a naive one, against the lattice, degenerate shapes."""

import math

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from wsol_core.core.crf_params import CRFParams
from wsol_core.methods.sec import exact_crf
from wsol_core.methods.sec.exact_crf import mean_field
from wsol_core.refinement.crf import mean_field as mean_field_on_lattice

SMALL = CRFParams(
    iterations=3, appearance_weight=2, appearance_pixels=2.5, appearance_levels=60, smoothness_weight=1,
    smoothness_pixels=1.2,
)  # fmt: skip
SEC = CRFParams(appearance_pixels=80 / 12, smoothness_pixels=3 / 12)


def batch(images: int, labels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(labels * height + width)
    unaries = 4 * torch.rand(images, labels, height, width, generator=generator)
    return unaries, torch.randint(0, 256, (images, 3, height, width), dtype=torch.uint8, generator=generator)


def photograph(side: int, seed: int) -> tuple[Tensor, Tensor]:
    """Unaries of 21 labels, three of them likely, and a picture, both smooth but for a little noise."""
    rng = np.random.default_rng(seed)
    scores = np.stack([cv2.resize(rng.normal(0, 1, (6, 6)), (side, side)) for _ in range(21)])
    scores[:3] += 3
    picture = cv2.resize(rng.uniform(0, 255, (5, 5, 3)), (side, side), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
    unaries = -torch.from_numpy(scores.astype(np.float32)).log_softmax(0)
    return unaries[None], torch.from_numpy(picture).permute(2, 0, 1)[None]


def naive(unaries: npt.NDArray[np.float64], image: npt.NDArray[np.float64], params: CRFParams) -> Tensor:
    """Pixel by pixel, pair by pair."""
    _, height, width = unaries.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]

    def appearance(a: tuple[int, int], b: tuple[int, int]) -> float:
        colour = sum((image[:, *a] - image[:, *b]) ** 2) / params.appearance_levels**2
        return math.exp(-(math.dist(a, b) ** 2 / params.appearance_pixels**2 + colour) / 2)

    def smoothness(a: tuple[int, int], b: tuple[int, int]) -> float:
        return math.exp(-(math.dist(a, b) ** 2) / params.smoothness_pixels**2 / 2)

    weights = {appearance: params.appearance_weight, smoothness: params.smoothness_weight}
    sums = {(kernel, a): sum(kernel(a, b) for b in pixels) for kernel in weights for a in pixels}
    found = np.exp(-unaries) / np.exp(-unaries).sum(0)
    for _ in range(params.iterations):
        before, found = found, np.empty_like(found)
        for a in pixels:
            logits = -unaries[:, *a]
            for kernel, weight in weights.items():
                for b in pixels:
                    share = kernel(a, b) / math.sqrt(sums[kernel, a] * sums[kernel, b])
                    logits = logits + weight * share * before[:, *b]
            found[:, *a] = np.exp(logits) / np.exp(logits).sum()
    return torch.from_numpy(found)


@pytest.mark.parametrize(("labels", "height", "width"), [(3, 3, 4), (2, 1, 5), (4, 5, 1)])
def test_equals_a_naive_loop_over_pixels(labels: int, height: int, width: int) -> None:
    unaries, images = batch(2, labels, height, width)
    found = mean_field(unaries, images, SMALL)
    for each, unary, image in zip(found, unaries, images, strict=True):
        expected = naive(unary.double().numpy(), image.double().numpy(), SMALL)
        torch.testing.assert_close(each, expected.float(), atol=2e-5, rtol=0)
        assert (expected - (-unary).softmax(0)).abs().max() > 0.1


def agreement(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """Mean total variation between marginals `(C, H, W)`, and the share of pixels of one likeliest label."""
    same = (found.argmax(0) == expected.argmax(0)).float().mean()
    return float((found - expected).abs().sum(0).mean() / 2), float(same)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_library_on_smooth_pictures(seed: int) -> None:
    """Its lattice moves .02 to .03 of a pixel's probability to other labels, the field itself much more."""
    pytest.importorskip("pydensecrf.densecrf")
    unaries, images = photograph(41, seed)
    expected = mean_field_on_lattice(unaries[0].numpy(), images[0].permute(1, 2, 0).numpy(), SEC)
    variation, same = agreement(mean_field(unaries, images, SEC)[0], torch.from_numpy(expected))
    assert variation < 0.04
    assert same > 0.96
    assert agreement(torch.from_numpy(expected), (-unaries[0]).softmax(0))[0] > 0.3


def test_bf16_changes_little() -> None:
    unaries, images = photograph(41, 0)
    with torch.autocast("cpu", torch.bfloat16):
        found = mean_field(unaries, images, SEC)
    variation, same = agreement(found[0], mean_field(unaries, images, SEC)[0])
    assert found.dtype == torch.float32
    assert 0 < variation < 0.002
    assert same > 0.998


def test_unaries_of_half_precision_are_computed_with_in_float32() -> None:
    unaries, images = batch(2, 3, 12, 13)
    half = unaries.bfloat16()
    torch.testing.assert_close(mean_field(half, images, SMALL), mean_field(half.float(), images, SMALL), atol=0, rtol=0)


def test_images_do_not_depend_on_their_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    unaries, images = batch(5, 4, 9, 11)
    found = mean_field(unaries, images, SMALL)
    torch.testing.assert_close(found, mean_field(unaries, images, SMALL), atol=0, rtol=0)
    monkeypatch.setattr(exact_crf, "ENTRIES_ON_CPU", 2 * 99**2)
    torch.testing.assert_close(mean_field(unaries, images, SMALL), found, atol=1e-5, rtol=0)
    monkeypatch.setattr(exact_crf, "ENTRIES_ON_CPU", 1)
    torch.testing.assert_close(mean_field(unaries, images, SMALL), found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 21, 1, 1), (2, 1, 6, 5), (3, 3, 1, 7), (2, 21, 14, 9)])
def test_marginals_of_any_shape(shape: tuple[int, int, int, int]) -> None:
    unaries, images = batch(*shape)
    found = mean_field(unaries.requires_grad_(), images, CRFParams())
    assert found.shape == shape
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found.sum(1), torch.ones(shape[0], *shape[2:]))


def test_no_iterations_give_the_probabilities_back() -> None:
    unaries, images = batch(2, 3, 4, 5)
    found = mean_field(unaries, images, SMALL.model_copy(update={"iterations": 0}))
    torch.testing.assert_close(found, (-unaries).softmax(1))


def test_one_pixel_hears_itself() -> None:
    """The weights of the kernels are 2 and 1: logits 0 + 3 * .2689 and 1 + 3 * .7311, apart by 1 + 3 * .4621."""
    unaries = torch.tensor([0.0, -1.0]).view(1, 2, 1, 1)
    found = mean_field(unaries, torch.zeros(1, 3, 1, 1, dtype=torch.uint8), SMALL.model_copy(update={"iterations": 1}))
    assert float(found[0, 1]) == pytest.approx(1 / (1 + math.exp(-1 - 3 * 0.46212)), abs=1e-5)


def test_a_constant_picture_and_a_wide_kernel_share_one_opinion() -> None:
    """All pixels hear 5 times the mean of all: marginals differ by their own unaries alone."""
    unaries, _ = batch(1, 2, 5, 6)
    params = CRFParams(iterations=1, appearance_weight=5, appearance_pixels=1e4, smoothness_weight=0)
    found = mean_field(unaries, torch.full((1, 3, 5, 6), 90, dtype=torch.uint8), params)
    mean = (-unaries).softmax(1).mean((2, 3), keepdim=True)
    torch.testing.assert_close(found, (5 * mean - unaries).softmax(1), atol=1e-5, rtol=0)


def test_colours_far_apart_do_not_mix() -> None:
    """Two halves, black and white: each goes to its own likelier label, though one pixel of it thinks otherwise."""
    images = torch.zeros(1, 3, 6, 6, dtype=torch.uint8)
    images[..., 3:] = 255
    unaries = torch.zeros(1, 2, 6, 6)
    unaries[:, 0, :, 3:], unaries[:, 1, :, :3] = 1, 1
    unaries[0, :, 2, 1] = torch.tensor([1.0, 0.0])
    found = mean_field(unaries, images, CRFParams(appearance_pixels=3, smoothness_weight=0)).argmax(1)
    assert (found[..., :3] == 0).all()
    assert (found[..., 3:] == 1).all()
