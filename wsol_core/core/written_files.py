"""Files that commands write where the user says: only what a command wrote itself is ever replaced or deleted.

A folder with such files has a list of them, `.wsol-written.jsonl`: a line for each file with its path, the writer and
the BLAKE2b hash of its content. A file that is not listed, or that was changed since it was written, belongs to the
user. A user's file is never deleted, and it is replaced only with `--overwrite`. A command's input is never replaced.

Lines are appended to the list before their files are put in place, each file by one `os.replace`, and the list is
shortened at the end. A run that is killed in between leaves every file whole, old or new, and listed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path, atomic_path_of_many, remove_leftovers, temporary_folder, to_disk

LIST = ".wsol-written.jsonl"


class Entry(NamedTuple):
    """What the list says of a file."""

    writer: str
    """of its last line"""
    hashes: tuple[str, ...]
    """the last one is the newest; a run that was killed leaves several"""


class WrittenFiles:
    """The files of one writer in a folder.

    Args:
        folder: the output; it may be missing.
        writer: a command, or the name of a single output file. What it wrote earlier and no longer writes is removed.
        overwrite: whether files of the user may be replaced.
        inputs: files, and folders of files, that are never replaced, not even with `overwrite`.

    Raises:
        InputError: `folder` is no folder.
    """

    def __init__(self, folder: Path, writer: str, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
        if os.path.lexists(folder) and not folder.is_dir():
            raise InputError(f"{folder}: a file; this output is a folder, choose another name")
        self._folder, self._writer, self._overwrite = folder, writer, overwrite
        inputs = [path for path in inputs if path.exists()]
        self._input_files = {_identity(path) for path in inputs}
        self._input_folders = [path.resolve() for path in inputs if path.is_dir()]
        self._done: set[str] = set()

    def check(self, names: Iterable[str]) -> None:
        """Check that files may be written, by their paths below the folder, and remove what killed runs left of them.

        Raises:
            InputError: a file would replace a user's file or an input, or something else is in its way.
        """
        listed, names = self._read(), set(names)
        for name in (LIST, *sorted(names)):
            obstacle = self._obstacle(name)
            if obstacle is not None:
                raise InputError(f"{obstacle}: is in the way of an output; move it, or choose another output")
            if name != LIST and os.path.lexists(self._folder / name):
                self._check_existing(name, listed.get(name))
        by_folder: dict[Path, set[str]] = {}
        for path in (self._folder / name for name in names):
            by_folder.setdefault(path.parent, set()).add(path.name)
        for folder in filter(Path.is_dir, by_folder):
            remove_leftovers(folder, by_folder[folder])

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path for one file, which must be checked before; it is put in place at the end."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path_of_many(path) as temporary:
            yield temporary
            self._append({name: _digest(temporary)})
        self._done.add(name)

    def replace(self, new: Path) -> None:
        """Put all files below the folder `new` in place, then remove the writer's files that are not among them.

        Raises:
            InputError: as `check`; nothing is changed then.
        """
        paths = sorted(path for path in new.rglob("*") if path.is_file())
        hashes = {path.relative_to(new).as_posix(): _digest(path) for path in paths}
        self.check(hashes)
        to_disk(new)
        if not self._folder.exists():
            (new / LIST).write_text(self._lines(hashes), encoding="utf-8")
            os.replace(new, self._folder)
            return
        before = self._read()
        self._append(hashes)
        for name in hashes:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(new / name, path)
        self._done |= set(hashes)
        stale = {name: entry for name, entry in before.items() if entry.writer == self._writer and name not in hashes}
        for name, entry in stale.items():
            self._remove(name, entry)
        self.shorten_list(stale)

    def shorten_list(self, removed: Iterable[str] = ()) -> None:
        """Rewrite the list: of files that are written one line each, of `removed` ones none."""
        text = ""
        entries = self._read()
        for name in sorted(set(entries) - set(removed)):
            writer, hashes = entries[name]
            kept = hashes[-1:] if name in self._done else hashes
            text += "".join(_line(name, writer, content) for content in kept)
        with atomic_path(self._folder / LIST) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _check_existing(self, name: str, entry: Entry | None) -> None:
        path, own = self._folder / name, self._is_own(name, entry)
        ours_again = own and entry is not None and entry.writer == self._writer
        in_input = any(path.parent.resolve().is_relative_to(folder) for folder in self._input_folders)
        if _identity(path) in self._input_files or (in_input and not ours_again):
            raise InputError(f"{path}: is an input, which an output never replaces; choose another output")
        if not own and not self._overwrite:
            why = "was changed since wsol wrote it" if entry else "exists and was not written by wsol"
            raise InputError(f"{path}: {why}; choose another output, or say --overwrite to replace it")

    def _is_own(self, name: str, entry: Entry | None) -> bool:
        """Whether a file is listed, and is not changed since; a link never is."""
        path = self._folder / name
        if entry is None or self._obstacle(name) is not None or path.is_symlink() or not path.is_file():
            return False
        return _digest(path) in entry.hashes

    def _obstacle(self, name: str) -> Path | None:
        """A link or a file where a folder is needed, or a folder where the file is."""
        path = self._folder / name
        for parent in list(path.parents)[: len(PurePosixPath(name).parts) - 1]:
            if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
                return parent
        if name == LIST and path.is_symlink():
            return path
        return path if path.is_dir() and not path.is_symlink() else None

    def _remove(self, name: str, entry: Entry) -> None:
        """Remove a file that is unchanged and no input, and the folders below the output that are empty then."""
        path = self._folder / name
        if not self._is_own(name, entry) or _identity(path) in self._input_files:
            return
        path.unlink()
        with suppress(OSError):
            for parent in PurePosixPath(name).parents[:-1]:
                (self._folder / parent).rmdir()

    def _read(self) -> dict[str, Entry]:
        """What is listed; a damaged line lists nothing."""
        found: dict[str, Entry] = {}
        with suppress(FileNotFoundError):
            for line in (self._folder / LIST).read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    content = json.loads(line)
                    name, writer, digest = (str(content[key]) for key in ("file", "writer", "blake2b"))
                    if _is_below(name):
                        earlier = found[name].hashes if name in found else ()
                        found[name] = Entry(writer, (*earlier, digest))
        return found

    def _append(self, hashes: Mapping[str, str]) -> None:
        with (self._folder / LIST).open("a", encoding="utf-8") as file:
            file.write("\n" + self._lines(hashes))  # the last line may be cut off

    def _lines(self, hashes: Mapping[str, str]) -> str:
        return "".join(_line(name, self._writer, digest) for name, digest in hashes.items())


@contextmanager
def output_folder(
    folder: Path, writer: str, overwrite: bool = False, inputs: Iterable[Path] = (), sure: Iterable[str] = ()
) -> Iterator[Path]:
    """Yield an empty temporary folder, whose files are put in place one by one if the block succeeds.

    A folder that does not exist yet appears whole.

    Args:
        folder: as `writer`, `overwrite` and `inputs` see `WrittenFiles`.
        writer: whose earlier files are removed if they are not written again.
        overwrite: whether files of the user may be replaced.
        inputs: what is never replaced.
        sure: names that are written in any case; they are checked before the block.

    Raises:
        InputError: a file would replace a user's file or an input; nothing is changed then.
    """
    files = WrittenFiles(folder, writer, overwrite, inputs)
    files.check(sure)
    beside = folder / "wsol-new" if folder.exists() else folder
    beside.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(beside.parent, [beside.name])
    with temporary_folder(beside) as temporary:
        new = temporary / "new"
        new.mkdir()
        yield new
        files.replace(new)


@contextmanager
def output_file(path: Path, overwrite: bool = False, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a temporary path for a file; files that are written beside it come to lie beside `path`.

    Raises:
        InputError: `path` is a folder, or as `output_folder`.
    """
    if path.is_dir():
        raise InputError(f"{path}: a folder; this output is one file, choose another name")
    with output_folder(path.parent, path.name, overwrite, inputs, [path.name]) as folder:
        yield folder / path.name


def _line(name: str, writer: str, digest: str) -> str:
    return json.dumps({"file": name, "writer": writer, "blake2b": digest}) + "\n"


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of the file that a path leads to; None of a link that leads nowhere."""
    with suppress(OSError):
        content = path.stat()
        return content.st_dev, content.st_ino
    return None
