"""How a network is trained: the parameters of every training, and the course of its rates."""

import math
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from wsol_core.backbones.create import Backbone, BackboneParams, create_backbone
from wsol_core.core.params import Block
from wsol_core.data.index import DataSet
from wsol_core.data.loading import Geometry
from wsol_core.engine.devices import Precision
from wsol_core.engine.features import FeatureParams, frozen_backbone

IDLE_ON_FEATURES = frozenset({
    "backbone", "output_stride",
    "training.lr_backbone", "training.image_side", "training.resize", "training.precision",
})  # fmt: skip
"""Fields of an entry that say nothing where it sees cached features."""
INDEX_FIELDS = ("sees", "learns_from", "starts_from", "background")
"""Paths of an entry that name the data set's index where they play no part."""


class OptimizerParams(Block):
    """The optimizer."""

    name: Literal["sgd", "adamw"] = "sgd"
    """sgd (with momentum) or adamw (decoupled weight decay)"""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """of SGD; the first beta of AdamW"""
    weight_decay: float = Field(default=1e-4, ge=0)
    """of all parameters"""


class FitParams(Block):
    """How any network learns, and how long."""

    epochs: int = Field(ge=0)
    """passes over the training images; 0 leaves the starting weights as they are"""
    batch: int = Field(default=32, gt=0)
    """images per step, over all processes together"""
    accumulate: int = Field(default=1, gt=0)
    """parts of a process's images that are computed one after another, their gradients summed: less memory"""
    lr_head: float = Field(ge=0)
    """peak learning rate of the new layers"""
    optimizer: OptimizerParams = OptimizerParams()
    """what turns gradients into steps"""
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "cosine"
    """learning rate: constant; a tenth after every `step_epochs`; half a cosine; warm-up over 30 % and down"""
    step_epochs: int = Field(default=10, gt=0)
    """epochs per step of the schedule `step`"""
    gradient_clip: float = Field(default=0.0, ge=0)
    """largest norm of the gradient; 0 for none"""

    @property
    def rates(self) -> tuple[float, float]:
        """Peak learning rates of the pretrained and of the new layers."""
        return 0.0, self.lr_head


class TrainingParams(FitParams):
    """How a network on images is trained: pretrained layers and new ones have learning rates of their own."""

    lr_backbone: float = Field(ge=0)
    """peak learning rate of the pretrained layers"""
    image_side: int = Field(default=224, gt=0)
    """side of the square images that the network sees, in pixels"""
    resize: int = Field(default=0, ge=0)
    """side that images are resized to before a random crop; 0 for no cropping"""
    flip: bool = True
    """mirror half of the images"""
    precision: Precision = "bf16-mixed"
    """bf16-mixed (float32 where bfloat16 is emulated) or 32-true"""

    @property
    def rates(self) -> tuple[float, float]:
        """Peak learning rates of the pretrained and of the new layers."""
        return self.lr_backbone, self.lr_head

    @property
    def inference_side(self) -> int:
        """Side of the resized image at inference: the whole image at the scale that training crops come from."""
        return self.resize or self.image_side

    @property
    def geometry(self) -> Geometry:
        """How training images move."""
        return Geometry(self.image_side, self.resize or self.image_side, self.flip)


class LearningParams(Block):
    """A network and its training."""

    training: FitParams
    """how it is trained"""


class NetworkParams(LearningParams):
    """An entry of `networks:`, a network on a pretrained backbone; each kind of network adds its own parameters.

    The stages `train` and `maps` depend on the paths; one that plays no part names the data set's index.
    """

    method: str = ""
    """folder of `wsol_core/methods` that defines the network"""
    network: str = ""
    """which of the method's networks"""
    set: DataSet = "localization"
    """data set that it learns from and gives maps of"""
    sees: str = ""
    """what it sees: the index for the images themselves, or data/SET/features/NAME.h5, their cached features"""
    learns_from: str = ""
    """pseudo labels (a map store or boxes) that it learns from; the index for image labels alone"""
    starts_from: str = ""
    """checkpoint of a network of the same shape that it starts from; the index for the backbone's weights alone"""
    background: str = ""
    """index of images that show none of the classes; the data set's own index for none"""
    backbone: BackboneParams = BackboneParams()
    """the pretrained network"""
    features: FeatureParams | None = None
    """how the features that it sees were made; filled in from their store"""
    training: TrainingParams
    """how it is trained"""

    @model_validator(mode="before")
    @classmethod
    def _name_the_index(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        index = f"data/{content.get('set', cls.model_fields['set'].default)}/index.parquet"
        return content | {field: content.get(field) or index for field in INDEX_FIELDS}

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_features_decide(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("features"):
            return content
        training = content.get("training")
        fields = dict(training) if isinstance(training, dict) else {}
        given = set(content) | {f"training.{key}" for key in fields}
        if not is_store(str(content.get("sees"))):
            return content
        if idle := sorted(given & IDLE_ON_FEATURES):
            raise ValueError(f"{idle[0]}: of no effect on cached features; leave it out, and see `features`")
        return content | ({"training": fields | {"lr_backbone": 0.0}} if fields else {})

    @property
    def levels_read(self) -> tuple[int, ...]:
        """Feature maps that it looks at, counted from the pyramid's end: its field `levels` or `level`, or the last."""
        levels: tuple[int, ...] = getattr(self, "levels", (getattr(self, "level", -1),))
        return levels

    @property
    def sees_features(self) -> bool:
        """Whether it sees cached features, not images."""
        return is_store(self.sees)

    def idle_fields(self) -> frozenset[str]:
        """On features, what their store decides."""
        return frozenset({"features"}) | (IDLE_ON_FEATURES if self.sees_features else frozenset())

    def on_features(self, features: FeatureParams) -> Self:
        """These parameters, of a network on the features of a store: heads in float32, images at the store's side."""
        training = {"precision": "32-true", "image_side": features.side, "resize": 0, "lr_backbone": 0.0}
        return self.model_copy(
            update={
                "features": features,
                "backbone": features.backbone,
                "training": self.training.model_copy(update=training),
            }
        )

    def without_weights(self) -> Self:
        """These parameters with a backbone that loads no weights: those of a checkpoint take their place."""
        bare = self.backbone.model_copy(update={"weights": "none"})
        features = self.features and self.features.model_copy(update={"backbone": bare})
        return self.model_copy(update={"backbone": bare, "features": features})

    def create_backbone(self, output_stride: int = 32) -> Backbone:
        """The backbone: as a whole and to be trained, or the frozen one of the features.

        Raises:
            InputError: it cannot be had, or has not the levels that are read.
        """
        if self.features is not None:
            backbone: Backbone = frozen_backbone(self.features)
        else:
            backbone = create_backbone(self.backbone, output_stride)
        for level in self.levels_read:
            backbone.check_level(level)
        return backbone

    @property
    def index(self) -> str:
        """The index of the data set."""
        return f"data/{self.set}/index.parquet"


def is_store(path: str) -> bool:
    """Whether a path that an entry sees is a feature store, not an index."""
    return path.endswith(".h5")


def rate_factor(params: FitParams, step: int, steps_per_epoch: int) -> float:
    """The share in (0, 1] of the peak rates at a step, counted from 0 over the whole run."""
    done = step / max(1, params.epochs * steps_per_epoch)
    match params.schedule:
        case "constant":
            return 1.0
        case "step":
            return float(0.1 ** (step // steps_per_epoch // params.step_epochs))
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "one_cycle":
            warm = 0.3
            position = done / warm if done < warm else 1 - (done - warm) / (1 - warm)
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * position))
