"""Feature maps of a frozen network: which ones, and the network as a module that takes images or what was cached.

A network whose entry `sees` a feature store has a frozen backbone: its heads learn from the cached maps, and look at
images through the same backbone, rounded to float16 as the store is, so both give the same answers.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from wsol_core.backbones.create import Backbone, BackboneParams, create_backbone
from wsol_core.backbones.folding import fold_batch_norm
from wsol_core.backbones.pyramid import Pyramid, Statistics
from wsol_core.core.errors import InputError
from wsol_core.core.params import Block
from wsol_core.data.index import DataSet
from wsol_core.engine.devices import Precision, choose_precision

View = Literal["plain", "mirrored", "turned"]
"""The image as it is, left and right exchanged, or turned by 180 degrees; each undoes itself."""
AXES: dict[View, tuple[int, ...]] = {"plain": (), "mirrored": (-1,), "turned": (-2, -1)}
Shape = tuple[int, int, int]
Model = TypeVar("Model", bound=nn.Module)


class FeatureParams(Block):
    """An entry of `features:`, maps of a frozen network."""

    set: DataSet = "localization"
    """data set whose images are seen"""
    backbone: BackboneParams = BackboneParams()
    """the pretrained network; it is not trained"""
    output_stride: int = Field(default=32, ge=8, le=32)
    """stride of the backbone's last stage, in pixels; below its own, dilation costs features"""
    levels: tuple[Annotated[int, Field(lt=0)], ...] = Field(default=(-1,), min_length=1)
    """feature maps of the pyramid that are kept, counted from its end, shallow to deep"""
    side: int = Field(default=448, gt=0)
    """side of the squashed input, in pixels"""
    views: tuple[View, ...] = Field(default=("plain",), min_length=1)
    """views of an image: plain, mirrored, turned (by 180 degrees)"""
    store: Literal["always", "never"] = "always"
    """whether maps are written (float16), or computed anew where they are read: for sets larger than the disk"""
    batch: int = Field(default=4, gt=0)
    """images per forward pass"""
    precision: Precision = "bf16-mixed"
    """of the forward pass"""

    @field_validator("views")
    @classmethod
    def _plain_and_each_once(cls, views: tuple[View, ...]) -> tuple[View, ...]:
        if "plain" not in views or len(set(views)) < len(views):
            raise ValueError("name plain, and each view once")
        return views


def view_of(maps: Tensor, view: View) -> Tensor:
    """Maps or images `(..., h, w)` in a view; of what is in a view, the plain one again."""
    return maps.flip(AXES[view]) if AXES[view] else maps


class FrozenBackbone(Backbone):
    """Chosen feature maps of a frozen network, rounded to float16: of images, or as a store keeps them.

    Attributes:
        shapes: `(C, h, w)` of each level in the rows of a store, set by whoever reads one; empty for images alone.
    """

    def __init__(self, params: FeatureParams) -> None:
        whole = create_backbone(params.backbone, params.output_stride)
        count = len(whole.channels)
        if -min(params.levels) > count or list(params.levels) != sorted(set(params.levels)):
            raise InputError(f"levels {list(params.levels)}: name some of -{count} to -1, ascending, each once")
        kept = [level % count for level in params.levels]
        whole.end_at(kept[-1])
        mean, std = (tuple(buffer.flatten().tolist()) for buffer in (whole.mean, whole.std))
        statistics = Statistics(mean, std, whole.interpolation)
        channels, strides = ([values[level] for level in kept] for values in (whole.channels, whole.strides))
        network = fold_batch_norm(whole.network)
        super().__init__(Pyramid(network, tuple(channels), tuple(strides), statistics))
        self.requires_grad_(False)
        self.eval()
        self.shapes: tuple[Shape, ...] = ()
        self._kept, self._precision = kept, params.precision

    def train(self, mode: bool = True) -> "FrozenBackbone":
        """Stay in evaluation mode: nothing here trains."""
        del mode
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The levels `(B, C, h, w)` float32, from images `(B, 3, H, W)` or from a store's rows `(B, D)` float16."""
        if images.ndim == 2:
            return unpack(images, self.shapes)
        device = images.device.type
        exported = torch.compiler.is_exporting()  # a graph computes in float32
        half = not exported and choose_precision(self._precision, device).precision == "bf16-mixed"
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            pixels = images.to(self.mean.dtype) / (1 if images.is_floating_point() else 255)
            pyramid = self.network((pixels - self.mean) / self.std)
        return [pyramid[level].to(torch.float16).float() for level in self._kept]


def in_fast_layout(model: Model) -> Model:
    """The model with its channels last, fast on images; as it is where it sees rows, whose channels come first."""
    backbone = getattr(model, "backbone", None)
    if isinstance(backbone, FrozenBackbone) and backbone.shapes:
        return model
    return model.to(memory_format=torch.channels_last)


def pack(levels: Sequence[Tensor]) -> Tensor:
    """Levels `(B, C, h, w)` as rows `(B, D)` float16, D being the sum of C * h * w."""
    return torch.cat([level.flatten(1).to(torch.float16) for level in levels], dim=1)


def unpack(rows: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
    """Levels `(B, C, h, w)` float32 of rows `(B, D)`."""
    parts = torch.split(rows, [math.prod(shape) for shape in shapes], dim=1)
    return [part.float().reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def frozen_backbone(params: FeatureParams) -> FrozenBackbone:
    """The backbone of an entry of `features:`; its random weights, if it has such, are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FrozenBackbone(params)
