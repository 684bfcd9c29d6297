"""Outputs that appear whole or not at all: written beside their name, then moved over it."""

import ctypes
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wsol_core.core.errors import InputError
from wsol_core.core.locks import Lock, lock


def _is_text(found: pa.DataType) -> bool:
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found))


def _is_list_of_numbers(found: pa.DataType) -> bool:
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
    return bool(is_list and (pa.types.is_integer(found.value_type) or pa.types.is_null(found.value_type)))


BOXES = ("image_id", "x0", "y0", "x1", "y1")
SCORED_BOXES = (*BOXES, "score", "label")
COLUMN_TYPES: dict[str, Callable[[pa.DataType], bool]] = {
    **dict.fromkeys(("image_id", "path", "digest", "split", "class"), _is_text),
    **dict.fromkeys(("label", "width", "height", "instance"), pa.types.is_integer),
    **dict.fromkeys(("x0", "y0", "x1", "y1", "score"), pa.types.is_floating),
    "difficult": pa.types.is_boolean,
    "labels": _is_list_of_numbers,
}
"""What the columns of the pipeline's tables hold, by their name; a column without rows may have no type."""
LEFTOVER = re.compile(r"\.(.+)\.\d+\.tmp", re.DOTALL)
"""What is being written, or was when its run was killed."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or a folder; move it over `path` if the block succeeds, whole and on the disk.

    If the block raises, what was written is removed and `path` stays as it was. What killed runs left beside `path` is
    removed first.

    Raises:
        OSError: it could not be written (a full disk).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, [path.name])
    with atomic_path_of_many(path) as temporary:
        yield temporary


@contextmanager
def atomic_path_of_many(path: Path) -> Iterator[Path]:
    """As `atomic_path`, for one of many files in a folder that exists, without a look for leftovers in it."""
    with temporary_folder(path) as folder:
        temporary = folder / path.name
        try:
            yield temporary
            to_disk(temporary)
        except OSError as error:
            if error.errno is not None:  # the system's; others have a message of their own
                error.filename = error.filename or str(path)
            raise
        if temporary.is_dir() and path.is_dir():
            _exchange(temporary, path, folder)
        else:
            os.replace(temporary, path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder `.NAME.NUMBER.tmp` beside `path`, of a random number; it is removed at the end.

    It is locked, which tells it from one that a killed run left.
    """
    with ExitStack() as stack:
        state = Lock.TAKEN
        while state is Lock.TAKEN:  # another run may take it for a killed run's before it is locked
            folder = path.with_name(f".{path.name}.{secrets.randbelow(10**7)}.tmp")
            with suppress(FileExistsError):
                folder.mkdir()
                state = stack.enter_context(lock(folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path, names: Collection[str]) -> None:
    """Remove what killed runs left in a folder of files or folders of these names; what is being written stays.

    Without locks nothing tells the one from the other, and all stays.
    """
    for path in folder.iterdir():
        found = LEFTOVER.fullmatch(path.name)
        if found and found[1] in names:
            _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    with suppress(OSError), lock(path) as state:  # a link is not opened
        if state is Lock.OURS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def to_disk(path: Path) -> None:
    """Have the system write a file, or a folder of them, to the disk: after a crash none is empty."""
    if path.is_dir():
        os.sync()  # once for all, which is a hundred times as fast as file by file
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(new: Path, old: Path, aside: Path) -> None:
    """Let two folders change their places, on Linux and macOS at once; elsewhere `old` goes to `aside` first."""
    libc, paths = ctypes.CDLL(None, use_errno=True), (os.fsencode(new.absolute()), os.fsencode(old.absolute()))
    done = -1
    if hasattr(libc, "renameat2"):
        at_root, exchange = -100, 2
        done = libc.renameat2(at_root, paths[0], at_root, paths[1], exchange)
    elif hasattr(libc, "renamex_np"):
        swap = 2
        done = libc.renamex_np(*paths, swap)
    if done:
        os.replace(old, aside / "old")
        os.replace(new, old)


class Sink(io.FileIO):
    """A file for libraries that crash, or say something else, where a disk is full: `check` raises its first failure.

    Opened with the mode "w+".
    """

    error: OSError | None = None

    def write(self, content: Any) -> int:
        """Write all of `content`, or keep the error and pretend."""
        rest = memoryview(content).cast("B")
        length = len(rest)
        try:
            while rest and not self.error:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return length

    def truncate(self, end: int | None = None) -> int:
        """Set the file's length, or keep the error and pretend."""
        try:
            return super().truncate(end)
        except OSError as error:
            self.error = self.error or error
            return self.tell()

    def check(self) -> None:
        """Raise the error that was kept, if there is one."""
        if self.error:
            raise self.error


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


def read_table(path: Path, columns: Sequence[str] = ()) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read what `write_table` wrote: the table and its metadata.

    Args:
        path: of the file.
        columns: that the table must have, of the type that `COLUMN_TYPES` gives their name; numbers are finite.

    Raises:
        InputError: the file is missing, is not a Parquet file, or has another layout.
    """
    try:
        content = pq.read_table(path)
        metadata = json.loads((content.schema.metadata or {}).get(b"wsol", b"{}"))
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is no mapping")
        for name in columns:
            _check_column(content, name)
        return content.to_pandas(), metadata
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        raise InputError(f"{path}: not a readable table ({error}); run the stage that makes it again") from error


def _check_column(content: pa.Table, name: str) -> None:
    if name not in content.column_names:
        raise ValueError(f"no column {name!r}")
    column, is_right = content.column(name), COLUMN_TYPES[name]
    if not (is_right(column.type) or pa.types.is_null(column.type)) or column.null_count:
        raise ValueError(f"column {name!r} is {column.type} with {column.null_count} missing values")
    if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
        raise ValueError(f"column {name!r} has values that are not finite")
