"""Runs that are stopped, or that meet another run: one line, exit code 1, nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STAGE = """
import os, sys, time
from pathlib import Path
from wsol_core.core.errors import run_stage
from wsol_core.core.files import atomic_path
from wsol_core.core.parallel import in_processes

def work(number):
    if number:
        Path(f"ready-{number}").touch()
        time.sleep(60)

def main(name):
    with atomic_path(Path("out")) as temporary:
        temporary.write_text("half")
        if os.environ["WSOL_WORKERS"] == "1":
            Path("ready-1").touch()
            time.sleep(60)
        for _ in in_processes(work, [(1,), (2,)]):
            pass

if __name__ == "__main__":
    run_stage(main)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(STAGE)
    return tmp_path


def start(folder: Path, workers: int = 1) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{Path.cwd()}", "WSOL_WORKERS": str(workers)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.Popen(
        [sys.executable, "-m", "slow", "name"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait_until(ready: Path, process: "subprocess.Popen[str]") -> None:
    while not ready.exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_one_line_and_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    process = start(folder)
    wait_until(folder / "ready-1", process)
    process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    assert (process.returncode, said) == (1, f"error: stopped by {number.name}; nothing half-written is left\n")
    assert sorted(path.name for path in folder.iterdir()) == ["ready-1", "slow.py"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_is_one_line(folder: Path, number: signal.Signals) -> None:
    """As a terminal sends Ctrl+C, and schedulers SIGTERM."""
    process = start(folder, 2)
    for ready in (1, 2):
        wait_until(folder / f"ready-{ready}", process)
    os.killpg(process.pid, number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 1
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["ready-1", "ready-2", "slow.py"]


def test_a_second_run_is_refused_and_one_after_a_kill_is_not(folder: Path) -> None:
    first = start(folder)
    wait_until(folder / "ready-1", first)
    second = start(folder)
    assert second.communicate(timeout=20)[1] == (
        f"error: slow name: runs already, as process {first.pid}; wait for its end, or stop it\n"
    )
    assert second.returncode == 1
    first.kill()
    first.wait()
    (folder / "ready-1").unlink()
    third = start(folder)
    wait_until(folder / "ready-1", third)
    third.terminate()
    third.communicate(timeout=20)
    assert sorted(path.name for path in folder.iterdir()) == ["ready-1", "slow.py"]
