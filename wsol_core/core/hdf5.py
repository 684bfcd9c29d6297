"""HDF5 files that appear whole or not at all, also on a full disk, and that are read without leaving the file."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from wsol_core.core.errors import InputError
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


@contextmanager
def opened(path: Path, what: str) -> Iterator[h5py.File]:
    """Open a file for reading; the block reads its header, and the file stays open if that ends well.

    Args:
        path: of the file.
        what: it is, for messages.

    Raises:
        InputError: it is missing or damaged, or the block found another layout.
    """
    with ExitStack() as stack:
        try:
            yield stack.enter_context(h5py.File(path, "r"))
        except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
            raise InputError(f"{path}: not a readable {what} ({error}); run the stage that makes it again") from error
        stack.pop_all()


def dataset(file: h5py.File, name: str, dimensions: int | tuple[int, ...], kinds: str) -> h5py.Dataset:
    """A data set that lies in the file itself.

    External links, raw data in other files and virtual data sets are never followed: a file from elsewhere could name
    any file of this machine.

    Args:
        file: opened for reading.
        name: of the data set.
        dimensions: how many it has, or may have.
        kinds: of values, as in numpy's `dtype.kind`; "O" for text of any length.

    Raises:
        ValueError: there is no such data set.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"no data set {name!r} in the file itself")
    found = own(file[name])
    allowed = (dimensions,) if isinstance(dimensions, int) else dimensions
    if found.shape is None or found.ndim not in allowed or found.dtype.kind not in kinds:
        words = ("", "one dimension", "two dimensions", "three dimensions", "four dimensions")
        raise ValueError(
            f"{name!r} has {' or '.join(words[each] for each in allowed)}, here {found.dtype} of shape {found.shape}"
        )
    return found


def own(found: h5py.HLObject) -> h5py.Dataset:
    """The same, if it is a data set whose values lie in its file.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{found.name!r} is no data set")
    if found.external or found.is_virtual:
        raise ValueError(f"the values of {found.name!r} lie in other files")
    return found


def texts(file: h5py.File, name: str) -> npt.NDArray[np.object_]:
    """The texts `(N,)` of a data set, as `str`.

    Raises:
        ValueError: there is no such data set, or it holds something else.
    """
    found = dataset(file, name, 1, "OS")
    if h5py.check_string_dtype(found.dtype) is None:
        raise ValueError(f"{name!r} holds no texts")
    values: npt.NDArray[np.object_] = found.asstr()[:]
    return values
