"""BC-CT's networks: `binary` (BC), `features` (its baseline), `ct` (CT), and `joint` (both at once)."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from wsol_core.backbones.create import OnBackbone
from wsol_core.core.errors import InputError
from wsol_core.data.index import ImageIndex, read_index
from wsol_core.engine.inference import AGNOSTIC, Predict, Rows
from wsol_core.engine.recipe import Answer, MapRecipe, Output, Recipe
from wsol_core.engine.targets import Targets, has_label, stored_maps
from wsol_core.engine.training import Loss
from wsol_core.engine.training_params import NetworkParams
from wsol_core.methods.bcct import pixel_supervision as ct
from wsol_core.methods.bcct.binary import (
    BinaryNet,
    FeatureNet,
    GradientParams,
    binary_loss,
    build_binary,
    build_features,
    gradient_maps,
    no_loss,
)
from wsol_core.methods.bcct.ct import ct_loss, labelled_masks
from wsol_core.methods.bcct.joint import JointNet, JointParams, build_joint, class_numbers, joint_loss
from wsol_core.methods.bcct.surroundings import folders_of_classes

C = TypeVar("C", bound=ct.CTParams)


class GradientRecipe(MapRecipe[GradientParams]):
    """A network whose answer, propagated back to the pixels, is the map (BC-CT 3.2)."""

    params = GradientParams
    needs_gradients = True

    def maps(self, params: GradientParams) -> Predict:
        """The gradients."""
        return partial(gradient_maps, params=params)


class BinaryRecipe(GradientRecipe):
    """BC: targets and background images in, gradient maps out (BC-CT 3)."""

    def build(self, params: GradientParams, classes: int) -> BinaryNet:
        """A linear layer on frozen features; it knows no classes."""
        del classes
        return build_binary(params)

    def images(self, params: GradientParams, index: ImageIndex) -> ImageIndex:
        """All images; background images are in the index that `background` names."""
        return beside_background(params, index)

    def targets(self, params: GradientParams, index: ImageIndex) -> Targets:
        """Whether an image shows any class."""
        del params, index
        return has_label

    def loss(self, params: GradientParams, index: ImageIndex) -> Loss:
        """Binary cross entropy (Eq. 3)."""
        del params, index
        return binary_loss


class FeaturesRecipe(GradientRecipe):
    """The pretrained features alone, which learn nothing: the baseline of Fig. 3."""

    def build(self, params: GradientParams, classes: int) -> FeatureNet:
        """The frozen backbone."""
        del classes
        return build_features(params)

    def targets(self, params: GradientParams, index: ImageIndex) -> Targets:
        """Whether an image shows any class, of which no use is made."""
        del params, index
        return has_label

    def loss(self, params: GradientParams, index: ImageIndex) -> Loss:
        """None.

        Raises:
            InputError: epochs of training are asked for.
        """
        del index
        if params.training.epochs:
            raise InputError("bcct/features learns nothing; set its training.epochs to 0")
        return no_loss


class ClassMapRecipe(Recipe[C]):
    """A network whose class maps and branch are the outputs (BC-CT 4)."""

    def images(self, params: C, index: ImageIndex) -> ImageIndex:
        """Images of one label each, of several classes."""
        del params
        return ct.several_classes(index.single_label())

    def outputs(self, params: C, classes: int) -> Mapping[str, Output]:
        """Class maps, the branch's maps and class scores."""
        del classes
        rows: Rows = "labels" if params.maps == "label" else AGNOSTIC
        return {
            "maps": Output(partial(ct.class_maps, classes=params.maps), rows),
            "branch": Output(ct.branch_maps),
            "classes": Output(ct.class_probabilities, kind="classes"),
        }

    def look(self, params: C) -> Callable[[OnBackbone, Tensor], Answer]:
        """The map of the likeliest class, and the classes."""
        del params

        def look(model: OnBackbone, images: Tensor) -> Answer:
            heat = model(images).class_maps
            classes = heat.mean((2, 3)).softmax(1)
            return Answer(ct.map_of_likeliest(heat, classes), classes)

        return look


class CTRecipe(ClassMapRecipe[ct.CTParams]):
    """CT: image labels and masks in (BC-CT 4)."""

    params = ct.CTParams
    needs_pseudo_labels = True

    def build(self, params: ct.CTParams, classes: int) -> ct.ClassificationNet:
        """CT on its backbone."""
        return ct.build(params, classes)

    def targets(self, params: ct.CTParams, index: ImageIndex) -> Targets:
        """The masks of `learns_from` with the labels."""
        del index
        return labelled_masks(stored_maps(Path(params.learns_from)))

    def loss(self, params: ct.CTParams, index: ImageIndex) -> Loss:
        """Cross entropy plus the mask loss (Eq. 6)."""
        del index
        return partial(ct_loss, mask=params.mask_loss)


class JointRecipe(ClassMapRecipe[JointParams]):
    """BC and CT trained at once: image labels and background images in (BC-CT 4.2)."""

    params = JointParams

    def needs_images(self, params: JointParams) -> bool:
        """BC's masks are gradients."""
        del params
        return True

    def build(self, params: JointParams, classes: int) -> JointNet:
        """Both networks."""
        return build_joint(params, classes)

    def images(self, params: JointParams, index: ImageIndex) -> ImageIndex:
        """As CT's; background images are in the index that `background` names."""
        return beside_background(params, super().images(params, index))

    def targets(self, params: JointParams, index: ImageIndex) -> Targets:
        """Classes counted from 1, 0 for a background image."""
        del params, index
        return class_numbers

    def loss(self, params: JointParams, index: ImageIndex) -> Loss:
        """BC's loss plus CT's."""
        del index
        return partial(joint_loss, mask=params.mask_loss)


def beside_background(params: NetworkParams, index: ImageIndex) -> ImageIndex:
    """The same index; a line on standard error for background images in folders named as classes.

    Raises:
        InputError: no background images are named.
    """
    if params.background == params.index:
        raise InputError("background: names no background images; add a data set `background` and name its index")
    paths = read_index(Path(params.background)).table["path"].tolist()
    if known := folders_of_classes(paths, index.classes):
        names = ", ".join(known)
        print(f"warning: {params.background}: background images in folders named as classes: {names}", file=sys.stderr)
    return index


RECIPES: dict[str, Recipe[Any]] = {
    "binary": BinaryRecipe(), "features": FeaturesRecipe(), "ct": CTRecipe(), "joint": JointRecipe(),
}  # fmt: skip
