"""What networks learn from, by rows of an image index: stored maps, labels."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import ImageIndex
from wsol_core.data.targets import ImageTargets, StoredTargets

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


def images_with_maps(index: ImageIndex, store: Path) -> ImageIndex:
    """The index of the images that have a map in `store`: pseudo labels may be drawn for some images alone."""
    with MapStore(store) as maps:
        stored = index.table["image_id"].isin(set(maps.image_ids))
    return replace(index, table=index.table[stored].reset_index(drop=True))
