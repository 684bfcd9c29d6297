"""How fast this machine is, measured on random pictures.

Backbones, heads on cached features, DDT's components, selective search and dense CRF.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wsol_core.backbones.create import BackboneParams, create_backbone
from wsol_core.backbones.folding import fold_batch_norm
from wsol_core.core.crf_params import CRFParams
from wsol_core.core.errors import InputError
from wsol_core.data.images import decode
from wsol_core.detection.detector import DetectorParams
from wsol_core.engine.devices import Precision, launch
from wsol_core.engine.features import FeatureParams, FrozenBackbone, Shape, frozen_backbone
from wsol_core.engine.recipe import find_recipe
from wsol_core.engine.training_params import NetworkParams
from wsol_core.methods.ddt.principal_component import Moments, block_component
from wsol_core.proposals.selective_search import SearchParams, selective_search
from wsol_core.refinement.crf import mean_field

Network = NetworkParams | DetectorParams

SECONDS = 0.5
"""A measurement repeats its work for this long, after one run that does not count."""
PIXELS = 8 * 224**2
"""Of a batch on a CPU; a GPU gets eight times as many."""
ROWS = 16
"""Images in a batch of features."""


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
        parameters: how many.
    """

    rate: float
    strides: tuple[int, ...]
    parameters: int


@cache
def pass_speed(work: Pass) -> Speed:
    """The speed of a backbone of random weights on a batch of random pictures; untrained, as frozen ones are (folded).

    Raises:
        InputError: there is no such backbone, or not with this stride.
    """
    fabric = launch(work.precision)
    backbone = create_backbone(BackboneParams(name=work.backbone, weights="none"), work.stride)
    if not work.training:
        backbone.network = fold_batch_norm(backbone.network)
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
    return Speed(batch / _seconds(run), tuple(backbone.strides), parameters)


def network_speed(network: Network, side: int, training: bool) -> Speed:
    """The speed of a network's backbone, see `pass_speed`."""
    stride = getattr(network, "output_stride", 32)
    return pass_speed(Pass(network.backbone.name, stride, side, training, network.training.precision))


def store_speed(features: FeatureParams) -> Speed:
    """The speed of the backbone of an entry of `features:`, see `pass_speed`."""
    return pass_speed(Pass(features.backbone.name, features.output_stride, features.side, False, features.precision))


@cache
def store_shapes(features: FeatureParams) -> tuple[Shape, ...]:
    """`(C, h, w)` of each level of a feature store, from a blank picture.

    Raises:
        InputError: there is no such backbone, or not with these levels.
    """
    backbone = frozen_backbone(without_weights(features))
    with torch.no_grad():
        levels = backbone(torch.zeros((1, 3, features.side, features.side), dtype=torch.uint8))
    return tuple((level.shape[1], level.shape[2], level.shape[3]) for level in levels)


def level_shape(features: FeatureParams, number: int) -> Shape:
    """`(C, h, w)` of a level of a feature store, counted from either end.

    Raises:
        InputError: the store has none.
    """
    shapes = store_shapes(features)
    if not -len(shapes) <= number < len(shapes):
        raise InputError(f"level {number}: the features have {len(shapes)} levels; see `features`")
    return shapes[number]


def without_weights(features: FeatureParams) -> FeatureParams:
    """The same maps of a backbone with random weights, in float32."""
    bare = features.backbone.model_copy(update={"weights": "none"})
    return features.model_copy(update={"backbone": bare, "precision": "32-true"})


@cache
def head_speed(params: NetworkParams, features: FeatureParams, classes: int, training: bool) -> float:
    """Rows of a feature store that the heads of a network see in a second, forward alone or with a step of SGD."""
    fabric, shapes = launch("32-true"), store_shapes(features)
    own = params.on_features(without_weights(features))
    network = find_recipe(own.method, own.network).build(own, classes)
    fabric.to_device(network)
    assert isinstance(network.backbone, FrozenBackbone)
    network.backbone.shapes = shapes
    rows = fabric.to_device(torch.rand(ROWS, sum(math.prod(shape) for shape in shapes)).to(torch.float16))
    optimizer = torch.optim.SGD(network.parameters(), 1e-6, momentum=0.9)

    def run() -> None:
        with torch.set_grad_enabled(training):
            answer = torch.stack([each.float().mean() for each in _tensors(network(rows))]).sum()
        if answer.requires_grad:
            _step(answer, optimizer)
        float(answer.detach())

    network.train(training)
    return ROWS / _seconds(run)


def _tensors(answer: object) -> Iterator[Tensor]:
    """All tensors in what a network says."""
    if isinstance(answer, Tensor):
        yield answer
    elif isinstance(answer, list | tuple):
        for each in answer:
            yield from _tensors(each)


@cache
def component_seconds(shape: Shape) -> float:
    """Seconds that DDT's components take for the features `(C, h, w)` of an image: of its class and of all images."""
    features = torch.rand(ROWS, *shape)
    moments = Moments(shape[0])

    def run() -> None:
        block_component(features)
        moments.add(features)

    return _seconds(run) / ROWS


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
