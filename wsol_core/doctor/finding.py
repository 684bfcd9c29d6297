"""What the doctor says: one line on one thing, and how bad it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from wsol_core.core.errors import InputError
from wsol_core.core.params import PARAMS

Level = Literal["error", "warning", "note"]
R = TypeVar("R")


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        level: error: the pipeline will stop; warning: it runs, but perhaps not as meant; note: how things are.
        about: machine, dvc, params, weights, data or results.
        text: what is wrong and what to do.
    """

    level: Level
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.about}: {' '.join(self.text.split())}"


def tried(about: str, work: Callable[[], R]) -> tuple[R | None, list[Finding]]:
    """What `work` returns; None and an error where its input is bad."""
    try:
        return work(), []
    except (InputError, OSError) as error:
        return None, [Finding("error", about, str(error).removeprefix(f"{PARAMS}: "))]
