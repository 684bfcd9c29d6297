"""PSOL: one box per image by regression (Rethinking the Route Towards Weakly Supervised Object Localization, 3).

The baseline of WSFL's tables that learns from the same pseudo boxes: the classifier of a network gives way to two fully
connected layers whose four outputs, through a sigmoid, are the box's top left corner and its width and height, as
shares of the image's. It knows no classes. The loss is the squared error. Head, widths and the loss's weight are those
of the authors' released code.

In this project everything is a map, so the box becomes one: the part of each cell of a grid that it covers. At any
threshold near one half the map gives the box back to a fraction of a cell.

Deviations:
- The released code crops at random sizes, ours at one (or not at all).
- It has dropout in VGG16's own fully connected layers, which are gone here.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import Backbone, OnBackbone
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.data.loading import Batch
from wsol_core.engine.training_params import NetworkParams

HIDDEN = 512
"""Width of the hidden layer."""
LOSS_WEIGHT = 50.0
"""Of the squared error, which is small where all coordinates lie in [0, 1]."""
RESOLUTION = 112
"""Side of the maps, in cells."""


class PsolParams(NetworkParams):
    """The box regression and its training."""

    output_stride: int = 32
    """stride of the features that are pooled, in pixels"""


class BoxRegression(OnBackbone):
    """A backbone, global average pooling and two layers: images `(B, 3, H, W)` to boxes `(B, 4)` in (0, 1)."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.head = nn.Sequential(nn.Linear(backbone.channels[-1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 4))

    def forward(self, images: Tensor) -> Tensor:
        """Left, top, width and height of the box, as shares of the image's width and height, float32."""
        pooled = self.backbone(images)[-1].mean((2, 3))
        return torch.sigmoid(self.head(pooled).float())


def build(params: PsolParams) -> BoxRegression:
    """The untrained regression on its pretrained backbone."""
    return BoxRegression(params.create_backbone(params.output_stride))


def relative_boxes(boxes: pd.DataFrame, rows: pd.DataFrame) -> list[npt.NDArray[np.float32]]:
    """The pseudo box `(4,)` of each row of an image index, `x0, y0, x1, y1` as shares of the image's sides.

    Args:
        boxes: a table with one box per image, in its pixels.
        rows: of the index.

    Raises:
        InputError: an image has no box.
    """
    found = rows[["image_id", "width", "height"]].merge(boxes, on="image_id", how="left", validate="one_to_one")
    missing = found.loc[found["x0"].isna(), "image_id"]
    if len(missing):
        raise InputError(f"no pseudo box for image {missing.iloc[0]!r}; run the stage that makes them again")
    extent = found[["width", "height", "width", "height"]].to_numpy(np.float32)
    return list(found[list(BOX_COLUMNS)].to_numpy(np.float32) / extent)


def box_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Weighted squared error of left, top, width and height, mean over them and the images.

    `batch.targets (B, 4)` are relative corners `x0, y0, x1, y1`.
    """
    low, high = batch.targets[:, :2], batch.targets[:, 2:]
    return LOSS_WEIGHT * functional.mse_loss(model(batch.inputs), torch.cat([low, high - low], dim=1))


def coverage(boxes: Tensor, resolution: int) -> Tensor:
    """The part in [0, 1] of each cell that a box covers, `(B, resolution, resolution)`.

    Args:
        boxes: `(B, 4)` left, top, width, height relative to the image; what lies outside it is cut off.
        resolution: side of the grid, in cells.
    """
    edges = torch.arange(resolution, device=boxes.device)
    low = boxes[:, :2, None] * resolution  # (B, 2, 1): x and y, in cells
    high = low + boxes[:, 2:, None] * resolution
    x, y = (torch.minimum(high, edges + 1) - torch.maximum(low, edges)).clamp(0, 1).unbind(1)
    return y[:, :, None] * x[:, None, :]  # (B, r, 1) * (B, 1, r)


def psol_maps(model: nn.Module, images: Tensor, _: Tensor) -> Tensor:
    """The regressed boxes as maps `(B, 1, 112, 112)`; the images' labels play no part."""
    return coverage(model(images), RESOLUTION)[:, None]
