"""What DDT makes of a data set, as files: pseudo boxes, indicator maps, components."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.files import write_table
from wsol_core.core.map_store import CLASS_AGNOSTIC, Kind, create
from wsol_core.data.index import TRAIN_WEAKSUP, ImageIndex
from wsol_core.engine.checkpoints import save_checkpoint
from wsol_core.engine.devices import launch, running_precision
from wsol_core.engine.feature_store import FeatureStore
from wsol_core.methods.ddt.colocalization import Colocalizer, DDTParams, Found, Source, pseudo_box

WRITE_ROWS = 1024

Labels = npt.NDArray[np.int64]


def write_outputs(params: DDTParams, index: ImageIndex, folder: Path, checkpoint: Path) -> None:
    """Run DDT over all images of an index, of which those in train-weaksup make the components.

    Args:
        params: how pseudo boxes are made.
        index: the images.
        folder: gets `pseudo_boxes.parquet` by `params.scope`, and `outputs/ddt/maps.h5` and
            `outputs/ddt-agnostic/maps.h5` with one component per class and with one for all.
        checkpoint: gets the components, `mean.LABEL.SOURCE.LAYER` and `direction.LABEL.SOURCE.LAYER`.

    Raises:
        InputError: an image has none or several labels, or a class no image in train-weaksup.
    """
    index = index.single_label()
    labels = index.table["labels"].map(lambda values: values[0]).to_numpy(np.int64)
    training = (index.table["split"] == TRAIN_WEAKSUP).to_numpy()
    fabric = launch("32-true")
    with ExitStack() as stack:
        stores = [stack.enter_context(FeatureStore(Path(path))) for path in dict.fromkeys((params.sees, params.second))]
        sources = [Source(store, store.reader(fabric, index)) for store in stores]
        colocalizer = Colocalizer(sources, labels, training, params)
        agnostic = np.full_like(labels, CLASS_AGNOSTIC)
        for name, scope, found, own in (
            ("ddt", "class", colocalizer.per_class(), labels),
            ("ddt-agnostic", "dataset", colocalizer.together(), agnostic),
        ):
            spill = stack.enter_context(tempfile.TemporaryFile())
            scores, agreement = _collect(name, found, len(index.table), spill)
            _write_maps(folder / "outputs" / name / "maps.h5", index, own, scores)
            if scope == params.scope:
                _write_boxes(folder / "pseudo_boxes.parquet", index, labels, scores, agreement)
    components = {
        f"{name}.{label}.{number}.{layer}": getattr(component, name)
        for label, sources_of_label in colocalizer.components.items()
        for number, layers in enumerate(sources_of_label)
        for layer, component in enumerate(layers)
        for name in ("mean", "direction")
    }
    config = params.model_dump(mode="json")
    save_checkpoint(checkpoint, components, config, index.classes, running_precision(fabric))


def _collect(
    title: str, found: Iterator[Found], count: int, spill: IO[bytes]
) -> "tuple[np.memmap[Any, np.dtype[np.float16]], npt.NDArray[np.float32]]":
    """Classes come in any order, a store is sorted: the maps wait on disk, so that memory stays bounded."""
    waiting, agreement = None, np.zeros(count, dtype=np.float32)
    with tqdm(total=count, desc=title, unit="image", disable=None) as bar:
        for part in found:
            if waiting is None:
                waiting = np.memmap(spill, dtype=np.float16, shape=(count, *part.scores.shape[1:]))
            waiting[part.positions] = part.scores
            agreement[part.positions] = part.agreement
            bar.update(len(part.positions))
    assert waiting is not None
    return waiting, agreement


def _write_maps(path: Path, index: ImageIndex, labels: Labels, scores: npt.NDArray[np.float16]) -> None:
    with create(path, Kind.SCORE, *scores.shape[1:]) as writer:
        for start in range(0, len(index.table), WRITE_ROWS):
            rows = slice(start, start + WRITE_ROWS)
            writer.append(index.table["image_id"][rows].tolist(), labels[rows].tolist(), np.asarray(scores[rows]))


def _write_boxes(
    path: Path, index: ImageIndex, labels: Labels, scores: npt.NDArray[np.float16], agreement: npt.NDArray[np.float32]
) -> None:
    """The table of boxes; `score` is the agreement of sources and views."""
    boxes = index.table[["image_id"]].copy()
    rows = zip(scores, index.table["width"], index.table["height"], strict=True)
    boxes[list(BOX_COLUMNS)] = np.stack([pseudo_box(np.asarray(s), width, height) for s, width, height in rows])
    boxes["score"] = agreement
    boxes["label"] = labels.astype(np.int32)
    write_table(path, boxes)
