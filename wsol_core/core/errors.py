"""Errors that a user can act on, and the one place that turns them and signals into a line and an exit code."""

import difflib
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

from wsol_core.core.locks import only_run

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What stops a run in good order: Ctrl+C, `kill` and schedulers, a terminal that is closed."""


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
    """Run a stage's `main` with the command line's words as its arguments, one run of a stage at a time.

    Errors become a line as in `one_line_errors`, and signals as in `stop_in_one_line`. Under `torchrun` the first
    process stands for all.
    """
    stop_in_one_line()
    arguments = sys.argv[1:]
    name = " ".join([_started() or main.__module__, *arguments])
    with one_line_errors():
        try:
            inspect.signature(main).bind(*arguments)
        except TypeError as error:
            raise InputError(f"{main.__module__}: {error}") from error
        first = os.environ.get("RANK", "0") == "0"
        with only_run(Path(f".{name.replace('/', '-')}.lock"), name) if first else nullcontext():
            main(*arguments)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input, a full disk or a missing permission becomes one line and exit code 1.

    Anything else is a bug and keeps its traceback.
    """
    try:
        yield
    except (InputError, OSError) as error:
        fail(error)


def stop_in_one_line() -> Callable[[], None]:
    """Let a signal that stops the run become one line and exit code 1; what is half-written goes.

    Signals that are ignored, as under `nohup`, stay so.

    Returns:
        What undoes it.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    caught = [number for number, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    for number in caught:
        signal.signal(number, _stop)

    def undo() -> None:
        for number in caught:
            signal.signal(number, before[number])

    return undo


def _stop(number: int, _: object) -> NoReturn:
    os.write(2, f"error: stopped by {signal.Signals(number).name}; nothing half-written is left\n".encode())
    raise SystemExit(1)


def _started() -> str:
    """The module that `python -m` runs, if it does."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return str(spec.name) if spec else ""


if _started().startswith("stages."):  # what a stage imports after this module takes seconds, in which it may be stopped
    stop_in_one_line()
