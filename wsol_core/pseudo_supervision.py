"""A network that learns from the maps of a store: the step that the papers' second halves share."""

from pathlib import Path

import pandas as pd
from lightning_fabric import Fabric
from torch import nn

from wsol_core.data.images import Interpolation
from wsol_core.data.index import TRAIN_FULLSUP, TRAIN_WEAKSUP, ImageIndex
from wsol_core.data.loading import SquashedImages, StoredTargets, TrainingSet
from wsol_core.errors import InputError
from wsol_core.maps import MapStore
from wsol_core.training import Loss, Trainer, TrainingParams


def pseudo_supervised(
    index: ImageIndex, split: str, store: Path, params: TrainingParams, interpolation: Interpolation, seed: int
) -> TrainingSet | None:
    """The images of a split with their maps from `store` as targets; None for a split without images.

    Raises:
        InputError: an image has no map.
    """
    rows = index.split(split)
    if rows.empty:
        return None
    with MapStore(store) as maps:
        row_of = {image_id: row for row, image_id in enumerate(maps.image_ids)}
    missing = rows.loc[~rows["image_id"].isin(row_of), "image_id"]
    if len(missing):
        raise InputError(f"{store}: no map for image {missing.iloc[0]!r}; run the stage that makes it again")
    targets = StoredTargets(store, [row_of[image_id] for image_id in rows["image_id"]])
    side = params.geometry.crop_from
    images = SquashedImages(index.root, rows, side, side, interpolation, keep=params.epochs > 1)
    return TrainingSet(images, targets, params.geometry, seed)


def train_on_store(
    fabric: Fabric,
    model: nn.Module,
    loss: Loss,
    params: TrainingParams,
    index: ImageIndex,
    store: Path,
    interpolation: Interpolation,
    seed: int,
    folder: Path,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train `model` on the pseudo labels of train-weaksup; those of train-fullsup only measure the held-out loss.

    Returns:
        The trained model, and the loss per epoch as `Trainer.fit` gives it. No ground truth is seen.
    """
    train = pseudo_supervised(index, TRAIN_WEAKSUP, store, params, interpolation, seed)
    if train is None:
        raise InputError(f"data set {index.name!r} has no image in {TRAIN_WEAKSUP}; nothing to train on")
    held_out = pseudo_supervised(index, TRAIN_FULLSUP, store, params, interpolation, seed)
    trainer = Trainer(fabric, model, loss, params, seed, folder)
    history = trainer.fit(train, held_out)
    return trainer.model.module, history
