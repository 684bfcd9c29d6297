"""OICR's and MIST's detector: a dilated backbone on the image, two fully connected layers on each proposal, heads.

RoI max pooling (Fast R-CNN's) cuts each proposal out of the image's feature map; two fully connected layers turn it
into the proposal's features. `heads.py` holds what is learnt from these.

Deviations from OICR and MIST: pictures are squashed to a square, at several scales, where the papers keep their shape.
The features are centred and scaled per channel: EfficientNet-Lite0's have a standard deviation of 5, at which training
diverged. The fully connected layers start random, also those that VGG16 has ImageNet weights for. A cell belongs to a
proposal if its centre does, but each has one cell at least.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import roi_pool

from wsol_core.backbones.create import Backbone, BackboneParams, OnBackbone, create_backbone
from wsol_core.detection.box_tensors import solid
from wsol_core.detection.heads import Answers, DetectionHeads, HeadParams
from wsol_core.detection.mist import ConcreteDropBlock
from wsol_core.engine.inference import resize_images
from wsol_core.engine.training_params import LearningParams, TrainingParams


class DetectorParams(LearningParams, HeadParams):
    """A detector on images and its training."""

    backbone: BackboneParams = BackboneParams()
    """the pretrained network"""
    output_stride: int = Field(default=8, ge=8, le=32)
    """of the backbone"""
    level: int = -1
    """feature map of the pyramid that proposals are cut out of; deeper ones are left out"""
    cells: int = Field(default=7, gt=0)
    """side of a proposal's pooled features"""
    width: int = Field(default=4096, gt=0)
    """of the two fully connected layers"""
    proposals_at_once: int = Field(default=1024, gt=0)
    """more of them in a batch go through the layers part by part, and again in the backward pass: less memory"""
    scales: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    """multiples of `image_side`, one at random in each training step"""
    training: TrainingParams
    """how it is trained"""


class Detector(OnBackbone):
    """A backbone, frozen if its rate is 0, two fully connected layers, and the heads."""

    def __init__(self, backbone: Backbone, params: DetectorParams, classes: int) -> None:
        super().__init__(backbone)
        backbone.end_at(params.level)
        backbone.requires_grad_(params.training.lr_backbone > 0)
        channels, width = backbone.channels[-1], params.width
        self.params, self.classes = params, classes
        drop_block = params.mist.drop_block if params.method == "mist" else None
        self.drop_block = ConcreteDropBlock(channels, drop_block) if drop_block else nn.Identity()
        self.centre = nn.BatchNorm2d(channels, affine=False)
        self.layers = nn.Sequential(
            nn.Flatten(), full_layer(channels * params.cells**2, width), nn.ReLU(), nn.Dropout(params.dropout),
            full_layer(width, width), nn.ReLU(), nn.Dropout(params.dropout),
        )  # fmt: skip
        self.heads = DetectionHeads(params, width, classes)

    def forward(self, images: Tensor, boxes: Tensor) -> Answers:
        """Answers for the boxes of images; while training the images are seen at a random scale.

        Args:
            images: `(B, 3, H, W)` uint8.
            boxes: `(B, P, 4)` shares of the images' sides, as the bits of float32; those without area are passed over,
                see `solid` and `bits`.
        """
        boxes = boxes.view(torch.float32)
        if self.training:
            images = resize_images(images, self.params.scales[int(torch.randint(len(self.params.scales), ()))])
        maps = self.centre(self.backbone(images)[-1].float()).contiguous()
        answers: Answers = self.heads(self._features_in_parts(maps, regions(boxes, maps.shape[2], maps.shape[3])))
        return answers

    def _features_in_parts(self, maps: Tensor, rois: Tensor) -> Tensor:
        parts = torch.split(rois, self.params.proposals_at_once) if len(rois) else (rois,)
        if len(parts) == 1 or not torch.is_grad_enabled():
            return torch.cat([self._features(maps, part) for part in parts])
        return torch.cat([checkpoint(self._features, maps, part, use_reentrant=False) for part in parts])

    def _features(self, maps: Tensor, rois: Tensor) -> Tensor:
        """Feature maps `(B, C, h, w)` and regions `(R, 5)` to features of proposals `(R, width)`."""
        features: Tensor = self.layers(self.drop_block(roi_pool(maps, rois, self.params.cells)))
        return features


def full_layer(inputs: int, outputs: int) -> nn.Linear:
    """A fully connected layer before a ReLU, which keeps the variance of what it gets (He initialisation)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def regions(boxes: Tensor, height: int, width: int) -> Tensor:
    """Solid boxes `(B, P, 4)`, shares, as rows for `roi_pool`: image and first and last cells, `(R, 5)`.

    First and last are those whose centres lie in the box, once `roi_pool` has rounded.
    """
    rows = solid(boxes)
    image = rows.nonzero()[:, :1].to(boxes.dtype)
    cells = boxes.new_tensor([width, height])
    low, high = boxes[rows][:, :2], boxes[rows][:, 2:]
    return torch.cat([image, torch.minimum(low * cells, cells - 1), high * cells - 1], dim=1)


def build(params: DetectorParams, classes: int) -> Detector:
    """The untrained detector on its pretrained backbone."""
    return Detector(create_backbone(params.backbone, params.output_stride), params, classes)
