"""The images that a prediction is asked for: files, and everything below folders, each with a name for its outputs."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wsol_core.core.errors import InputError
from wsol_core.data.images import is_image_file
from wsol_core.data.paths import passed_over, walk


class Source(NamedTuple):
    """An image file, and the name of what is written of it: its path below the folder given, without the suffix."""

    name: str
    path: Path


class Found(NamedTuple):
    """The images at some places, sorted by name, and what is passed over there: its place and the reason."""

    sources: list[Source]
    passed_over: list[tuple[Path, str]]


def find_images(places: Sequence[Path], out: Path, follow_links: bool = False) -> Found:
    """The images at some places; hidden files and what lies in `out` are left out.

    A file is taken whatever it is, of a folder the files, linked ones too, that are images by name or first bytes.
    Links to nothing and what is no file are passed over, and linked folders unless `follow_links` says otherwise.

    Raises:
        InputError: a place is missing, there is no image, or two images have one name.
    """
    found: dict[str, Path] = {}
    over: list[tuple[Path, str]] = []
    for place in places:
        sources, problems = _of(place, out, follow_links)
        over += problems
        for source in sources:
            other = found.setdefault(source.name, source.path)
            if other != source.path:
                raise InputError(
                    f"{other} and {source.path} have one name, {source.name!r}, for their outputs; rename one of them, "
                    "or predict them into folders apart"
                )
    if not found:
        also = f"; passed over: {', '.join(f'{path} ({reason})' for path, reason in over[:5])}" if over else ""
        raise InputError(f"{', '.join(map(str, places))}: no image in it{also}")
    return Found([Source(name, found[name]) for name in sorted(found)], over)


def _of(place: Path, out: Path, follow_links: bool) -> Found:
    if place.is_file():
        return Found([Source(place.stem, place)], [])
    if not place.is_dir():
        raise InputError(f"{place}: no such file or folder")
    hidden = out.resolve()
    files = sorted(walk(place, follow_links=follow_links))
    paths = [path for path in files if not (place / path).resolve().is_relative_to(hidden)]
    images = [path for path in paths if is_image_file(place / path)]
    sources = [Source(PurePosixPath(path).with_suffix("").as_posix(), place / path) for path in images]
    over = passed_over(place, follow_links=follow_links)
    return Found(sources, [(place / path, str(problem)) for path, problem in over])
