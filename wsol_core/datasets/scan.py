"""Look at every file of a data set once, in parallel; later only at those whose size or time changed."""

import errno
import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self

import pandas as pd
from tqdm import tqdm

from wsol_core.core.parallel import in_processes
from wsol_core.data.images import BOMB, MAX_PIXELS, UNREADABLE, Inspection, digest_only, inspect
from wsol_core.data.paths import DANGLING, LOOP, NOT_REGULAR, is_inside, walk

MISSING = "listed but missing"
BATCH = 2000
CHUNK = 16
LOCK_SECONDS = 30.0

Kind = Literal["images", "files"]
Stamp = tuple[int, int]


def scan(root: Path, paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> pd.DataFrame:
    """Decode each image once, in several processes, and say what it is.

    Args:
        root: the data set's root.
        paths: relative to the root and inside it (see `paths.is_inside`).
        max_pixels: an image of more is not decoded.

    Returns:
        A row per path, in their order: `path`, `digest` (BLAKE2b of the bytes, 16 bytes in hex), `width`, `height`
        (pixels as displayed), `problem` (why it is no usable image, "" where it is one).
    """
    table = pd.DataFrame(_looks(root, paths, "images", max_pixels), columns=list(Inspection._fields))
    table["problem"] = table["problem"].fillna("").astype(str)
    table.insert(0, "path", pd.Series(paths, dtype=str))
    return table[["path", "digest", "width", "height", "problem"]]


def list_files(root: Path, follow_links: bool = False) -> pd.DataFrame:
    """Every file under `root` (`path`, `digest`), sorted by path, without hidden ones.

    Those behind links that lead out are there where `follow_links` says so.
    """
    files = walk(root, follow_links=follow_links)
    paths = sorted(path for path in files if is_inside(root, path, follow_links))
    looks = _looks(root, paths, "files")
    return pd.DataFrame({"path": paths, "digest": [look.digest for look in looks]}, dtype=str)


def _looks(root: Path, paths: Sequence[str], kind: Kind, max_pixels: int = MAX_PIXELS) -> list[Inspection]:
    places = [root.resolve() / path for path in paths]
    stamps = [_stamp(place) for place in places]
    batches = [slice(start, start + BATCH) for start in range(0, len(places), BATCH)]
    with _Cache(kind) as cache, tqdm(total=len(places), desc=kind, unit="file", disable=None) as bar:
        known = [look for batch in batches for look in cache.find(places[batch], stamps[batch], max_pixels)]
        looks = {position: look for position, look in enumerate(known) if look is not None}
        bar.update(len(looks))
        changed = [position for position in range(len(places)) if position not in looks]
        step = min(CHUNK, BATCH)
        chunks = [changed[start : start + step] for start in range(0, len(changed), step)]
        work = ((kind, [places[position] for position in chunk], max_pixels) for chunk in chunks)
        fresh: dict[int, Inspection] = {}
        for chunk, found in zip(chunks, in_processes(_look_at, work), strict=True):
            fresh |= zip(chunk, found, strict=True)
            bar.update(len(chunk))
            if len(fresh) >= BATCH or chunk is chunks[-1]:
                cache.add([(places[position], stamps[position], look) for position, look in fresh.items()])
                looks |= fresh
                fresh = {}
    return [looks[position] for position in range(len(places))]


def _look_at(kind: Kind, places: Sequence[Path], max_pixels: int) -> list[Inspection]:
    return [inspect(place, max_pixels) if kind == "images" else digest_only(place) for place in places]


def _stamp(path: Path) -> Stamp | str:
    """Size and time of change, or why the file cannot be looked at."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return DANGLING if path.is_symlink() else MISSING
    except (OSError, ValueError) as error:
        return LOOP if getattr(error, "errno", None) == errno.ELOOP else UNREADABLE
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else NOT_REGULAR


class _Cache:
    """What earlier scans of this user saw, by absolute path, size and time; without it a scan is only slower.

    A cache that is damaged is deleted; one that cannot be written, or is locked for long, is done without.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        for _ in range(2):
            with self._forgiving():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(self._path, timeout=LOCK_SECONDS)
                self._connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {self._kind} (path TEXT PRIMARY KEY, bytes INTEGER, mtime_ns INTEGER, "
                    "width INTEGER, height INTEGER, digest TEXT, problem TEXT) WITHOUT ROWID"
                )
                break
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def _path(self) -> Path:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsol" / "scan-2.sqlite"

    def find(self, paths: Sequence[Path], stamps: Sequence[Stamp | str], max_pixels: int) -> list[Inspection | None]:
        """What is known of each path; None for one that must be looked at."""
        rows: dict[str, tuple[Stamp, Inspection]] = {}
        with self._forgiving():
            if self._connection is not None:
                query = f"SELECT * FROM {self._kind} WHERE path IN (SELECT value FROM json_each(?))"
                for path, *stamp, width, height, digest, problem in self._connection.execute(
                    query, [json.dumps([str(path) for path in paths])]
                ):
                    rows[path] = (stamp[0], stamp[1]), Inspection(width, height, digest, problem)
        looks: list[Inspection | None] = []
        for path, stamp in zip(paths, stamps, strict=True):
            known = rows.get(str(path))
            if isinstance(stamp, str):
                looks.append(Inspection(0, 0, "", stamp))
            elif known is None or known[0] != stamp:
                looks.append(None)
            else:
                look = known[1]
                looks.append(look if look.width * look.height <= max_pixels else Inspection(0, 0, look.digest, BOMB))
        return looks

    def add(self, rows: Sequence[tuple[Path, Stamp | str, Inspection]]) -> None:
        """Remember good files; a bad one may be good tomorrow, for a larger `max_pixels` or a newer decoder."""
        values = [
            (str(path), *stamp, *look)
            for path, stamp, look in rows
            if not isinstance(stamp, str) and look.digest and look.problem is None
        ]
        with self._forgiving():
            if self._connection is not None and values:
                with self._connection:
                    self._connection.executemany(
                        f"INSERT OR REPLACE INTO {self._kind} VALUES (?, ?, ?, ?, ?, ?, ?)", values
                    )

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                with suppress(OSError):
                    self._path.unlink()
