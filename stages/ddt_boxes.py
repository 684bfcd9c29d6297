"""Images and labels -> DDT pseudo boxes, indicator maps and components (WSFL 3.3.1)."""

import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import torch
from tqdm import tqdm

from wsol_core.backbones.create import create_backbone
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import run_stage
from wsol_core.core.files import write_table
from wsol_core.core.map_store import Kind, create
from wsol_core.core.params import load
from wsol_core.data.index import TRAIN_WEAKSUP, ImageIndex, read_index
from wsol_core.data.loading import SquashedImages
from wsol_core.engine.checkpoints import save_checkpoint
from wsol_core.engine.devices import launch, running_precision
from wsol_core.methods.ddt.colocalization import Colocalizer, DDTParams, pseudo_box

DATA = Path("data/localization")
WRITE_ROWS = 1024


def main() -> None:
    """Run the stage."""
    params = load(DDTParams, "ddt")
    index = read_index(DATA / "index.parquet").single_label()
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
        _write(index, labels, scores)
    components = {
        f"{name}.{label}.{layer}": getattr(component, name)
        for label, layers in colocalizer.components.items()
        for layer, component in enumerate(layers)
        for name in ("mean", "direction")
    }
    config = params.model_dump(mode="json")
    save_checkpoint(Path("data/models/ddt.safetensors"), components, config, running_precision(fabric))


def _collect(colocalizer: Colocalizer, count: int, spill: IO[bytes]) -> "np.memmap":
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


def _write(index: ImageIndex, labels: np.ndarray, scores: "np.memmap") -> None:
    table = index.table
    with create(DATA / "maps" / "ddt.h5", Kind.SCORE, *scores.shape[1:]) as writer:
        for start in range(0, len(table), WRITE_ROWS):
            rows = slice(start, start + WRITE_ROWS)
            writer.append(table["image_id"][rows].tolist(), labels[rows].tolist(), np.asarray(scores[rows]))
    boxes = table[["image_id"]].copy()
    pairs = zip(scores, table["width"], table["height"], strict=True)
    boxes[list(BOX_COLUMNS)] = np.stack([pseudo_box(np.asarray(s), width, height) for s, width, height in pairs])
    boxes["score"] = np.float32(1)
    boxes["label"] = labels.astype(np.int32)
    write_table(DATA / "pseudo_boxes.parquet", boxes)


if __name__ == "__main__":
    run_stage(main)
