"""Two-Phase learning's networks: `first` and `later`."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from wsol_core.backbones.create import OnBackbone
from wsol_core.data.index import ImageIndex
from wsol_core.engine.inference import Rows
from wsol_core.engine.recipe import Answer, Output, Recipe
from wsol_core.engine.targets import Targets
from wsol_core.engine.training import Loss
from wsol_core.methods.two_phase import phases
from wsol_core.methods.two_phase.phases import LaterPhaseParams, PhaseNet, PhaseParams, weighted_maps
from wsol_core.methods.two_phase.saliency import saliency_maps

F = TypeVar("F", bound=PhaseParams)


class PhaseRecipe(Recipe[F]):
    """A network: image labels in, heat maps of classes and gradient saliency out (Two-Phase 3.3, 4.2)."""

    def needs_images(self, params: F) -> bool:
        """Saliency is a gradient."""
        return params.saliency is not None

    def build(self, params: F, classes: int) -> PhaseNet:
        """The network of every phase."""
        return phases.build(params, classes)

    def images(self, params: F, index: ImageIndex) -> ImageIndex:
        """All images, whose labels must differ."""
        del params
        return phases.different_labels(index)

    def loss(self, params: F, index: ImageIndex) -> Loss:
        """The multi-label logistic loss (3.3)."""
        del params, index
        return phases.logistic_loss

    def outputs(self, params: F, classes: int) -> Mapping[str, Output]:
        """Maps weighted by their classes' probabilities (Eq. 5), and saliency where the parameters name a level."""
        rows: Rows = "labels" if params.maps == "label" else range(classes)
        found = {"maps": Output(partial(weighted_maps, classes=params.maps), rows)}
        if params.saliency is not None:
            scores = lambda model, images: model(images).logits  # noqa: E731
            found["saliency"] = Output(partial(saliency_maps, scores=scores, level=params.saliency))
        return found

    def look(self, params: F) -> Callable[[OnBackbone, Tensor], Answer]:
        """The weighted map of the likeliest class, and the classes."""
        del params

        def look(model: OnBackbone, images: Tensor) -> Answer:
            assert isinstance(model, PhaseNet)
            heat, logits = model(images)
            classes = logits.sigmoid()
            own = heat.take_along_dim(classes.argmax(1)[:, None, None, None], dim=1)[:, 0].relu()
            maps = own / own.amax((1, 2), keepdim=True).clamp(min=torch.finfo(own.dtype).tiny)
            return Answer(maps * classes.amax(1)[:, None, None], classes)

        return look


class FirstPhaseRecipe(PhaseRecipe[PhaseParams]):
    """The first network, which sees all."""

    params = PhaseParams

    def targets(self, params: PhaseParams, index: ImageIndex) -> Targets:
        """The labels; nothing is suppressed."""
        del params
        return phases.first_targets(len(index.classes))


class LaterPhaseRecipe(PhaseRecipe[LaterPhaseParams]):
    """A later network, which does not see what the maps of `learns_from` show (Two-Phase 3.5)."""

    params = LaterPhaseParams
    needs_pseudo_labels = True

    def targets(self, params: LaterPhaseParams, index: ImageIndex) -> Targets:
        """The labels, under the suppression masks of `learns_from`."""
        return phases.later_targets(len(index.classes), Path(params.learns_from), params.threshold)


RECIPES: dict[str, Recipe[Any]] = {"first": FirstPhaseRecipe(), "later": LaterPhaseRecipe()}
