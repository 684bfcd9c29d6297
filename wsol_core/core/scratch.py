"""Where a killed stage left off: a folder named by everything that decides the stage's result, deleted on success.

What nobody comes back for, as parameters were changed meanwhile, goes after `KEPT_DAYS` or by `wsol clean`.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from wsol_core.core.errors import InputError
from wsol_core.core.locks import Lock, lock
from wsol_core.core.params import Block

PROJECT = Path(__file__).resolve().parents[2]
READ_WHOLE = 1 << 26
NAME = re.compile(r".+-[0-9a-f]{32}")
"""Of scratch folders."""
MARKER = ".wsol-scratch"
"""A file in each of them, locked while it is in use; a folder without it is not ours, whatever its name."""
KEPT_DAYS = 30
"""After its last change, until the next run of any stage removes a folder."""


@contextmanager
def scratch_folder(
    stage: str, params: Mapping[str, Block], inputs: Sequence[Path], seed: int = 0, precision: str = ""
) -> Iterator[Path]:
    """Yield the stage's scratch folder; delete it when the block ends well, keep it for the next run otherwise.

    Its name is a digest of the parameters, the seed, the precision that runs, the inputs and the project's code that is
    loaded, so that a crash resumes and any change starts afresh. Inputs of more than `READ_WHOLE` bytes, such as
    feature stores, are known by size and time instead of their bytes. It lies under `WSOL_SCRATCH` (default `.wsol`).

    Raises:
        InputError: another run has the folder.
    """
    digest = hashlib.blake2b(digest_size=16)
    described = {name: block.model_dump(mode="json") for name, block in params.items()}
    digest.update(json.dumps([described, seed, precision], sort_keys=True).encode())
    for path in (*inputs, *_loaded_code()):
        digest.update(_identity(path))
    folder = place() / f"{stage}-{digest.hexdigest()}"
    if os.environ.get("RANK", "0") != "0":
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        discard(folder, "not a folder")
    clean(KEPT_DAYS)
    marker = folder / MARKER
    with ExitStack() as stack:
        state = Lock.TAKEN
        while state is Lock.TAKEN:
            with suppress(FileNotFoundError):  # `wsol clean` may remove it before it is locked
                folder.mkdir(parents=True, exist_ok=True)
                marker.touch()
                state = stack.enter_context(lock(marker))
            if state is Lock.TAKEN and marker.exists():
                raise InputError(f"{folder}: another run of {stage} goes on there; wait for its end, or stop it")
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    _remove_empty(folder)


def place() -> Path:
    """The folder of scratch folders: `WSOL_SCRATCH`, by default `.wsol`."""
    return Path(os.environ.get("WSOL_SCRATCH") or ".wsol")


def clean(days: float = 0) -> list[Path]:
    """Remove the scratch folders that are not in use and were last changed `days` ago or before; returns them.

    What has no `MARKER`, what cannot be removed, and everything where the file system has no locks, stays.
    """
    removed = []
    for folder in sorted(place().glob("*")):
        marker = folder / MARKER
        with suppress(OSError):
            if not NAME.fullmatch(folder.name) or folder.is_symlink() or not marker.is_file():
                continue
            latest = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
            if latest > time.time() - days * 86400:
                continue
            with lock(marker) as state:
                if state is not Lock.OURS:
                    continue
                shutil.rmtree(folder, ignore_errors=True)
            _remove_empty(folder)
            if not folder.exists():
                removed.append(folder)
    return removed


def _remove_empty(folder: Path) -> None:
    """Remove a folder that its marker kept while that was open, as on NFS."""
    with suppress(OSError):
        folder.rmdir()


def discard(path: Path, reason: object) -> None:
    """Remove what cannot be used of a scratch folder, and say so; what it held is computed again."""
    print(f"warning: {path}: {' '.join(str(reason).split())}; it is computed again", file=sys.stderr)
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _identity(path: Path) -> bytes:
    status = path.stat()
    if status.st_size > READ_WHOLE:
        return f"{status.st_size} {status.st_mtime_ns}".encode()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _loaded_code() -> list[Path]:
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = (Path(file).resolve() for file in files if file)
    own = {path for path in paths if path.is_relative_to(PROJECT) and path.is_file()}
    return sorted(path for path in own if path.relative_to(PROJECT).parts[0] != ".venv")
