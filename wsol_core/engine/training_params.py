"""How a network is trained: the parameters of every training, and the course of its rates."""

import math
from typing import Literal

from pydantic import Field

from wsol_core.backbones.create import BackboneParams
from wsol_core.core.params import Block
from wsol_core.data.loading import Geometry
from wsol_core.engine.devices import Precision


class OptimizerParams(Block):
    """How any network learns: SGD, and how long."""

    epochs: int = Field(ge=0)
    """passes over the training images; 0 leaves the starting weights as they are"""
    batch: int = Field(gt=0)
    """pictures per step, over all processes together"""
    accumulate: int = Field(default=1, gt=0)
    """parts of a process's pictures that are computed one after another, their gradients summed: less memory"""
    head_rate: float = Field(ge=0)
    """peak learning rate of the new layers"""
    momentum: float = 0.9
    """of SGD"""
    weight_decay: float = 1e-4
    """of all parameters"""
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "cosine"
    """course of the rates: constant; a tenth after every `step_epochs`; half a cosine; warm-up over 30 % and down"""
    step_epochs: int = Field(default=10, gt=0)
    """for the schedule `step`"""
    gradient_clip: float = Field(default=0.0, ge=0)
    """largest norm of the gradient; 0 for none"""

    @property
    def rates(self) -> tuple[float, float]:
        """Peak learning rates of the pretrained and of the new layers."""
        return 0.0, self.head_rate


class TrainingParams(OptimizerParams):
    """How a network on images is trained. Named rates: `backbone` for pretrained layers, `head` for new ones."""

    backbone_rate: float = Field(ge=0)
    """peak learning rate of the pretrained layers"""
    image_side: int = Field(default=224, gt=0)
    """side of the square pictures that the network sees, in pixels"""
    crop_from: int = Field(default=0, ge=0)
    """side that pictures are squashed to before a random crop; 0 for no cropping"""
    flip: bool = True
    """mirror half of the pictures"""
    precision: Precision = "bf16-mixed"
    """bf16 autocast, or float32"""

    @property
    def rates(self) -> tuple[float, float]:
        """Peak learning rates of the pretrained and of the new layers."""
        return self.backbone_rate, self.head_rate

    @property
    def inference_side(self) -> int:
        """Side of the squashed picture at inference: the whole image at the scale that training crops come from."""
        return self.crop_from or self.image_side

    @property
    def geometry(self) -> Geometry:
        """How training pictures move."""
        return Geometry(self.image_side, self.crop_from or self.image_side, self.flip)


class LearningParams(Block):
    """A network and its training."""

    training: OptimizerParams
    """how it is trained"""


class NetworkParams(LearningParams):
    """A network on a pretrained backbone, and its training."""

    backbone: BackboneParams
    """the network that it starts from"""
    training: TrainingParams
    """how it is trained"""


def rate_factor(params: OptimizerParams, step: int, steps_per_epoch: int) -> float:
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
