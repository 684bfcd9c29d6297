"""The feature stores: how large they are, and whether they fit."""

import math
from collections.abc import Mapping
from pathlib import Path

from wsol_core.core.errors import InputError
from wsol_core.doctor.data_sets import Extent
from wsol_core.doctor.finding import Finding
from wsol_core.doctor.machine import GIB
from wsol_core.doctor.speed import store_shapes
from wsol_core.engine.feature_store import FeatureStore
from wsol_core.engine.features import FeatureParams


def store_path(name: str, features: FeatureParams) -> str:
    """Where the stage writes an entry of `features:`."""
    return f"data/{features.set}/features/{name}.h5"


def row_bytes(features: FeatureParams) -> int:
    """Of an image, all views together."""
    return 2 * len(features.views) * sum(math.prod(shape) for shape in store_shapes(features))


def check_stores(
    features: Mapping[str, FeatureParams], extents: Mapping[str, Extent], free: int, copies: bool
) -> list[Finding]:
    """The size of each store, and an error where those to be written take more than half of the disk.

    Args:
        features: by name.
        extents: the data sets by key.
        free: bytes of the disk.
        copies: whether the artifacts of the workspace are copies of those in the cache.

    Raises:
        InputError: a store's backbone is unknown or lacks its levels; the message names the store.
    """
    findings: list[Finding] = []
    missing: dict[str, int] = {}
    for name, entry in features.items():
        if entry.set not in extents:
            continue
        images = extents[entry.set].images
        if entry.store == "never":
            text = f"features.{name}: not stored, but computed for {images} images wherever they are read"
        else:
            bytes_of_all = _named(name, entry) * images
            text = f"features.{name}: {bytes_of_all / GIB:.2f} GiB for {images} images"
            if not _is_there(Path(store_path(name, entry)), entry):
                missing[name] = bytes_of_all * (2 if copies else 1)
        findings.append(Finding("note", "machine", text))
    needed = sum(missing.values())
    if needed > free / 2:
        largest = max(missing, key=lambda name: missing[name])
        text = (
            f"feature stores of {needed / GIB:.1f} GiB are to be written, more than half of the {free / GIB:.1f} GiB "
            f"free; make room, or set features.{largest}.store to never"
        )
        findings.append(Finding("error", "machine", text))
    return findings


def _named(name: str, features: FeatureParams) -> int:
    try:
        return row_bytes(features)
    except InputError as error:
        raise InputError(f"features.{name}: {error}") from error


def _is_there(path: Path, features: FeatureParams) -> bool:
    """Whether an earlier run has written the same maps."""
    try:
        with FeatureStore(path) as store:
            return store.params == features
    except InputError:
        return False
