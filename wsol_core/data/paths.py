"""Paths below the root of a data set: which may be read, and what their images are called."""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from wsol_core.core.errors import InputError


def image_id(path: str) -> str:
    """The id of the image at `path`: the path without its suffix."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"


def below(folder: str, path: str) -> str:
    """`path` counted from `folder`; an absolute one stays absolute, so that `is_inside` refuses it."""
    return str(PurePosixPath(folder, path))


def walk(root: Path, folder: str = "") -> Iterator[str]:
    """Paths, relative to `root`, of all files under `root/folder` in no order; hidden ones and linked folders are not.

    Raises:
        InputError: a name is not valid UTF-8.
    """
    pending = [folder]
    while pending:
        here = pending.pop()
        with os.scandir(root / here) as entries:
            for entry in entries:
                path = f"{here}/{entry.name}" if here else entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                elif entry.is_file():
                    yield _valid(path)


def is_inside(root: Path, path: str) -> bool:
    """Whether `path` is relative to `root` and stays inside it, links followed."""
    if leaves_root(path) or not _folder_is_inside(root, path.rpartition("/")[0]):
        return False
    place = root / path
    return not place.is_symlink() or place.resolve().is_relative_to(root.resolve())


@lru_cache(maxsize=1 << 14)
def _folder_is_inside(root: Path, folder: str) -> bool:
    return (root / folder).resolve().is_relative_to(root.resolve())


def leaves_root(path: str) -> bool:
    """Whether a path, as text, is absolute, climbs or holds a null byte."""
    return path.startswith("/") or ".." in path.split("/") or "\0" in path


def _valid(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path!r}: the name is not valid UTF-8; rename the file") from error
    return path
