"""A detector that learns from image labels: features of proposals, WSDDN on them, and branches that refine it.

A dilated backbone sees the picture once; RoI max pooling (Fast R-CNN's) cuts each proposal out of its features, and two
fully connected layers describe it. `methods/wsddn.py`, `oicr.py` and `mist.py` hold what is learnt from that.

Or the backbone's own deeper stages describe it (`describe: stages`, as in detectors on ResNet): they know objects, as
the pretrained fully connected layers of the papers' VGG16 do, where random layers have to learn them from image labels.
RoIAlign cuts the proposal out; the mean over cells of what the stages make of it, scaled to one length, describes it.

Deviations from OICR and MIST: pictures are squashed to a square, at several scales, where the papers keep their shape.
The features are centred and scaled per channel: EfficientNet-Lite0's have a standard deviation of 5, at which training
diverged. The fully connected layers start random, also those that VGG16 has ImageNet weights for. A cell belongs to a
proposal if its centre does, but each has one cell at least.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torchvision.ops import roi_align, roi_pool

from wsol_core.backbones.create import Backbone, OnBackbone, create_backbone
from wsol_core.backbones.stages_behind import divide_at
from wsol_core.data.loading import Batch, unpack
from wsol_core.inference import rescale
from wsol_core.methods import oicr, wsddn
from wsol_core.methods.mist import ConcreteDropBlock, MistParams, encode, regression_loss, spread_seeds
from wsol_core.proposal_filter import FilterParams, ProposalFilter
from wsol_core.training_params import NetworkParams


class DetectorParams(NetworkParams):
    """A detector and its training."""

    method: Literal["oicr", "mist"]
    """how the branches find their seeds; mist has box regression too"""
    proposals: str = Field(pattern=r"^(proposals|objectness/[\w-][\w.-]*)$")
    """table of the data set's folder: `proposals`, or `objectness/METHOD`, the same boxes with their objectness"""
    max_proposals: int = Field(default=2000, gt=0)
    """per picture, the first in rank"""
    filter: FilterParams | None = None
    """needs objectness; null for none"""
    output_stride: int = Field(default=8, ge=8, le=32)
    """of the backbone"""
    level: int = -1
    """feature map of the pyramid that proposals are cut out of; deeper ones are left out, or describe proposals"""
    describe: Literal["layers", "stages"] = "layers"
    """a proposal by two fully connected layers, which start random, or by the backbone's stages behind `level`"""
    cells: int = Field(default=7, gt=0)
    """side of a proposal's pooled features"""
    width: int = Field(default=4096, gt=0)
    """of the two fully connected layers"""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """behind each of them, or behind the stages"""
    branches: int = Field(default=3, ge=1)
    """K, refinements"""
    proposals_at_once: int = Field(default=1024, gt=0)
    """more of them in a batch are described part by part and once again in the backward pass, for less memory"""
    scales: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    """multiples of `image_side`, one at random in each training step; the first one measures the held-out loss"""
    mist: MistParams = MistParams()
    """for the method mist"""

    @model_validator(mode="after")
    def _filter_needs_objectness(self) -> Self:
        if self.filter and self.proposals == "proposals":
            raise ValueError("a filter needs objectness: take objectness/METHOD as proposals")
        return self


class Answers(NamedTuple):
    """What the network says of all R proposals of a batch, one picture after another, float32."""

    classification: Tensor
    """`(R, C)` logits of WSDDN"""
    detection: Tensor
    """`(R, C)` logits of WSDDN"""
    refinements: Tensor
    """`(R, K, C + 1)` logits of the branches"""
    moves: Tensor | None
    """`(R, K, C, 4)` of the boxes (MIST)"""


class Detector(OnBackbone):
    """A backbone, what describes proposals, and the heads. At backbone rate 0 the backbone is frozen."""

    def __init__(self, backbone: Backbone, params: DetectorParams, classes: int) -> None:
        super().__init__(backbone)
        if params.describe == "stages":
            width = divide_at(backbone, params.level)
        else:
            backbone.end_at(params.level)
            width = params.width
        backbone.requires_grad_(params.training.backbone_rate > 0)
        channels = backbone.channels[-1]
        self.params, self.classes = params, classes
        regress = params.method == "mist"
        drop_block = params.mist.drop_block if regress else None
        self.drop_block = ConcreteDropBlock(channels, drop_block) if drop_block else nn.Identity()
        if params.describe == "stages":
            self.centre: nn.Module = nn.Identity()
            self.describe: nn.Module = nn.Dropout(params.dropout)
        else:
            self.centre = nn.BatchNorm2d(channels, affine=False)
            self.describe = nn.Sequential(
                nn.Flatten(), full_layer(channels * params.cells**2, width), nn.ReLU(), nn.Dropout(params.dropout),
                full_layer(width, width), nn.ReLU(), nn.Dropout(params.dropout),
            )  # fmt: skip
        self.wsddn = wsddn.WsddnHead(width, classes)
        self.refine = wsddn.small_linear(width, params.branches * (classes + 1))
        self.regress = wsddn.small_linear(width, params.branches * classes * 4) if regress else None

    def forward(self, images: Tensor, boxes: Tensor) -> Answers:
        """Answers for the boxes of images.

        Args:
            images: `(B, 3, H, W)` uint8.
            boxes: `(B, P, 4)` shares of the images' sides, as the bits of float32; those without area are passed over,
                see `solid` and `bits`.
        """
        boxes = boxes.view(torch.float32)
        features = self.centre(self.backbone(images)[-1].float()).contiguous()
        find = aligned_regions if self.params.describe == "stages" else regions
        rois = find(boxes, features.shape[2], features.shape[3])
        described = self._describe_in_parts(features, rois).float()
        with torch.autocast(described.device.type, enabled=False):
            refinements = self.refine(described).unflatten(1, (self.params.branches, self.classes + 1))
            moves = None
            if self.regress is not None:
                moves = self.regress(described).unflatten(1, (self.params.branches, self.classes, 4))
            classification, detection = self.wsddn(described)
            return Answers(classification, detection, refinements, moves)

    def _describe_in_parts(self, features: Tensor, rois: Tensor) -> Tensor:
        parts = torch.split(rois, self.params.proposals_at_once) if len(rois) else (rois,)
        if len(parts) == 1 or not torch.is_grad_enabled():
            return torch.cat([self._describe(features, part) for part in parts])
        return torch.cat([checkpoint(self._describe, features, part, use_reentrant=False) for part in parts])

    def _describe(self, features: Tensor, rois: Tensor) -> Tensor:
        """Features `(B, C, h, w)` and regions `(R, 5)` to descriptions `(R, width)`."""
        cells = self.params.cells
        if self.params.describe == "layers":
            pooled = self.drop_block(roi_pool(features, rois, cells))
        else:
            cut = roi_align(features, rois, cells, sampling_ratio=1, aligned=True)
            cut = self.drop_block(cut).contiguous(memory_format=torch.channels_last)
            behind = self.backbone.behind(cut).float().mean((2, 3))  # type: ignore[operator]
            pooled = functional.normalize(behind, dim=1) * math.sqrt(behind.shape[1])
        found: Tensor = self.describe(pooled)
        return found


def full_layer(inputs: int, outputs: int) -> nn.Linear:
    """A fully connected layer before a ReLU, which keeps the variance of what it gets (He initialisation)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def bits(boxes: Tensor) -> Tensor:
    """Float32 boxes as int32: mixed precision would round what a network is given as numbers to 8 bits."""
    return boxes.view(torch.int32)


def solid(boxes: Tensor) -> Tensor:
    """Which boxes `(..., 4)` have an area; the others only fill up tables."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)


def regions(boxes: Tensor, height: int, width: int) -> Tensor:
    """Solid boxes `(B, P, 4)`, shares, as rows for `roi_pool`: image and first and last cells, `(R, 5)`.

    First and last are those whose centres lie in the box, once `roi_pool` has rounded.
    """
    rows = solid(boxes)
    image = rows.nonzero()[:, :1].to(boxes.dtype)
    cells = boxes.new_tensor([width, height])
    low, high = boxes[rows][:, :2], boxes[rows][:, 2:]
    return torch.cat([image, torch.minimum(low * cells, cells - 1), high * cells - 1], dim=1)


def aligned_regions(boxes: Tensor, height: int, width: int) -> Tensor:
    """Solid boxes `(B, P, 4)`, shares, as rows for an aligned `roi_align`: image and corners in cells, `(R, 5)`."""
    rows = solid(boxes)
    image = rows.nonzero()[:, :1].to(boxes.dtype)
    return torch.cat([image, boxes[rows] * boxes.new_tensor([width, height, width, height])], dim=1)


def build(params: DetectorParams, classes: int) -> Detector:
    """The untrained detector on its pretrained backbone."""
    return Detector(create_backbone(params.backbone, params.output_stride), params, classes)


def split_pictures(answers: Answers, counts: Sequence[int]) -> list[Answers]:
    """The answers for each picture, of `counts` proposals."""
    parts = [[None] * len(counts) if part is None else torch.split(part, list(counts)) for part in answers]
    return [Answers(*own) for own in zip(*parts, strict=True)]


class DetectorLoss:
    """L_b + sum_k L_r^k (OICR, Eq. 5), for MIST with box regression in L_r; mean over pictures.

    A batch's targets are packed proposals, see `loading.unpack`. A picture without proposals counts 0.

    Args:
        params: of the detector.
        classes: names, in order of their numbers.

    Raises:
        InputError: the filter exempts an unknown class.
    """

    def __init__(self, params: DetectorParams, classes: Sequence[str]) -> None:
        self._params, self._classes = params, len(classes)
        self._filter = ProposalFilter(params.filter, classes)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch, at a random scale while the model trains."""
        labels, objectness, boxes = unpack(batch.targets, self._classes)
        boxes = boxes.contiguous()
        number = int(torch.randint(len(self._params.scales), ())) if model.training else 0
        answers = model(rescale(batch.images, self._params.scales[number]), bits(boxes))
        rows = solid(boxes)
        pictures = split_pictures(answers, rows.sum(1).tolist())
        losses = [
            self.of_picture(own, labels[i], objectness[i, rows[i]], boxes[i, rows[i]]) for i, own in enumerate(pictures)
        ]
        return torch.stack(losses).mean()

    def of_picture(self, answers: Answers, labels: Tensor, objectness: Tensor, boxes: Tensor) -> Tensor:
        """The loss of one picture with R proposals.

        Args:
            answers: for the R proposals.
            labels: `(C,)`, 0 or 1.
            objectness: `(R,)`.
            boxes: `(R, 4)`.
        """
        if not len(boxes):
            return torch.stack([part.sum() for part in answers if part is not None]).sum()
        scores = wsddn.proposal_scores(answers.classification, answers.detection)
        loss = wsddn.image_loss(scores, labels)
        present = self._filter.ordered(labels.nonzero().squeeze(1))
        for branch in range(self._params.branches):
            logits = answers.refinements[:, branch]
            learnt = self._assign(scores.detach(), present, objectness, boxes)
            loss = loss + oicr.refinement_loss(logits, learnt)
            if answers.moves is not None:
                wanted = encode(boxes, boxes[learnt.seeds])
                loss = loss + regression_loss(answers.moves[:, branch], wanted, learnt.labels, learnt.weights)
            scores = logits.softmax(1)
        return loss

    def _assign(self, scores: Tensor, present: Tensor, objectness: Tensor, boxes: Tensor) -> oicr.Assignment:
        """What a branch learns from the scores of the one before."""
        if self._params.method == "mist":
            seeds = spread_seeds(scores, boxes, present, self._params.mist)
        else:
            seeds = oicr.top_seeds(scores, present)
        learnt = oicr.assign(boxes, scores, seeds, self._classes)
        return learnt._replace(labels=self._filter.apply(learnt.labels, objectness))
