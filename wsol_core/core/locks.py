"""Locks that end with their process, however it ends: what is locked is in use, what is not is a killed run's.

They are the operating system's (`flock`), so no process number can be mistaken for another one's. A file system
without such locks has none: there runs do not see one another.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class InUseError(OSError):
    """Another process has the lock: the message names it."""


def lock(path: Path) -> int | None:
    """Lock a file or folder that exists, until its descriptor is closed.

    Returns:
        The descriptor; None if somebody else has the lock, or removed the file meanwhile.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # no locks on this file system
        return descriptor
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    os.close(descriptor)
    return None


@contextmanager
def only_run(path: Path, name: str) -> Iterator[None]:
    """Hold the lock file `path`, in a folder that exists, which is removed at the end; `name` says of what.

    Raises:
        InUseError: another process holds it.
    """
    descriptor = None
    while descriptor is None:
        path.touch()
        descriptor = lock(path)
        if descriptor is None and (holder := _holder(path)):
            raise InUseError(f"{name}: runs already, as process {holder}; wait for its end, or stop it")
    try:
        path.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _holder(path: Path) -> str:
    """The process that a lock file names; nothing where it has gone meanwhile."""
    with suppress(OSError):
        return path.read_text(encoding="ascii") or "?"
    return ""
