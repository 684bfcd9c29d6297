"""HDF5 files that appear whole or not at all, also on a full disk."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from wsol_core.core.files import atomic_path


class Sink(io.FileIO):
    """The file under HDF5, which crashes when it cannot write: the first failure is kept for `check` to raise."""

    error: OSError | None = None

    def write(self, content: Any) -> int:
        """Write all of `content`, or keep the error and pretend."""
        rest = memoryview(content)
        try:
            while rest and not self.error:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(content)

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


@contextmanager
def new_file(path: Path) -> Iterator[tuple[h5py.File, Sink]]:
    """Open a new file at `path`, and what it is written through; it takes its name when the block ends well.

    Raises:
        OSError: it could not be written (a full disk).
    """
    with atomic_path(path) as temporary, Sink(temporary, "w+") as sink:
        with h5py.File(sink, "w") as file:
            yield file, sink
        sink.check()
