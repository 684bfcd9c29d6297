"""Work spread over processes, for libraries that never let go of the interpreter."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar, TypeVarTuple

import cv2

A = TypeVarTuple("A")
R = TypeVar("R")

AHEAD = 4
"""Pieces of work held at a time, per process."""


def in_processes(work: Callable[[*A], R], arguments: Iterable[tuple[*A]]) -> Iterator[R]:
    """`work(*each)` of all arguments in order, in `WSOL_WORKERS` processes (default: one per core).

    Arguments are taken as results are, so that memory is bounded. The processes end with this one, even a killed one.
    """
    workers = int(os.environ.get("WSOL_WORKERS") or os.cpu_count() or 1)
    remaining = iter(arguments)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), set_up_worker) as pool:
        waiting: deque[Future[R]] = deque(pool.submit(work, *each) for each in islice(remaining, AHEAD * workers))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, *each) for each in islice(remaining, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def set_up_worker() -> None:
    """Make a process use one thread in OpenCV, and end with its parent, even a killed one."""
    cv2.setNumThreads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
