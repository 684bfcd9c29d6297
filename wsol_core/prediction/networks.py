"""Every kind of network that gives maps by itself: its parameters, how it is built, and what it says of images.

The `*_maps` stages name their method themselves, so that a change of one method reruns no other's stages; here all are
side by side. Where a stage takes the map of the image's label, there is no label: the class that the network finds
likeliest stands in. Such a network's answer has the classes' probabilities too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wsol_core.backbones.create import OnBackbone
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.devices import Precision
from wsol_core.engine.training_params import NetworkParams
from wsol_core.heads.mff_net import fuse
from wsol_core.methods.bcct import ct as bcct
from wsol_core.methods.bcct import joint as bcct_joint
from wsol_core.methods.bcct import pixel_supervision
from wsol_core.methods.bcct.binary import GradientParams, build_binary, gradient_maps
from wsol_core.methods.bcct.pixel_supervision import CTParams
from wsol_core.methods.fam import network as fam
from wsol_core.methods.psol import network as psol
from wsol_core.methods.sec import network as sec
from wsol_core.methods.spol import networks as spol
from wsol_core.methods.two_phase import phases as two_phase
from wsol_core.methods.wsfl import foreground as wsfl


class Answer(NamedTuple):
    """What a network says of B images."""

    maps: Tensor
    """`(B, h, w)` in [0, 1]: where the object is"""
    classes: Tensor | None
    """`(B, C)` probabilities, which need not sum to 1 where an image may show several; None of a network without"""


Look = Callable[[OnBackbone, Tensor], Answer]
"""From a network and images `(B, 3, H, W)`."""


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes:
        params: what a checkpoint of it holds.
        build: from parameters and the number of classes to the untrained network.
        look: from parameters to what the network says.
        differentiates: whether the answer takes a gradient, which an exported graph cannot hold.
    """

    params: type[NetworkParams]
    build: Callable[[Any, int], OnBackbone]
    look: Callable[[Any], Look]
    differentiates: bool = False


@dataclass(frozen=True)
class Network:
    """A trained network, and how it looks at images: squashed to a square of `side` pixels."""

    model: OnBackbone
    look: Look
    side: int
    precision: Precision
    exportable: bool


def load_network(path: Path, kind: str, classes: int) -> Network:
    """The trained network of a checkpoint, in evaluation mode.

    Raises:
        InputError: the file is no checkpoint of this kind of network.
    """
    made = KINDS[kind]
    model, params = rebuild(path, made.params, lambda params: made.build(params, classes))
    training = params.training
    look = made.look(params)
    return Network(model.eval(), look, training.inference_side, training.precision, not made.differentiates)


def _agnostic(build: Callable[[Any], OnBackbone]) -> Callable[[Any, int], OnBackbone]:
    return lambda params, _: build(params)


def _by_maps(predict: Callable[..., Tensor]) -> Callable[[Any], Look]:
    """The first map of a method's own function, for which labels play no part."""
    return lambda _: lambda model, images: Answer(predict(model, images, _no_labels(images))[:, 0], None)


def _no_labels(images: Tensor) -> Tensor:
    return torch.full((images.shape[0], 1), -1, device=images.device)


def _gradient(params: GradientParams) -> Look:
    maps = partial(gradient_maps, params=params)
    return lambda model, images: Answer(maps(model, images, _no_labels(images))[:, 0], None)


def _cam(params: spol.CamParams) -> Look:
    chosen: spol.Classes = "predicted" if params.maps == "label" else params.maps

    def look(model: OnBackbone, images: Tensor) -> Answer:
        assert isinstance(model, spol.ClassificationNet)
        fused = fuse(model.stages(model.backbone(images)), model.fusion)
        logits = model.pooled_logits(fused)[-1]
        shares = spol.class_shares(logits, _no_labels(images), chosen)
        return Answer(spol.activations(fused[-1], shares, model.head_weights()[-1])[:, 0], logits.softmax(1))

    return look


def _fam(_: fam.FamParams) -> Look:
    def look(model: OnBackbone, images: Tensor) -> Answer:
        found: fam.Fam = model(images)
        return Answer(found.foreground, found.logits.softmax(1))

    return look


def _bcct(_: CTParams) -> Look:
    def look(model: OnBackbone, images: Tensor) -> Answer:
        heat = model(images).class_maps
        return _likeliest(heat, heat.mean((2, 3)).softmax(1))

    return look


def _bcct_branch(_: CTParams) -> Look:
    def look(model: OnBackbone, images: Tensor) -> Answer:
        found: pixel_supervision.Answer = model(images)
        return Answer(found.mask_logits.sigmoid(), found.class_maps.mean((2, 3)).softmax(1))

    return look


def _phase(_: two_phase.PhaseParams) -> Look:
    def look(model: OnBackbone, images: Tensor) -> Answer:
        found: two_phase.Answer = model(images)
        answer = _likeliest(found.heat, found.logits.sigmoid())
        assert answer.classes is not None
        return Answer(answer.maps * answer.classes.amax(1)[:, None, None], answer.classes)

    return look


def _likeliest(heat: Tensor, classes: Tensor) -> Answer:
    """The maps `(B, C, h, w)` of the likeliest classes `(B, C)`: cut below 0, and divided by their maximum."""
    own = heat.take_along_dim(classes.argmax(1)[:, None, None, None], dim=1)[:, 0].relu()
    return Answer(own / own.amax((1, 2), keepdim=True).clamp(min=torch.finfo(own.dtype).tiny), classes)


KINDS = {
    "foreground": Kind(wsfl.ForegroundParams, _agnostic(wsfl.build), _by_maps(wsfl.foreground_maps)),
    "segmentation": Kind(spol.SegmentationParams, _agnostic(spol.build), _by_maps(spol.segmentation_maps)),
    "psol": Kind(psol.PsolParams, _agnostic(psol.build), _by_maps(psol.psol_maps)),
    "cam": Kind(spol.CamParams, spol.build_cam, _cam),
    "fam": Kind(fam.FamParams, fam.build, _fam),
    "bc": Kind(GradientParams, _agnostic(build_binary), _gradient, differentiates=True),
    "bcct": Kind(bcct.BCCTParams, pixel_supervision.build, _bcct),
    "bcct-branch": Kind(bcct.BCCTParams, pixel_supervision.build, _bcct_branch),
    "bcct_joint": Kind(bcct_joint.JointParams, bcct_joint.build_joint, _bcct),
    "bcct_joint-branch": Kind(bcct_joint.JointParams, bcct_joint.build_joint, _bcct_branch),
    "phase_one": Kind(two_phase.PhaseParams, two_phase.build, _phase),
    "phase_two": Kind(two_phase.LaterPhaseParams, two_phase.build, _phase),
    "sec": Kind(sec.SecParams, sec.build, _by_maps(sec.label_maps)),
}
"""By the word under which `ModelCard.kind` keeps it."""
