"""Work spread over threads or processes: the only parallel maps, and the only place that reads `WSOL_WORKERS`.

Not on joblib: its generators (1.6) do not wait for whoever takes the results, so all of them would pile up in memory.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice, starmap
from typing import TypeVar, TypeVarTuple

import cv2

from wsol_core.core.errors import SIGNALS, InputError

A = TypeVarTuple("A")
R = TypeVar("R")

AHEAD = 4
"""Pieces of work held at a time, per thread or process."""
MOST_WORKERS = 1024


def worker_count() -> int:
    """Threads, or processes, that work at once: `WSOL_WORKERS`, by default one per core.

    Raises:
        InputError: `WSOL_WORKERS` is not a whole number from 1 to 1024.
    """
    value = os.environ.get("WSOL_WORKERS") or str(os.cpu_count() or 1)
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else 0
    if not 1 <= number <= MOST_WORKERS:
        raise InputError(f"WSOL_WORKERS={value}: not a positive whole number up to {MOST_WORKERS}")
    return number


def in_threads(work: Callable[[*A], R], arguments: Iterable[tuple[*A]], ahead: int = 0) -> Iterator[R]:
    """`work(*each)` of all arguments in order, in threads: for libraries that let go of the interpreter.

    Arguments are taken as results are, so that memory is bounded.

    Args:
        work: is called from several threads.
        arguments: of each call.
        ahead: calls that wait, run or whose result waits, at the most; 0 for a few per thread.

    Example:
        >>> list(in_threads(pow, [(2, 3), (3, 2)]))
        [8, 9]
    """
    workers = worker_count()
    with ThreadPoolExecutor(workers) as pool:
        yield from _in_order(pool, work, arguments, ahead or AHEAD * workers)


def in_processes(work: Callable[[*A], R], arguments: Iterable[tuple[*A]]) -> Iterator[R]:
    """As `in_threads`, in processes, which end with this one, even a killed one; a single worker is this process.

    Signals that stop a run are this process's alone: where it stops, so do they, in the middle of their work.

    Raises:
        InputError: a process was killed from outside.
    """
    workers = worker_count()
    if workers == 1:
        yield from starmap(work, arguments)
        return
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _set_up_process) as pool:
            try:
                yield from _in_order(pool, work, arguments, AHEAD * workers)
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
    except BrokenProcessPool as error:
        raise InputError("a working process was killed (out of memory?); set WSOL_WORKERS lower") from error


def _in_order(pool: Executor, work: Callable[[*A], R], arguments: Iterable[tuple[*A]], ahead: int) -> Iterator[R]:
    remaining = iter(arguments)
    waiting: deque[Future[R]] = deque(_submit(pool, work, each) for each in islice(remaining, ahead))
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(_submit(pool, work, each) for each in islice(remaining, 1))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submit(pool: Executor, work: Callable[[*A], R], arguments: tuple[*A]) -> Future[R]:
    """Let a process that is started for this see no signal before `_set_up_process`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return pool.submit(work, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _set_up_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C goes to all processes of a terminal
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    cv2.setNumThreads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
