"""Which classes of the detection set the foreground model never saw, by their names (WSFL 4.2: person and plant)."""

import re
from collections.abc import Sequence

WORDS = re.compile(r"[a-z]+")


def known_as(name: str, others: Sequence[str]) -> str | None:
    """The first of `others` that means the same class, as far as words say: all of one's words are among the other's.

    Case, numbers, signs and a plural's `s` make no difference: `potted-plant` is `Plants`, `bird` is `002.Sea_bird`.
    """
    own = _words(name)
    return next(
        (other for other in others if own and (words := _words(other)) and (own <= words or words <= own)), None
    )


def _words(name: str) -> set[str]:
    return {word.removesuffix("s") for word in WORDS.findall(name.lower())}


def proposed(detection: Sequence[str], localization: Sequence[str]) -> dict[str, str | None]:
    """For each class of the detection set the localization class of its name; None for one to exempt."""
    return {name: known_as(name, localization) for name in detection}
