"""What a network says of all images of a data set, as files: maps, layers of maps, class scores."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from wsol_core.backbones.create import OnBackbone
from wsol_core.core.params import load
from wsol_core.data.class_scores import top_classes, write_scores
from wsol_core.data.index import ImageIndex
from wsol_core.data.shown_images import shown_images
from wsol_core.engine.devices import launch
from wsol_core.engine.inference import AGNOSTIC, InferenceParams, Predict, Rows, predictions, write_maps
from wsol_core.engine.training_params import TrainingParams


class NetworkOutputs:
    """Writes a network's outputs under the folder of a data set; under `torchrun` the first process does.

    Args:
        model: what `predict` gets.
        training: for the precision, the side of the input and the batch.
        index: of the data set.
        folder: `data/SET`.
    """

    def __init__(self, model: OnBackbone, training: TrainingParams, index: ImageIndex, folder: Path) -> None:
        self._model, self._training, self._index, self._folder = model, training, index, folder
        self._fabric = launch(training.precision)

    def write_maps(self, name: str, predict: Predict, rows: Rows = AGNOSTIC) -> None:
        """Write the maps of all images to `maps/NAME.h5`, averaged over the views that the block `inference` asks for.

        Args:
            name: of the method.
            predict: maps `(B, M, h, w)` in [0, 1].
            rows: labels under which an image's M maps are stored.
        """
        self._write(self._folder / "maps" / f"{name}.h5", predict, rows, self._index)

    def write_layers(self, kind: str, name: str, predict: Predict, layers: int) -> None:
        """Write the maps `(B, layers, h, w)` of a few images to `KIND/NAME.h5`, numbered from 0, for pictures."""
        self._write(self._folder / kind / f"{name}.h5", predict, range(layers), shown_images(self._index))

    def write_class_scores(self, name: str, predict: Predict) -> None:
        """Write the likeliest classes of all images to `scores/NAME.parquet`, by probabilities `(B, classes)`."""
        batches = predictions(self._fabric, self._model, predict, self._index, self._training)
        progress = tqdm(batches, desc="classes", unit="batch", disable=None)
        ranked, scores = zip(*(top_classes(batch.numpy()) for batch in progress), strict=True)
        if self._fabric.is_global_zero:
            path = self._folder / "scores" / f"{name}.parquet"
            write_scores(path, self._index, np.concatenate(ranked), np.concatenate(scores))

    def _write(self, path: Path, predict: Predict, rows: Rows, index: ImageIndex) -> None:
        views = load(InferenceParams, "inference")
        write_maps(self._fabric, self._model, predict, index, self._training, views, path, rows)
