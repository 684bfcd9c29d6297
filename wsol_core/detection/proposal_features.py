"""Features of proposals, computed once by a frozen pretrained network, so that detectors learn on them in a minute.

The network sees the image up to a level; RoIAlign cuts each proposal out of this feature map, and the network's own
deeper stages see what was cut out, as in detectors on ResNet. The mean over its cells, scaled to one length, are the
proposal's features. These stages know objects, as the pretrained fully connected layers of the papers' VGG16 do, where
random layers would have to learn them from image labels.

The store: one HDF5 file, `features (R, D)` float16, the R proposals that have an area, image after image in the
index's order and in the order of their table; `image_id (N,)` and `count (N,)`. The same rows give the same bytes.
"""

import math
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align
from tqdm import tqdm

from wsol_core.backbones.create import Backbone, BackboneParams, OnBackbone, create_backbone
from wsol_core.backbones.stages_behind import divide_at
from wsol_core.core.boxes import Boxes
from wsol_core.core.errors import InputError
from wsol_core.core.hdf5 import new_file
from wsol_core.core.params import Block
from wsol_core.data.index import ImageIndex
from wsol_core.detection.box_tensors import bits, solid
from wsol_core.engine.devices import Precision, launch
from wsol_core.engine.inference import predictions

Features = npt.NDArray[np.float16]


class ProposalFeatureParams(Block):
    """A pretrained network, and how it sees proposals."""

    backbone: BackboneParams = BackboneParams()
    """the network"""
    output_stride: int = Field(default=32, ge=8, le=32)
    """of the backbone"""
    level: int
    """feature map of the pyramid that proposals are cut out of; the stages behind it see them"""
    cells: int = Field(default=14, gt=0)
    """side of a proposal's features at that level"""
    image_side: int = Field(default=352, gt=0)
    """side of the squashed picture, in pixels"""
    batch: int = Field(default=4, gt=0)
    """pictures at a time"""
    proposals_at_once: int = Field(default=128, gt=0)
    """more of them in a batch are computed part by part, for less memory"""
    precision: Precision = "bf16-mixed"
    """bf16 autocast, or float32"""

    @property
    def inference_side(self) -> int:
        """Side of the squashed picture."""
        return self.image_side


class ProposalFeatureNetwork(OnBackbone):
    """The network in two: what sees the picture, and what sees a proposal."""

    def __init__(self, backbone: Backbone, params: ProposalFeatureParams) -> None:
        super().__init__(backbone)
        self.params = params
        self.width = divide_at(backbone, params.level)
        """D"""

    def forward(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Features `(B, P, D)` of length sqrt(D) each; 0 for boxes without area.

        Args:
            images: `(B, 3, H, W)` uint8.
            boxes: `(B, P, 4)` shares of the images' sides, as the bits of float32.
        """
        boxes = boxes.view(torch.float32)
        maps = self.backbone(images)[-1].float().contiguous()
        rows = solid(boxes)
        parts = torch.split(aligned_regions(boxes, *maps.shape[2:]), self.params.proposals_at_once)
        table: Tensor = maps.new_zeros(*boxes.shape[:2], self.width)
        if len(parts[0]):
            table[rows] = torch.cat([self._features(maps, part) for part in parts])
        return table

    def _features(self, maps: Tensor, rois: Tensor) -> Tensor:
        """Feature maps `(B, C, h, w)` and regions `(R, 5)` to features of proposals `(R, D)`."""
        cut = roi_align(maps, rois, self.params.cells, sampling_ratio=1, aligned=True)
        cut = cut.contiguous(memory_format=torch.channels_last)
        mean = self.backbone.behind(cut).float().mean((2, 3))  # type: ignore[operator]
        features: Tensor = functional.normalize(mean, dim=1) * math.sqrt(self.width)
        return features


def aligned_regions(boxes: Tensor, height: int, width: int) -> Tensor:
    """Solid boxes `(B, P, 4)`, shares, as rows for an aligned `roi_align`: image and corners in cells, `(R, 5)`."""
    rows = solid(boxes)
    image = rows.nonzero()[:, :1].to(boxes.dtype)
    return torch.cat([image, boxes[rows] * boxes.new_tensor([width, height, width, height])], dim=1)


def write_proposal_features(params: ProposalFeatureParams, index: ImageIndex, boxes: Boxes, path: Path) -> None:
    """Write the store of all images' proposals. Under `torchrun` every process computes its share, the first writes.

    Args:
        params: the network.
        index: the images.
        boxes: `(N, P, 4)` shares of their sides, see `relative_proposals`.
        path: the output.
    """
    fabric = launch(params.precision)
    torch.manual_seed(0)
    model = ProposalFeatureNetwork(create_backbone(params.backbone, params.output_stride), params)
    told = bits(torch.from_numpy(boxes))

    batches = predictions(fabric, model, ProposalFeatureNetwork.forward, index, params, told)
    if fabric.is_global_zero:
        rows = solid(torch.from_numpy(boxes)).numpy()
        _write(path, index.table["image_id"].tolist(), rows, model.width, (batch.numpy() for batch in batches))
    for _ in batches:
        pass


def _write(
    path: Path, ids: list[str], rows: npt.NDArray[np.bool_], width: int, batches: Iterator[npt.NDArray[np.float32]]
) -> None:
    counts = rows.sum(1)
    progress = tqdm(total=len(ids), desc="features", unit="image", disable=None)
    with new_file(path) as (file, sink), progress:
        table = file.create_dataset("features", (counts.sum(), width), np.float16, track_times=False)
        file.create_dataset("image_id", data=ids, dtype=h5py.string_dtype(), track_times=False)
        file.create_dataset("count", data=counts.astype(np.int32), track_times=False)
        done, start = 0, 0
        for batch in batches:
            sink.check()
            found = batch[rows[done : done + len(batch)]]
            if len(found):
                table[start : start + len(found)] = found
            start += len(found)
            done += len(batch)
            progress.update(len(batch))


class ProposalFeatureStore:
    """A store opened for reading; features are read image by image.

    Attributes:
        width: D.

    Raises:
        InputError: the file is missing, damaged, or no such store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = h5py.File(path, "r")
            self._table: h5py.Dataset = self._file["features"]
            ids, counts = self._file["image_id"].asstr()[:], self._file["count"][:].tolist()
            rows, self.width = self._table.shape
            ends = list(accumulate(counts))
            self._place = {name: (end - count, end) for name, count, end in zip(ids, counts, ends, strict=True)}
            if sum(counts) != rows:
                raise ValueError(f"{rows} rows for {sum(counts)} proposals")
        except (OSError, KeyError, ValueError, TypeError, AttributeError, MemoryError) as error:
            reason = f"not a readable store of proposal features ({error})"
            raise InputError(f"{path}: {reason}; run the stage that makes it again") from error

    def find(self, image_id: str, count: int) -> Features:
        """Those of an image's first `count` proposals with an area, `(count, D)`.

        Raises:
            InputError: the image has fewer, or the file is damaged.
        """
        start, end = self._place.get(image_id, (0, 0))
        if end - start < count:
            wrong = f"{end - start} proposals of image {image_id!r} where {count} are asked for"
            raise InputError(f"{self._path}: {wrong}; run the stage that makes it again")
        try:
            found: Features = self._table[start : start + count]
        except (OSError, MemoryError) as error:
            raise InputError(f"{self._path}: damaged ({error}); run the stage that makes it again") from error
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "ProposalFeatureStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
