"""Files read once and kept while they are the same: tables, map stores and YAML. The oldest of them are let go."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wsol_core.core.errors import InputError
from wsol_core.core.files import BOXES, read_table
from wsol_core.core.map_store import MapStore
from wsol_core.core.texts import parse_yaml, read_text
from wsol_core.data.index import ImageIndex, read_index

KEPT = 16
"""Files of each kind."""
Stamp = tuple[int, int]


def stamp(path: Path) -> Stamp:
    """What changes when a file is written again: its time and its length."""
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def index(path: Path) -> ImageIndex:
    """An image index."""
    return _index(path, stamp(path))


def table(path: Path) -> pd.DataFrame:
    """A whole table; do not change it."""
    return _table(path, stamp(path))


def store(path: Path) -> MapStore:
    """An opened map store."""
    return _store(path, stamp(path))


def labels(path: Path) -> tuple[int, ...]:
    """The labels of a map store, ascending; the store does not stay open.

    Raises:
        InputError: the file is no map store.
    """
    return _labels(path, stamp(path))


def document(path: Path) -> dict[str, Any]:
    """A YAML file with a mapping at its top; empty where it has none."""
    return _document(path, stamp(path))


def rows_of(path: Path, image_id: str) -> pd.DataFrame:
    """The rows of one image in a table too large to keep.

    Raises:
        FileNotFoundError: it has gone.
        InputError: the file is no readable table.
    """
    try:
        rows: pd.DataFrame = pq.read_table(path, filters=[("image_id", "=", image_id)]).to_pandas()
        if missing := {*BOXES, "label"} - set(rows.columns):
            raise pa.ArrowInvalid(f"no column {min(missing)!r}")
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path.name}: not a readable table ({error}); run the stage that makes it again") from error
    return rows


@lru_cache(KEPT)
def _index(path: Path, _: Stamp) -> ImageIndex:
    return read_index(path)


@lru_cache(KEPT)
def _table(path: Path, _: Stamp) -> pd.DataFrame:
    return read_table(path)[0]


@lru_cache(KEPT)
def _store(path: Path, _: Stamp) -> MapStore:
    return MapStore(path)


@lru_cache(KEPT)
def _labels(path: Path, _: Stamp) -> tuple[int, ...]:
    with MapStore(path) as store:
        return tuple(sorted(set(store.labels.tolist())))


@lru_cache(KEPT)
def _document(path: Path, _: Stamp) -> dict[str, Any]:
    content = parse_yaml(read_text(path, path.name), path.name)
    return content if isinstance(content, dict) else {}
