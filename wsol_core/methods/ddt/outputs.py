"""What DDT makes of a data set, as files: pseudo boxes, indicator maps, components."""

import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from wsol_core.backbones.create import create_backbone
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.files import write_table
from wsol_core.core.map_store import Kind, create
from wsol_core.data.index import TRAIN_WEAKSUP, ImageIndex
from wsol_core.data.loading import SquashedImages
from wsol_core.engine.checkpoints import save_checkpoint
from wsol_core.engine.devices import launch, running_precision
from wsol_core.methods.ddt.colocalization import Colocalizer, DDTParams, pseudo_box

WRITE_ROWS = 1024

Labels = npt.NDArray[np.int64]


def write_outputs(params: DDTParams, index: ImageIndex, folder: Path, checkpoint: Path) -> None:
    """Run DDT over all images of an index, of which those in train-weaksup make the components.

    Args:
        params: how pseudo boxes are made.
        index: the images.
        folder: gets `pseudo_boxes.parquet` and `outputs/ddt/maps.h5`.
        checkpoint: gets the components, `mean.LABEL.LAYER` and `direction.LABEL.LAYER`.

    Raises:
        InputError: an image has none or several labels, or a class no image in train-weaksup.
    """
    index = index.single_label()
    torch.manual_seed(0)
    network = create_backbone(params.backbone)
    side = params.image_side
    images = SquashedImages(index.root, index.table, side, side, network.interpolation)
    labels = index.table["labels"].map(lambda values: values[0]).to_numpy(np.int64)
    training = (index.table["split"] == TRAIN_WEAKSUP).to_numpy()
    fabric = launch(params.precision)
    colocalizer = Colocalizer(fabric, network, images, labels, training, params)
    with tempfile.TemporaryFile() as spill:
        scores = _collect(colocalizer, len(index.table), spill)
        _write_maps(folder / "outputs/ddt/maps.h5", index, labels, scores)
        _write_boxes(folder / "pseudo_boxes.parquet", index, labels, scores)
    components = {
        f"{name}.{label}.{layer}": getattr(component, name)
        for label, layers in colocalizer.components.items()
        for layer, component in enumerate(layers)
        for name in ("mean", "direction")
    }
    config = params.model_dump(mode="json")
    save_checkpoint(checkpoint, components, config, index.classes, running_precision(fabric))


def _collect(colocalizer: Colocalizer, count: int, spill: IO[bytes]) -> "np.memmap[Any, np.dtype[np.float16]]":
    """Classes come in any order, a store is sorted: the maps wait on disk, so that memory stays bounded."""
    waiting = None
    with tqdm(total=count, desc="ddt", unit="image", disable=None) as bar:
        for positions, scores in colocalizer.run():
            if waiting is None:
                waiting = np.memmap(spill, dtype=np.float16, shape=(count, *scores.shape[1:]))
            waiting[positions] = scores
            bar.update(len(positions))
    assert waiting is not None
    return waiting


def _write_maps(path: Path, index: ImageIndex, labels: Labels, scores: npt.NDArray[np.float16]) -> None:
    with create(path, Kind.SCORE, *scores.shape[1:]) as writer:
        for start in range(0, len(index.table), WRITE_ROWS):
            rows = slice(start, start + WRITE_ROWS)
            writer.append(index.table["image_id"][rows].tolist(), labels[rows].tolist(), np.asarray(scores[rows]))


def _write_boxes(path: Path, index: ImageIndex, labels: Labels, scores: npt.NDArray[np.float16]) -> None:
    boxes = index.table[["image_id"]].copy()
    rows = zip(scores, index.table["width"], index.table["height"], strict=True)
    boxes[list(BOX_COLUMNS)] = np.stack([pseudo_box(np.asarray(s), width, height) for s, width, height in rows])
    boxes["score"] = np.float32(1)
    boxes["label"] = labels.astype(np.int32)
    write_table(path, boxes)
