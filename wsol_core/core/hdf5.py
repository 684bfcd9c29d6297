"""HDF5 files that appear whole or not at all, also on a full disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from wsol_core.core.files import Sink, atomic_path


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
