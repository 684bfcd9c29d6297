"""What DDT makes of a data set, as files: pseudo boxes, indicator maps, components."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

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
    with ExitStack() as stack:
        stores = [stack.enter_context(FeatureStore(Path(path))) for path in dict.fromkeys((params.sees, params.second))]
        fabric = launch(stores[0].params.precision)
        sources = [Source(store, store.reader(fabric, index)) for store in stores]
        colocalizer = Colocalizer(sources, labels, training, params)
        agnostic = np.full_like(labels, CLASS_AGNOSTIC)
        for name, scope, found, own in (
            ("ddt", "class", colocalizer.per_class(), labels),
            ("ddt-agnostic", "dataset", colocalizer.together(), agnostic),
        ):
            with tempfile.TemporaryFile(dir=folder) as spill:
                waiting = WaitingMaps(name, found, len(index.table), spill)
                _write_maps(folder / "outputs" / name / "maps.h5", index, own, waiting)
                if scope == params.scope:
                    _write_boxes(folder / "pseudo_boxes.parquet", index, labels, waiting)
    components = {
        f"{name}.{label}.{number}.{layer}": getattr(component, name)
        for label, sources_of_label in colocalizer.components.items()
        for number, layers in enumerate(sources_of_label)
        for layer, component in enumerate(layers)
        for name in ("mean", "direction")
    }
    config = params.model_dump(mode="json")
    save_checkpoint(checkpoint, components, config, index.classes, running_precision(fabric))


class WaitingMaps:
    """Maps on disk, until all are there: classes come in any order, a store is sorted, and memory stays bounded.

    Args:
        title: of the progress bar.
        found: every image once, in any order.
        count: of the images.
        file: where maps wait.

    Attributes:
        shape: `(h, w)` of the maps.
        agreement: `(N,)` of each image, see `Found`.
    """

    def __init__(self, title: str, found: Iterator[Found], count: int, file: IO[bytes]) -> None:
        self._file, self._count = file, count
        self.agreement = np.zeros(count, dtype=np.float32)
        self.shape = (0, 0)
        with tqdm(total=count, desc=title, unit="image", disable=None) as bar:
            for part in found:
                self.shape = (part.scores.shape[1], part.scores.shape[2])
                self.agreement[part.positions] = part.agreement
                for position, scores in zip(part.positions.tolist(), part.scores, strict=True):
                    file.seek(position * scores.nbytes)
                    file.write(scores.tobytes())
                bar.update(len(part.positions))

    def batches(self) -> Iterator[tuple[slice, npt.NDArray[np.float16]]]:
        """Rows of the index with their maps `(B, h, w)`, in order."""
        self._file.seek(0)
        pixels = self.shape[0] * self.shape[1]
        for start in range(0, self._count, WRITE_ROWS):
            rows = slice(start, min(start + WRITE_ROWS, self._count))
            content = self._file.read(2 * pixels * (rows.stop - rows.start))
            yield rows, np.frombuffer(content, dtype=np.float16).reshape(-1, *self.shape)


def _write_maps(path: Path, index: ImageIndex, labels: Labels, maps: WaitingMaps) -> None:
    with create(path, Kind.SCORE, *maps.shape) as writer:
        for rows, scores in maps.batches():
            writer.append(index.table["image_id"][rows].tolist(), labels[rows].tolist(), scores)


def _write_boxes(path: Path, index: ImageIndex, labels: Labels, maps: WaitingMaps) -> None:
    """The table of boxes; `score` is the agreement of sources and views."""
    boxes = index.table[["image_id"]].copy()
    scores = (score for _, batch in maps.batches() for score in batch)
    rows = zip(scores, index.table["width"], index.table["height"], strict=True)
    boxes[list(BOX_COLUMNS)] = np.stack([pseudo_box(score, width, height) for score, width, height in rows])
    boxes["score"] = maps.agreement
    boxes["label"] = labels.astype(np.int32)
    write_table(path, boxes)
