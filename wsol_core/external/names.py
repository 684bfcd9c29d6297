"""Which image a name in somebody's file means."""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from wsol_core.core.errors import InputError
from wsol_core.data.images import SUFFIXES

SHOWN = 3
"""Known names in a message about an unknown one."""


def without_suffix(name: str) -> str:
    """`name` without the suffix of an image file, if it has one: `a/b.jpg` is `a/b`, `a/b.1` stays."""
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in SUFFIXES else name


class ImageNames:
    """Finds the image that a name means.

    In this order: the image's id; its id with an image file's suffix; its number (COCO's `image_id`); the last part of
    its id, where no other image has the same.

    Args:
        image_ids: all ids.
        numbers: ids by number, where the ground truth has numbers.
    """

    def __init__(self, image_ids: Iterable[str], numbers: Mapping[int | str, str] | None = None) -> None:
        self._ids = set(image_ids)
        self._numbers = dict(numbers or {})
        self._by_stem: dict[str, str | None] = {}
        for image_id in self._ids:
            stem = PurePosixPath(image_id).name
            self._by_stem[stem] = None if stem in self._by_stem else image_id

    def find(self, name: object) -> str | None:
        """The image's id, or None where no image or more than one could be meant."""
        text = str(name)
        for candidate in (text, without_suffix(text)):
            if candidate in self._ids:
                return candidate
        number = int(text) if text.isdecimal() else text
        if number in self._numbers:
            return self._numbers[number]
        return self._by_stem.get(PurePosixPath(without_suffix(text)).name)

    def find_all(self, names: Iterable[object], place: object) -> list[str]:
        """The ids of `names`, which must all be known.

        Raises:
            InputError: a name means no image, or several; it is named.
        """
        names = list(names)
        found = {name: self.find(name) for name in set(names)}
        unknown = sorted(str(name) for name, image_id in found.items() if image_id is None)
        if unknown:
            known = self._numbers if unknown[0].isdecimal() and self._numbers else sorted(self._ids)
            raise InputError(
                f"{place}: no ground truth for image {unknown[0]!r} ({len(unknown)} such); names must be those of the "
                f"ground truth's images: {', '.join(repr(each) for each in list(known)[:SHOWN])}"
                f"{', ...' if len(known) > SHOWN else ''}"
            )
        return [str(found[name]) for name in names]
