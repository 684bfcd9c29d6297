"""How fast this machine is, measured on random pictures: a backbone's passes, a selective search, a dense CRF."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wsol_core.backbones.create import Backbone, BackboneParams, create_backbone
from wsol_core.core.crf_params import CRFParams
from wsol_core.data.images import decode
from wsol_core.engine.devices import Precision, launch
from wsol_core.proposals.selective_search import SearchParams, selective_search
from wsol_core.refinement.crf import mean_field

SECONDS = 0.5
"""A measurement repeats its work for this long, after one run that does not count."""
PIXELS = 8 * 224**2
"""Of a batch on a CPU; a GPU gets eight times as many."""


@dataclass(frozen=True)
class Pass:
    """What a backbone does: forward alone, or forward, backward and a step of SGD."""

    backbone: str
    stride: int
    side: int
    training: bool
    precision: Precision


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        rate: images per second.
        strides: of the backbone's levels, shallow to deep.
        width: channels of the deepest.
        parameters: how many.
    """

    rate: float
    strides: tuple[int, ...]
    width: int
    parameters: int


@cache
def pass_speed(work: Pass) -> Speed:
    """The speed of a backbone of random weights on a batch of random pictures.

    Raises:
        InputError: there is no such backbone, or not with this stride.
    """
    fabric = launch(work.precision)
    backbone = create_backbone(BackboneParams(name=work.backbone, weights="none"), work.stride)
    network = fabric.to_device(backbone.to(memory_format=torch.channels_last))
    pixels = PIXELS * (1 if fabric.device.type == "cpu" else 8)
    batch = max(2, min(32, pixels // work.side**2))
    shape = (batch, 3, work.side, work.side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8).to(fabric.device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 1e-6, momentum=0.9)

    def run() -> None:
        with fabric.autocast(), torch.set_grad_enabled(work.training):
            answer = network(images)[-1].float().mean()
        if work.training:
            _step(answer, optimizer)
        float(answer.detach())

    network.train(work.training)
    parameters = sum(each.numel() for each in backbone.parameters())
    return Speed(batch / _seconds(run), _strides(backbone), backbone.channels[-1], parameters)


def _strides(backbone: Backbone) -> tuple[int, ...]:
    return tuple(backbone.strides)


def _step(answer: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    answer.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@cache
def search_seconds(params: SearchParams, sample: Path | None, side: int) -> float:
    """Seconds of a selective search on one core: in the image `sample`, or in noise of `side` pixels."""
    image = _noise(side) if sample is None else decode(sample)
    return _seconds(lambda: selective_search(image, params, 0))


@cache
def crf_seconds(params: CRFParams, labels: int, longest_side: int) -> float:
    """Seconds of a dense CRF on one core, for an image whose shorter side is three quarters of the longer."""
    image = _noise(longest_side)
    unaries = np.random.default_rng(0).random((labels, *image.shape[:2]), dtype=np.float32)
    return _seconds(
        lambda: mean_field(unaries, image, params), first=lambda: mean_field(unaries[:, :8, :8], image[:8, :8], params)
    )


def _noise(side: int) -> npt.NDArray[np.uint8]:
    """Blocks of random colour `(3/4 side, side, 3)`, which look more like a picture to a segmentation than dots do."""
    colours = np.random.default_rng(0).integers(0, 256, (side * 3 // 32 + 1, side // 8 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(colours.repeat(8, 0).repeat(8, 1)[: side * 3 // 4, :side])


def _seconds(run: Callable[[], object], first: Callable[[], object] | None = None) -> float:
    """Seconds of a run: the mean of as many as fit in `SECONDS`, at least one, after a `first` that does not count."""
    (first or run)()
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < SECONDS:
        run()
        count += 1
    return (time.perf_counter() - start) / count
