"""The outputs of a network for all images of a data set, as files of `data/SET/outputs/NAME`."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.params import load
from wsol_core.data.class_scores import top_classes, write_scores
from wsol_core.data.index import ImageIndex, read_index
from wsol_core.data.shown_images import shown_images
from wsol_core.engine.devices import launch
from wsol_core.engine.feature_store import FeatureStore
from wsol_core.engine.features import FrozenBackbone
from wsol_core.engine.inference import (
    AGNOSTIC,
    InferenceParams,
    average_stored_classes,
    predictions,
    views_of,
    write_maps,
)
from wsol_core.engine.recipe import Output, TrainedNetwork, load_network
from wsol_core.engine.training_params import is_store


def write_outputs(name: str, set_name: str, sees: str) -> None:
    """Write the outputs of `data/models/NAME.safetensors` for a data set; under `torchrun` the first process does.

    Of a data set with other classes than the network's, class-agnostic maps alone are written.

    Args:
        name: of the network.
        set_name: of the data set.
        sees: the data set's index for its images, or a store of their features.

    Raises:
        InputError: the checkpoint is missing or of another version, it has no class-agnostic maps to transfer, or the
            features are not those that it was trained on.
    """
    network = load_network(Path(f"data/models/{name}.safetensors"))
    index = read_index(Path("data", set_name, "index.parquet"))
    outputs = network.recipe.outputs(network.params, len(network.classes))
    if network.classes != index.classes:
        outputs = {key: output for key, output in outputs.items() if key == "maps" and output.rows == AGNOSTIC}
        if not outputs:
            raise InputError(f"{name}: its maps are of its own classes, which data set {index.name!r} does not have")
    with FeatureStore(Path(sees)) if is_store(sees) else nullcontext() as features:
        writer = OutputWriter(network, index, Path("data", set_name, "outputs", name), features)
        for key, output in outputs.items():
            writer.write(key, output)


def read_rows_of(features: FeatureStore, network: TrainedNetwork) -> None:
    """Let a network read a store's rows. The store may lack shallow levels that the network does not look at.

    Raises:
        InputError: it was trained on other features.
    """
    trained, backbone, own = network.params.features, network.model.backbone, features.params
    same: dict[str, Any] = dict.fromkeys(("output_stride", "side"), True)
    same["backbone"] = {"name", "frozen_batch_norm"}
    if (
        trained is None
        or trained.model_dump(include=same) != own.model_dump(include=same)
        or trained.levels[-len(own.levels) :] != own.levels
        or -min(network.params.levels_read) > len(own.levels)
    ):
        raise InputError(f"{features.path}: other features than the network was trained on; train it again")
    assert isinstance(backbone, FrozenBackbone)
    backbone.shapes = features.shapes


class OutputWriter:
    """Writes a network's outputs into a folder.

    Args:
        network: the network.
        index: of the data set.
        folder: where to.
        features: cached features of the images, if the network shall see those.

    Raises:
        InputError: the features are not those that the network was trained on.
    """

    def __init__(
        self, network: TrainedNetwork, index: ImageIndex, folder: Path, features: FeatureStore | None = None
    ) -> None:
        self._network, self._index, self._folder, self._features = network, index, folder, features
        if features is not None:
            read_rows_of(features, network)
        self._training = network.params.training
        self._fabric: Fabric = launch(self._training.precision)

    def write(self, key: str, output: Output) -> None:
        """Write one output, maps averaged over the views that the block `inference` asks for."""
        if output.kind == "classes":
            self._write_classes(key, output)
        else:
            self._write_maps(key, output, shown_images(self._index) if output.kind == "pictures" else self._index)

    def _write_maps(self, key: str, output: Output, index: ImageIndex) -> None:
        views, path = views_of(self._network.params, load(InferenceParams, "inference")), self._folder / f"{key}.h5"
        model, training = self._network.model, self._training
        write_maps(
            self._fabric, model, output.predict, index, training, views, path, output.rows, features=self._features
        )

    def _write_classes(self, key: str, output: Output) -> None:
        features = self._features
        predict = output.predict if features is None else average_stored_classes(output.predict, features.params.views)
        batches = predictions(
            self._fabric, self._network.model, predict, self._index, self._training, features=features
        )
        progress = tqdm(batches, desc="classes", unit="batch", disable=None)
        ranked, scores = zip(*(top_classes(batch.numpy()) for batch in progress), strict=True)
        if self._fabric.is_global_zero:
            path = self._folder / f"{key}.parquet"
            write_scores(path, self._index, np.concatenate(ranked), np.concatenate(scores))
