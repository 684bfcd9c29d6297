"""Outputs that appear whole or not at all: written beside their name, then moved over it."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wsol_core.core.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` for a file or a folder; move it over `path` if the block succeeds.

    If the block raises, the temporary file or folder is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as sorted, indented JSON with a final newline."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write `table` without its index."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def write_table(path: Path, table: pd.DataFrame, metadata: Mapping[str, Any] | None = None) -> None:
    """Write `table` as Parquet; `metadata` goes as JSON into the file's schema, under the key `wsol`."""
    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata({"wsol": json.dumps(metadata or {}, sort_keys=True)})
    with atomic_path(path) as temporary:
        pq.write_table(content, temporary, compression="zstd")


def read_table(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read what `write_table` wrote: the table and its metadata.

    Raises:
        InputError: the file is missing or is not a Parquet file.
    """
    try:
        content = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable table ({error}); run the stage that makes it again") from error
    metadata: dict[str, Any] = json.loads((content.schema.metadata or {}).get(b"wsol", b"{}"))
    return content.to_pandas(), metadata
