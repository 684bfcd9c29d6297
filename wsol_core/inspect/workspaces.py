"""Where artifacts are read from: the files as they lie in the project, or a revision or experiment as DVC keeps it."""

import hashlib
import tempfile
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from wsol_core.core.errors import InputError

WORKSPACE = "workspace"
"""DVC's name of the files as they lie in the project, committed or not."""


class Workspace(Protocol):
    """One state of the project. Names are relative to its root, POSIX; none ever comes from a request."""

    name: str

    def locate(self, name: str) -> Path | None:
        """A local file with the content of `name`, or None where there is no such file."""

    def entries(self, folder: str) -> list[str]:
        """Names of the files and folders right below `folder`, sorted; none where it does not exist."""

    def time(self, name: str) -> float | None:
        """When the file or folder was made, seconds since 1970."""


class WorkingTree:
    """The project's folder as it is now."""

    name = WORKSPACE

    def __init__(self, root: Path) -> None:
        self._root = root

    def locate(self, name: str) -> Path | None:
        """The file itself."""
        path = self._root / name
        return path if path.is_file() else None

    def entries(self, folder: str) -> list[str]:
        """What the folder lists."""
        path = self._root / folder
        return sorted(each.name for each in path.iterdir()) if path.is_dir() else []

    def time(self, name: str) -> float | None:
        """The time of its last change."""
        path = self._root / name
        return path.stat().st_mtime if path.exists() else None


class Revision:
    """A commit, branch, tag or experiment, read through DVC's API; nothing is checked out.

    A tracked file is read where it lies in DVC's cache. What is in Git, or in a remote alone, is copied to a temporary
    folder that goes with the object.

    Raises:
        InputError: DVC knows no such revision, or `root` is no DVC project.
    """

    def __init__(self, root: Path, name: str) -> None:
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException
        from dvc.scm import SCMError

        self.name = name
        self._lock = Lock()
        self._found: dict[str, Path | None] = {}
        self._listed: dict[str, list[str]] = {}
        self._copies = tempfile.TemporaryDirectory(prefix="wsol-inspect-")
        try:
            self._files = DVCFileSystem(str(root), rev=name)
            self._files.ls("", detail=False)
        except (DvcException, SCMError) as error:
            known = "`git log --oneline` and `dvc exp list` name them"
            raise InputError(f"revision {name!r}: {error}; {known}") from error

    def locate(self, name: str) -> Path | None:
        """The file in DVC's cache, or a copy."""
        with self._lock:
            if name not in self._found:
                self._found[name] = self._find(name)
            return self._found[name]

    def entries(self, folder: str) -> list[str]:
        """What the revision lists."""
        with self._lock:
            if folder not in self._listed:
                try:
                    self._listed[folder] = sorted(Path(each).name for each in self._files.ls(folder, detail=False))
                except (FileNotFoundError, NotADirectoryError):
                    self._listed[folder] = []
            return self._listed[folder]

    def time(self, name: str) -> float | None:
        """When DVC took it into its cache."""
        with self._lock:
            cached = self._cached(self._info(name))
        return cached.stat().st_mtime if cached else None

    def _find(self, name: str) -> Path | None:
        info = self._info(name)
        if info.get("type") != "file":
            return None
        if cached := self._cached(info):
            return cached
        copy = Path(self._copies.name) / hashlib.sha256(name.encode()).hexdigest()
        try:
            self._files.get_file(name, str(copy))
        except Exception as error:  # any remote's library may have its own
            raise InputError(
                f"{name} of revision {self.name!r} is not in DVC's cache; fetch it: `dvc fetch`"
            ) from error
        return copy

    def _info(self, name: str) -> dict[str, Any]:
        try:
            return dict(self._files.info(name))
        except FileNotFoundError:
            return {}

    def _cached(self, info: dict[str, Any]) -> Path | None:
        if "md5" not in info:
            return None
        path = Path(self._files.repo.cache.local.oid_to_path(info["md5"]))
        return path if path.is_file() else None


def open_workspaces(root: Path, revisions: list[str]) -> list[Workspace]:
    """A workspace for each revision, `workspace` being the files as they are; that one where none is named.

    Raises:
        InputError: a revision is not known, or named twice.
    """
    if len(set(revisions)) < len(revisions):
        raise InputError(f"--rev: each revision once, got {', '.join(revisions)}")
    names = revisions or [WORKSPACE]
    return [WorkingTree(root) if name == WORKSPACE else Revision(root, name) for name in names]
