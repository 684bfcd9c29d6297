"""Errors that a user can act on, and the one place that turns them into a line and an exit code."""

import difflib
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class InputError(Exception):
    """Bad input: the message is one line that names the file or key, what is wrong and what to do."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A question that names the likeliest of `known`, or nothing where none is near."""
    close = difflib.get_close_matches(str(word), [str(each) for each in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def fail(message: object) -> NoReturn:
    """Print one `error:` line and leave with exit code 1."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(1)


def run_stage(main: Callable[..., None]) -> None:
    """Run a stage's `main` with the command line's words as its arguments.

    `InputError` and `OSError` (a full disk, a file without permission) become one line and exit code 1;
    anything else is a bug and keeps its traceback.
    """
    arguments = sys.argv[1:]
    try:
        inspect.signature(main).bind(*arguments)
    except TypeError as error:
        fail(f"{main.__module__}: {error}")
    try:
        main(*arguments)
    except (InputError, OSError) as error:
        fail(error)
