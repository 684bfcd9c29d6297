"""The images that a prediction is asked for: files, and everything below folders, each with a name for its outputs."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wsol_core.core.errors import InputError
from wsol_core.data.images import SUFFIXES
from wsol_core.data.paths import walk


class Source(NamedTuple):
    """An image file, and the name of what is written of it: its path below the folder given, without the suffix."""

    name: str
    path: Path


def find_images(places: Sequence[Path], out: Path) -> list[Source]:
    """The images at some places, sorted by name; hidden files, linked folders and what lies in `out` are left out.

    A file is taken whatever its suffix, of a folder the files with an image's suffix.

    Raises:
        InputError: a place is missing, there is no image, or two images have one name.
    """
    found: dict[str, Path] = {}
    for place in places:
        for source in _of(place, out):
            other = found.setdefault(source.name, source.path)
            if other != source.path:
                raise InputError(
                    f"{other} and {source.path} have one name, {source.name!r}, for their outputs; rename one of them, "
                    "or predict them into folders apart"
                )
    if not found:
        raise InputError(f"{', '.join(map(str, places))}: no image in it ({', '.join(sorted(SUFFIXES))})")
    return [Source(name, found[name]) for name in sorted(found)]


def _of(place: Path, out: Path) -> list[Source]:
    if place.is_file():
        return [Source(place.stem, place)]
    if not place.is_dir():
        raise InputError(f"{place}: no such file or folder")
    paths = (PurePosixPath(path) for path in walk(place))
    images = [path for path in paths if path.suffix.lower() in SUFFIXES]
    hidden = out.resolve()
    return [
        Source(path.with_suffix("").as_posix(), place / path)
        for path in images
        if not (place / path).resolve().is_relative_to(hidden)
    ]
