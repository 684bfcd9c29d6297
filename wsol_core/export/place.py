"""Where an export goes: it appears whole, and replaces nothing but an earlier export unless told."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path

MARK = "wsol export"
"""Stands in every file that is exported, near its beginning or end."""
CSV_COLUMNS = ("image_id", "path", "split", "width", "height", "x0", "y0", "x1", "y1", "score", "label")
"""The header of a CSV file, which tells it."""
NOTE = "wsol-export.json"
"""Tells an exported folder."""
LOOK = 1 << 16


@contextmanager
def exported_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary path for a file that holds `MARK` or starts with the CSV header.

    Raises:
        InputError: something else is there, and `overwrite` is not set.
    """
    if path.is_dir():
        raise InputError(f"--out {path}: a folder; this format is one file")
    if path.exists() and not overwrite and not _is_own(path):
        raise InputError(f"--out {path}: exists, and is no earlier export; choose another name, or say --overwrite")
    with atomic_path(path) as temporary:
        yield temporary


@contextmanager
def exported_folder(path: Path, overwrite: bool, note: Mapping[str, object]) -> Iterator[Path]:
    """Yield a temporary folder that replaces the one at `path`; `note` says what it is, in `wsol-export.json`.

    Raises:
        InputError: something else is there, and `overwrite` is not set.
    """
    if path.is_file():
        raise InputError(f"--out {path}: a file; this format is a folder")
    own = not path.exists() or (path / NOTE).is_file() or not any(path.iterdir())
    if not own and not overwrite:
        raise InputError(f"--out {path}: holds other files; choose another folder, or say --overwrite")
    with atomic_path(path) as temporary:
        temporary.mkdir()
        yield temporary
        text = json.dumps({"made_by": MARK, **note}, indent=2, sort_keys=True)
        (temporary / NOTE).write_text(text + "\n", encoding="utf-8")


def _is_own(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(LOOK)
        file.seek(max(0, path.stat().st_size - LOOK))
        tail = file.read()
    return MARK.encode() in head or MARK.encode() in tail or head.startswith(",".join(CSV_COLUMNS).encode())
