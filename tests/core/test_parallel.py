import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wsol_core.core.errors import InputError
from wsol_core.core.parallel import in_processes, in_threads, worker_count

Spread = Callable[..., Iterator[Any]]
SPREADS = pytest.mark.parametrize(
    ("spread", "workers"), [(in_threads, "1"), (in_threads, "3"), (in_processes, "1"), (in_processes, "2")]
)


def slow_first(position: int, seconds: float = 0.2) -> int:
    time.sleep(seconds if position == 0 else 0)
    return position


def failing(position: int) -> int:
    if position == 3:
        raise InputError("three")
    return position


def die(_: int) -> None:
    os._exit(3)


@SPREADS
def test_results_come_in_order(spread: Spread, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_WORKERS", workers)
    assert list(spread(slow_first, zip(range(20), strict=True))) == list(range(20))
    assert list(spread(slow_first, [])) == []
    assert list(spread(pow, [(2, 3), (3, 2)])) == [8, 9]


@SPREADS
def test_arguments_are_taken_as_results_are(spread: Spread, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_WORKERS", workers)
    taken: list[int] = []

    def arguments() -> Iterable[tuple[int, float]]:
        for position in range(100):
            taken.append(position)
            yield position, 0

    results = spread(slow_first, arguments())
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.1)
    assert len(taken) <= 3 + 4 * int(workers)
    results.close()  # type: ignore[attr-defined]


@SPREADS
def test_an_error_comes_in_its_turn_and_ends_the_work(
    spread: Spread, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSOL_WORKERS", workers)
    results = spread(failing, zip(range(1000), strict=True))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="three"):
        next(results)


def test_threads_hold_no_more_than_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_WORKERS", "2")
    taken: list[int] = []
    results = in_threads(slow_first, ((taken.append(n) or n, 0.0) for n in range(50)), ahead=7)  # type: ignore[func-returns-value]
    next(results)
    assert len(taken) == 7


def test_threads_are_as_many_as_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_WORKERS", "3")

    def name(_: int) -> str:
        time.sleep(0.01)
        return threading.current_thread().name

    assert len(set(in_threads(name, zip(range(30), strict=True)))) == 3


def test_a_killed_process_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_WORKERS", "2")
    with pytest.raises(InputError, match=r"was killed .* set WSOL_WORKERS lower"):
        list(in_processes(die, [(0,)]))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "from pathlib import Path\nfrom tests.core.test_parallel import report_and_wait\n"
        "from wsol_core.core.parallel import in_processes\n"
        "if __name__ == '__main__':\n"
        f"    list(in_processes(report_and_wait, [({str(tmp_path)!r},)] * 4))\n"
    )
    environment = {**os.environ, "WSOL_WORKERS": "2", "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    while not (found := list(tmp_path.glob("*.pid"))):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 20
    while any(Path("/proc", path.stem).is_dir() for path in found) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [path.stem for path in found if Path("/proc", path.stem).is_dir()]


def report_and_wait(folder: str) -> None:
    Path(folder, f"{os.getpid()}.pid").touch()
    time.sleep(60)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_worker_count(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WSOL_WORKERS", value)
    with pytest.raises(InputError, match="WSOL_WORKERS"):
        worker_count()
    monkeypatch.setenv("WSOL_WORKERS", "3")
    assert worker_count() == 3
    monkeypatch.delenv("WSOL_WORKERS")
    assert worker_count() >= 1


@pytest.mark.parametrize("workers", ["0", "-1", "1.5", "many", "1025", "9" * 5000, "\u0663"])
def test_workers_are_a_sane_number(workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_WORKERS", workers)
    with pytest.raises(InputError, match=r"WSOL_WORKERS=.*: not a positive whole number up to 1024"):
        worker_count()
