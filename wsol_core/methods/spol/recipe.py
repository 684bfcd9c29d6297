"""SPOL's networks: MFF-Net 1 (`cam`, `cam-released`) and MFF-Net 2 (`segmentation`, `segmentation-mean-teacher`)."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from wsol_core.backbones.create import OnBackbone
from wsol_core.data.index import ImageIndex
from wsol_core.engine.inference import AGNOSTIC, Predict
from wsol_core.engine.recipe import Answer, LabelRecipe, MapRecipe, Output, no_labels
from wsol_core.engine.targets import Targets
from wsol_core.engine.training import Loss
from wsol_core.heads.mff_net import fuse
from wsol_core.heads.pixel_loss import pixel_labels
from wsol_core.methods.spol.mean_teacher import (
    MeanTeacherNet,
    MeanTeacherParams,
    build_mean_teacher,
    mean_teacher_loss,
)
from wsol_core.methods.spol.networks import (
    CamNet,
    CamParams,
    Classes,
    ClassificationNet,
    SegmentationNet,
    SegmentationParams,
    activation_maps,
    activations,
    branch_maps,
    build,
    build_cam,
    class_shares,
    classification_loss,
    segmentation_loss,
    segmentation_maps,
)
from wsol_core.methods.spol.released import ReleasedNet, ReleasedParams, build_released

C = TypeVar("C", bound=CamParams)
S = TypeVar("S", bound=SegmentationParams)


class ActivationRecipe(LabelRecipe[C]):
    """Image labels in, activation maps out (SPOL 3.2 and 3.3)."""

    def loss(self, params: C, index: ImageIndex) -> Loss:
        """The sum of two cross entropies, or as `auxiliary` says (3.5)."""
        del index
        return partial(classification_loss, auxiliary=params.auxiliary)

    def outputs(self, params: C, classes: int) -> Mapping[str, Output]:
        """Activation maps, and those of each fused stage for pictures (Fig. 7)."""
        del classes
        rows = "labels" if params.maps == "label" else AGNOSTIC
        stages = range(len(params.levels))
        return {
            "maps": Output(partial(activation_maps, classes=params.maps), rows),
            "layers": Output(partial(branch_maps, classes=params.maps), stages, "pictures"),
        }

    def look(self, params: C) -> Callable[[OnBackbone, Tensor], Answer]:
        """The map of the likeliest class, where the stage takes the label's, and the classes."""
        chosen: Classes = "predicted" if params.maps == "label" else params.maps

        def look(model: OnBackbone, images: Tensor) -> Answer:
            assert isinstance(model, CamNet)
            fused = fuse(model.stages(model.backbone(images)), model.fusion)
            logits = model.pooled_logits(fused)[-1]
            shares = class_shares(logits, no_labels(images), chosen)
            return Answer(activations(fused[-1], shares, model.head_weights()[-1])[:, 0], logits.softmax(1))

        return look


class CamRecipe(ActivationRecipe[CamParams]):
    """MFF-Net 1."""

    params = CamParams

    def build(self, params: CamParams, classes: int) -> ClassificationNet:
        """MFF-Net 1."""
        return build_cam(params, classes)


class ReleasedRecipe(ActivationRecipe[ReleasedParams]):
    """MFF-Net 1 of the released code."""

    params = ReleasedParams

    def build(self, params: ReleasedParams, classes: int) -> ReleasedNet:
        """MFF-Net 1 of the released code."""
        return build_released(params, classes)


class TriStateRecipe(MapRecipe[S]):
    """Tri-state pseudo labels in, foreground maps out (SPOL 3.4)."""

    needs_pseudo_labels = True

    def targets(self, params: S, index: ImageIndex) -> Targets:
        """The pseudo labels of `learns_from`."""
        del index
        return pixel_labels(Path(params.learns_from), params.image_weights)

    def maps(self, params: S) -> Predict:
        """Foreground maps."""
        del params
        return segmentation_maps


class SegmentationRecipe(TriStateRecipe[SegmentationParams]):
    """MFF-Net 2."""

    params = SegmentationParams

    def build(self, params: SegmentationParams, classes: int) -> SegmentationNet:
        """MFF-Net 2; it knows no classes."""
        del classes
        return build(params)

    def loss(self, params: SegmentationParams, index: ImageIndex) -> Loss:
        """Binary cross entropy on pixels that are not ignored (Eq. 7)."""
        del index
        return partial(segmentation_loss, weights=params.image_weights)


class MeanTeacherRecipe(TriStateRecipe[MeanTeacherParams]):
    """MFF-Net 2 with a teacher for ignored pixels."""

    params = MeanTeacherParams

    def build(self, params: MeanTeacherParams, classes: int) -> MeanTeacherNet:
        """Student and teacher; they know no classes."""
        del classes
        return build_mean_teacher(params)

    def loss(self, params: MeanTeacherParams, index: ImageIndex) -> Loss:
        """Binary cross entropy with pseudo labels, and with the teacher where they are ignored."""
        del index
        return partial(mean_teacher_loss, confidence=params.confidence, weights=params.image_weights)


RECIPES = {
    "cam": CamRecipe(),
    "cam-released": ReleasedRecipe(),
    "segmentation": SegmentationRecipe(),
    "segmentation-mean-teacher": MeanTeacherRecipe(),
}
