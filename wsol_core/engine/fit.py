"""The training of one network: images with targets, the loop, and its two outputs."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import nn

from wsol_core.core.errors import InputError
from wsol_core.core.oracle_names import refuse_hidden_oracle
from wsol_core.core.params import seed
from wsol_core.core.scratch import scratch_folder
from wsol_core.data.images import Interpolation
from wsol_core.data.index import TRAIN_FULLSUP, TRAIN_WEAKSUP, ImageIndex, read_index
from wsol_core.data.loading import EqualParts, Pairs, SquashedImages, TrainingSet
from wsol_core.engine.checkpoints import load_checkpoint, restore, save_checkpoint
from wsol_core.engine.devices import Precision, launch, running_precision
from wsol_core.engine.feature_pairs import FeaturePairs
from wsol_core.engine.feature_store import FeatureStore
from wsol_core.engine.features import FrozenBackbone
from wsol_core.engine.recipe import Recipe
from wsol_core.engine.targets import Targets
from wsol_core.engine.training import Loss, Trainer, write_loss_curve
from wsol_core.engine.training_params import INDEX_FIELDS, LearningParams, NetworkParams, TrainingParams

M = TypeVar("M", bound=nn.Module)
NO_HISTORY = pd.DataFrame(columns=["epoch", "train", "held_out"])
"""Of a network that keeps its starting weights."""


def fit_network(name: str, recipe: Recipe[Any], params: NetworkParams) -> None:
    """Train an entry of `networks:`, see `train_on_pairs`.

    Args:
        name: of the entry.
        recipe: of its kind of network.
        params: of the entry.

    Raises:
        InputError: there is no image to train on, what it sees, learns from or starts from does not fit, or it hides an
            oracle.
    """
    refuse_hidden_oracle(name, *(getattr(params, field) for field in INDEX_FIELDS))
    if not params.sees_features and params.sees != params.index:
        raise InputError(f"networks.{name}.sees: {params.sees}: name {params.index}, or features of the images")
    if recipe.needs_pseudo_labels and params.learns_from == params.index:
        raise InputError(f"networks.{name}.learns_from: names no pseudo labels; name the file to learn from")
    if params.sees_features and recipe.needs_images(params):
        raise InputError(f"networks.{name}.sees: a network that needs the images themselves; name {params.index}")
    with ExitStack() as stack:
        store = stack.enter_context(FeatureStore(Path(params.sees))) if params.sees_features else None
        params = params.on_features(store.params) if store else params
        index = recipe.images(params, read_index(Path(params.index)))
        sets = [index]
        if params.background != params.index:
            if store:
                raise InputError(f"networks.{name}.background: a network on cached features has none; see images")
            sets.append(read_index(Path(params.background)))
        targets, number = recipe.targets(params, index), seed()

        def build() -> nn.Module:
            if params.starts_from == params.index:
                return recipe.build(params, len(index.classes))
            model = recipe.build(params.without_weights(), len(index.classes))
            restore(model, load_checkpoint(Path(params.starts_from)).tensors, Path(params.starts_from))
            return model

        def pairs(model: Any, split: str) -> Pairs | None:
            if store:
                return feature_pairs(store, model.backbone, index, split, targets, params.training, number)
            interpolation = model.backbone.interpolation
            return joined([training_set(each, split, targets, params.training, interpolation, number) for each in sets])

        inputs = sorted({Path(getattr(params, field)) for field in INDEX_FIELDS})
        loss, precision = recipe.loss(params, index), params.training.precision
        train_on_pairs(name, params, precision, index.classes, build, loss, pairs, index.name, inputs)


def feature_pairs(
    store: FeatureStore,
    backbone: FrozenBackbone,
    index: ImageIndex,
    split: str,
    targets: Targets,
    params: TrainingParams,
    number: int,
) -> FeaturePairs | None:
    """The features of a split's images with their targets; None for a split without images."""
    backbone.shapes = store.shapes
    rows = index.split(split)
    if rows.empty:
        return None
    reader = store.reader(launch(params.precision), replace(index, table=rows))
    return FeaturePairs(store, reader, targets(rows), params.flip, number)


def training_set(
    index: ImageIndex, split: str, targets: Targets, params: TrainingParams, interpolation: Interpolation, number: int
) -> TrainingSet | None:
    """The images of a split with their targets, moved by the seed `number`; None for a split without images."""
    rows = index.split(split)
    if rows.empty:
        return None
    side = params.geometry.resize
    images = SquashedImages(index.root, rows, side, side, interpolation, keep=params.epochs > 1)
    return TrainingSet(images, targets(rows), params.geometry, number)


def joined(parts: Sequence[TrainingSet | None]) -> Pairs | None:
    """One or two training sets as one, in equal parts; None if one of them has no images."""
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return None
    return EqualParts(*whole) if len(whole) > 1 else whole[0]


def train_on_pairs(
    name: str,
    params: LearningParams,
    precision: Precision,
    classes: Sequence[str],
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
        classes: that it tells apart.
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
    runs = running_precision(fabric)
    with scratch_folder(f"train-{name}", {"params": params}, inputs, number, runs) as folder:
        history = NO_HISTORY
        if params.training.epochs:
            train, held_out = (pairs(model, split) for split in (TRAIN_WEAKSUP, TRAIN_FULLSUP))
            if train is None:
                raise InputError(f"data set {data_set!r} has no image in {TRAIN_WEAKSUP}; nothing to train on")
            trainer = Trainer(fabric, model, loss, params.training, number, folder)
            history, model = trainer.fit(train, held_out), trainer.model.module
        if fabric.is_global_zero:
            config = params.model_dump(mode="json")
            save_checkpoint(Path(f"data/models/{name}.safetensors"), model.state_dict(), config, classes, runs)
            write_loss_curve(Path(f"data/models/loss-{name}.csv"), history)
