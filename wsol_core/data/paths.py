"""Paths below the root of a data set: which may be read, what their images are called, what stands there besides."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wsol_core.core.errors import InputError

LINKED_FOLDER = "linked folder, not followed (see follow_links)"
LINKED_OUT = "link out of the root, not followed (see follow_links)"
DANGLING = "link to nothing"
LOOP = "link to itself"
CLOSED_LINK = "link to what may not be read"
NOT_REGULAR = "not a regular file"
CLOSED = "folder that may not be read"


class Entry(NamedTuple):
    """What stands below a root: a file, or something that is passed over and why."""

    path: str
    problem: str | None = None


def image_id(path: str) -> str:
    """The id of the image at `path`: the path without its suffix."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"


def image_ids(paths: Sequence[str]) -> list[str]:
    """The ids of different images: each path without its suffix, or with it where several would have one id.

    Example:
        >>> image_ids(["cat/a.jpg", "cat/b.jpg", "cat/b.png"])
        ['cat/a', 'cat/b.jpg', 'cat/b.png']
    """
    ids = [image_id(path) for path in paths]
    uses = Counter(dict(zip(paths, ids, strict=True)).values())
    return [path if uses[name] > 1 else name for path, name in zip(paths, ids, strict=True)]


def below(folder: str, path: str) -> str:
    """`path` counted from `folder`; an absolute one stays absolute, so that `is_inside` refuses it."""
    return str(PurePosixPath(folder, path))


def walk(root: Path, folder: str = "", follow_links: bool = False) -> Iterator[str]:
    """Paths, relative to `root`, of all files under `root/folder` in no order; hidden ones are left out.

    Linked folders are walked into where `follow_links` says so. What else is no file is passed over: see `passed_over`.

    Raises:
        InputError: a name is not valid UTF-8.
    """
    return (entry.path for entry in _entries(root, folder, follow_links) if entry.problem is None)


def passed_over(root: Path, folder: str = "", follow_links: bool = False) -> list[Entry]:
    """What `walk` passes over, sorted, with the reason: linked folders, links to nothing, queues, closed folders."""
    return sorted(entry for entry in _entries(root, folder, follow_links) if entry.problem is not None)


def is_inside(root: Path, path: str, follow_links: bool = False) -> bool:
    """Whether `path` is relative to `root` and stays inside it, links followed; or may leave it through a link."""
    if leaves_root(path):
        return False
    if follow_links:
        return True
    try:
        if not _folder_is_inside(root, path.rpartition("/")[0]):
            return False
        place = root / path
        return not place.is_symlink() or place.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a link to itself, a name that no file can have
        return False


def has_file(root: Path, path: str, follow_links: bool = False) -> bool:
    """Whether a regular file stands at `path` inside `root`."""
    return is_inside(root, path, follow_links) and is_file(root / path)


def is_file(place: Path) -> bool:
    """Whether a regular file stands at `place`, whatever its name; never raises."""
    try:
        return place.is_file()
    except (OSError, ValueError):
        return False


def is_folder(place: Path) -> bool:
    """Whether a folder stands at `place`, whatever its name; never raises."""
    try:
        return place.is_dir()
    except (OSError, RuntimeError, ValueError):
        return False


@lru_cache(maxsize=1 << 14)
def _folder_is_inside(root: Path, folder: str) -> bool:
    return (root / folder).resolve().is_relative_to(root.resolve())


def leaves_root(path: str) -> bool:
    """Whether a path, as text, is absolute, climbs or holds a null byte."""
    return path.startswith("/") or ".." in path.split("/") or "\0" in path


def _entries(root: Path, folder: str, follow_links: bool) -> Iterator[Entry]:
    """Everything under `root/folder` but hidden entries and real folders."""
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while pending:
        here, above = pending.pop()
        try:
            if follow_links:
                above |= {_identity(root / here)}
            with os.scandir(root / here) as scanned:
                entries = [entry for entry in scanned if not entry.name.startswith(".")]
        except PermissionError:
            yield Entry(here, CLOSED)
            continue
        for entry in entries:
            path = _valid(f"{here}/{entry.name}" if here else entry.name)
            linked = entry.is_symlink()
            if entry.is_dir(follow_symlinks=False) or (linked and follow_links and is_folder(root / path)):
                if linked and _identity(root / path) in above:
                    yield Entry(path, LOOP)
                else:
                    pending.append((path, above))
            else:
                yield Entry(path, _problem(root / path) if linked or not entry.is_file() else None)


def _problem(place: Path) -> str | None:
    """What is wrong with an entry that is no plain file; None for a link to one."""
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return DANGLING
    except PermissionError:
        return CLOSED_LINK
    except (OSError, RuntimeError):
        return LOOP
    if stat.S_ISDIR(mode):
        return LINKED_FOLDER
    return None if stat.S_ISREG(mode) else NOT_REGULAR


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _valid(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path!r}: the name is not valid UTF-8; rename the file") from error
    return path
