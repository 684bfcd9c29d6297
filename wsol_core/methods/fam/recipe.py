"""FAM's network."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from wsol_core.backbones.create import OnBackbone
from wsol_core.data.index import TRAIN_WEAKSUP, ImageIndex
from wsol_core.engine.recipe import Answer, LabelRecipe, Output
from wsol_core.engine.targets import class_labels
from wsol_core.engine.training import Loss
from wsol_core.methods.fam.network import (
    Fam,
    FamNet,
    FamParams,
    build,
    class_probabilities,
    class_weights,
    foreground_maps,
    joint_loss,
    part_maps,
)


class FamRecipe(LabelRecipe[FamParams]):
    """FAM: image labels in, foreground maps, part maps and class scores out (FAM 3)."""

    params = FamParams

    def build(self, params: FamParams, classes: int) -> FamNet:
        """Both attention modules on the backbone."""
        return build(params, classes)

    def loss(self, params: FamParams, index: ImageIndex) -> Loss:
        """Eq. 11, classes weighted against their frequency in train-weaksup."""
        labels = torch.tensor(class_labels(index.split(TRAIN_WEAKSUP)), dtype=torch.int64)
        return partial(joint_loss, weights=class_weights(labels, len(index.classes)), params=params)

    def outputs(self, params: FamParams, classes: int) -> Mapping[str, Output]:
        """Foreground maps, part maps for pictures (Fig. 5), class scores."""
        del classes
        return {
            "maps": Output(foreground_maps),
            "layers": Output(part_maps, range(params.parts), "pictures"),
            "classes": Output(class_probabilities, kind="classes"),
        }

    def look(self, params: FamParams) -> Callable[[OnBackbone, Tensor], Answer]:
        """The foreground map and the classes."""
        del params

        def look(model: OnBackbone, images: Tensor) -> Answer:
            found: Fam = model(images)
            return Answer(found.foreground, found.logits.softmax(1))

        return look


RECIPES = {"fam": FamRecipe()}
