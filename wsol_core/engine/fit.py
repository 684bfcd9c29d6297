"""What every trained network needs: images with targets, the training, and its two outputs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import nn

from wsol_core.backbones.create import OnBackbone
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import seed
from wsol_core.core.scratch import scratch_folder
from wsol_core.data.images import Interpolation
from wsol_core.data.index import TRAIN_FULLSUP, TRAIN_WEAKSUP, ImageIndex
from wsol_core.data.loading import EqualParts, Pairs, SquashedImages, TrainingSet
from wsol_core.data.targets import ImageTargets, StoredTargets
from wsol_core.engine.checkpoints import save_checkpoint
from wsol_core.engine.devices import Precision, launch, running_precision
from wsol_core.engine.training import Loss, Trainer, write_loss_curve
from wsol_core.engine.training_params import LearningParams, NetworkParams, TrainingParams

M = TypeVar("M", bound=nn.Module)
Targets = Callable[[pd.DataFrame], ImageTargets]
"""From rows of an image index to what a network shall say of each image."""


def stored_maps(store: Path) -> Targets:
    """Targets that are maps: those of `store`, float32.

    Raises:
        InputError: when called, if an image has no map.
    """

    def find(rows: pd.DataFrame) -> ImageTargets:
        with MapStore(store) as maps:
            row_of = {image_id: row for row, image_id in enumerate(maps.image_ids)}
        missing = rows.loc[~rows["image_id"].isin(row_of), "image_id"]
        if len(missing):
            raise InputError(f"{store}: no map for image {missing.iloc[0]!r}; run the stage that makes it again")
        return StoredTargets(store, [row_of[image_id] for image_id in rows["image_id"]])

    return find


def class_labels(rows: pd.DataFrame) -> Sequence[np.int64]:
    """Targets that are the images' one label."""
    return [np.int64(labels[0]) for labels in rows["labels"]]


def has_label(rows: pd.DataFrame) -> Sequence[np.int64]:
    """Targets that say whether an image shows any class, 1, or background alone, 0."""
    return [np.int64(len(labels) > 0) for labels in rows["labels"]]


def training_set(
    index: ImageIndex, split: str, targets: Targets, params: TrainingParams, interpolation: Interpolation, number: int
) -> TrainingSet | None:
    """The images of a split with their targets, moved by the seed `number`; None for a split without images."""
    rows = index.split(split)
    if rows.empty:
        return None
    side = params.geometry.crop_from
    images = SquashedImages(index.root, rows, side, side, interpolation, keep=params.epochs > 1)
    return TrainingSet(images, targets(rows), params.geometry, number)


def joined(parts: Sequence[TrainingSet | None]) -> Pairs | None:
    """One or two training sets as one, in equal parts; None if one of them has no images."""
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return None
    return EqualParts(*whole) if len(whole) > 1 else whole[0]


def train_network(
    name: str,
    params: NetworkParams,
    build: Callable[[], OnBackbone],
    loss: Loss,
    index: ImageIndex,
    targets: Targets,
    inputs: Sequence[Path],
    others: ImageIndex | None = None,
) -> None:
    """Train a network on images, see `train_on_pairs`.

    Args:
        name: of the network, apart from all others.
        params: of the network.
        build: makes the untrained network, on its `backbone`.
        loss: of a batch.
        index: the images.
        targets: of the images.
        inputs: the files that the result depends on.
        others: a second set of images, drawn as often; without some of its own in train-fullsup no loss is held out.

    Raises:
        InputError: there is no image to train on.
    """
    number = seed()
    sets = [index] if others is None else [index, others]

    def pairs(model: OnBackbone, split: str) -> Pairs | None:
        seen = model.backbone.interpolation
        return joined([training_set(each, split, targets, params.training, seen, number) for each in sets])

    train_on_pairs(name, params, params.training.precision, build, loss, pairs, index.name, inputs)


def train_on_pairs(
    name: str,
    params: LearningParams,
    precision: Precision,
    build: Callable[[], M],
    loss: Loss,
    pairs: Callable[[M, str], Pairs | None],
    data_set: str,
    inputs: Sequence[Path],
) -> None:
    """Train a network on train-weaksup; the images of train-fullsup only measure the held-out loss.

    No ground truth is seen, unless the pairs hold it. Writes `data/models/NAME.safetensors`, with `params` as config,
    and the loss per epoch to `data/models/loss-NAME.csv`. A killed run goes on where it was.

    Args:
        name: of the network, apart from all others.
        params: of the network and its training.
        precision: of the network.
        build: makes the untrained network.
        loss: of a batch.
        pairs: inputs and targets of a split for the untrained network; None for a split without images.
        data_set: its name.
        inputs: the files that the result depends on.

    Raises:
        InputError: there is no image to train on.
    """
    fabric = launch(precision)
    number = seed()
    torch.manual_seed(number)
    model = build()
    train, held_out = (pairs(model, split) for split in (TRAIN_WEAKSUP, TRAIN_FULLSUP))
    if train is None:
        raise InputError(f"data set {data_set!r} has no image in {TRAIN_WEAKSUP}; nothing to train on")
    runs = running_precision(fabric)
    with scratch_folder(f"train-{name}", {"params": params}, inputs, number, runs) as folder:
        trainer = Trainer(fabric, model, loss, params.training, number, folder)
        history = trainer.fit(train, held_out)
        if fabric.is_global_zero:
            config = params.model_dump(mode="json")
            tensors = trainer.model.module.state_dict()
            save_checkpoint(Path(f"data/models/{name}.safetensors"), tensors, config, runs)
            write_loss_curve(Path(f"data/models/loss-{name}.csv"), history)
