"""Locks that end with their process, however it ends: what is locked is in use, what is not is a killed run's.

They are the operating system's (`flock`), so no process number can be mistaken for another one's. A file system
without such locks has none: there runs do not see one another, and nothing is taken for a killed run's.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from pathlib import Path


class InUseError(OSError):
    """Another process has the lock: the message names it."""


class Lock(Enum):
    """What came of an attempt to lock."""

    OURS = "ours"
    """Nobody else has it until the block ends."""
    TAKEN = "taken"
    """Somebody else has it, or removed the file meanwhile."""
    UNSUPPORTED = "unsupported"
    """The file system has no such locks: somebody else may use the file."""


@contextmanager
def lock(path: Path) -> Iterator[Lock]:
    """Lock a file or folder until the block ends, if nobody else has it; what is missing is `TAKEN`.

    Files are opened for writing, without which NFS locks none. Folders cannot be, so NFS has no locks of folders.

    Raises:
        OSError: it cannot be opened.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield Lock.TAKEN
        return
    try:
        yield _lock(descriptor, path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> Lock:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.TAKEN
    except OSError:
        return Lock.UNSUPPORTED
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return Lock.OURS
    return Lock.TAKEN


@contextmanager
def only_run(path: Path, name: str) -> Iterator[None]:
    """Hold the lock file `path`, in a folder that exists, which is removed at the end; `name` says of what.

    Raises:
        InUseError: another process holds it.
    """
    with ExitStack() as stack:
        state = Lock.TAKEN
        while state is Lock.TAKEN:
            path.touch()
            state = stack.enter_context(lock(path))
            if state is Lock.TAKEN and (holder := _holder(path)):
                raise InUseError(f"{name}: runs already, as process {holder}; wait for its end, or stop it")
        try:
            path.write_text(str(os.getpid()), encoding="ascii")
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _holder(path: Path) -> str:
    """The process that a lock file names; nothing where it has gone meanwhile."""
    with suppress(OSError):
        return path.read_text(encoding="ascii") or "?"
    return ""
