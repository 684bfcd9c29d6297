"""The one map writer: a network over all images of an index, each seen once, streamed into a map store."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from wsol_core.data.images import Interpolation
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import SquashedImages, image_batches
from wsol_core.maps import CLASS_AGNOSTIC, Kind, create

Predict = Callable[[nn.Module, Tensor], Tensor]
"""From the model and images `(B, 3, H, W)` uint8 to maps `(B, h, w)` in [0, 1]."""


def write_maps(
    fabric: Fabric,
    model: nn.Module,
    predict: Predict,
    index: ImageIndex,
    interpolation: Interpolation,
    image_side: int,
    batch: int,
    path: Path,
) -> None:
    """Write one class-agnostic map per image of `index` to the store at `path`.

    Memory is bounded by the batch, whatever the number of images. Under `torchrun` every process computes its share of
    the batches, and the first one writes.

    Args:
        fabric: from `devices.launch`.
        model: moved to the device and set to evaluation here.
        predict: what to compute.
        index: the images.
        interpolation: how images are squashed.
        image_side: side of the square input, in pixels.
        batch: images per forward pass.
        path: the output.
    """
    model = model.eval().to(memory_format=torch.channels_last)
    model = fabric.to_device(model)
    images = SquashedImages(index.root, index.table, image_side, image_side, interpolation)
    maps = _all_maps(fabric, model, predict, images, batch)
    first = next(maps)
    if not fabric.is_global_zero:
        for _ in maps:
            pass
        return
    ids: list[str] = index.table["image_id"].tolist()
    progress = tqdm(total=len(ids), desc="maps", unit="image", disable=None)
    with create(path, Kind.SCORE, *first.shape[1:]) as writer, progress:
        done = 0
        for part in chain([first], maps):
            rows = ids[done : done + len(part)]
            writer.append(rows, [CLASS_AGNOSTIC] * len(rows), part[: len(rows)].numpy())
            progress.update(len(rows))
            done += len(rows)


@torch.inference_mode()
def _all_maps(
    fabric: Fabric, model: nn.Module, predict: Predict, images: SquashedImages, batch: int
) -> Iterator[Tensor]:
    """Float32 maps of all images in order, batch by batch; several processes fill the last round with repeats."""
    world, rank = fabric.world_size, fabric.global_rank
    count = len(images) if world == 1 else -(-len(images) // (batch * world)) * batch * world
    mine = [
        min(position, len(images) - 1)
        for start in range(rank * batch, count, batch * world)
        for position in range(start, min(start + batch, count))
    ]
    for pictures in image_batches(images, mine, batch):
        with fabric.autocast():
            maps = predict(model, fabric.to_device(pictures)).float()
        gathered = fabric.all_gather(maps) if world > 1 else maps[None]
        assert isinstance(gathered, Tensor)
        yield from gathered.cpu()
