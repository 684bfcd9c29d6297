"""Stages forked from a warm process behave as stages in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsol_core.core.warm_process import warm_process

ROOT = Path(__file__).parents[2]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
COMMAND = "${WSOL_LAUNCH:-python} -m stages.tiny"
STAGE = """\
import os, sys, time
from pathlib import Path
import torch
from stages import own

def main(what):
    if what == "leave":
        sys.exit(7)
    if what == "fail":
        raise ValueError("no luck")
    if what == "interrupted":
        try:
            Path("pid").write_text(str(os.getpid()))
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit("interrupted")
    if what == "wait":
        Path("pid").write_text(str(os.getpid()))
        time.sleep(60)
    torch.manual_seed(3)
    numbers = torch.nn.functional.conv2d(torch.rand(4, 8, 32, 32), torch.rand(8, 8, 3, 3)) @ torch.rand(30, 30)
    Path(what).write_bytes(numbers.numpy().tobytes())
    print(own.__file__, __file__, os.getcwd(), os.environ.get("COLOUR"), sys.argv[1:], own.NAME)
    print("on standard error", file=sys.stderr)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture(scope="module")
def warm() -> Iterator[dict[str, str]]:
    if sys.platform != "linux":
        pytest.skip("stages are forked on Linux alone")
    with warm_process() as environment:
        yield environment


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a blank in its name, with a stage."""
    folder = tmp_path / "a b"
    (folder / "stages").mkdir(parents=True)
    for name, text in {"__init__": "", "tiny": STAGE, "own": "NAME = 'tiny'\n"}.items():
        (folder / f"stages/{name}.py").write_text(text)
    return folder


def run(project: Path, what: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        f"{COMMAND} {what}", shell=True, cwd=project, env={**os.environ, "PATH": PATH, "COLOUR": "red", **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def appears(path: Path) -> str:
    for _ in range(600):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"no {path}")


def disappears(path: Path) -> None:
    for _ in range(600):
        if not path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} is still there")


def ends(pid: int) -> bool:
    for _ in range(600):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_forked_stage_is_as_one_of_its_own(project: Path, warm: dict[str, str]) -> None:
    forked, fresh = run(project, "forked", warm), run(project, "forked", {})
    assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)
    assert forked.stdout == (
        f"{project}/stages/own.py {project}/stages/tiny.py {project} red ['forked'] tiny\n"
    )  # fmt: skip
    assert forked.stderr == "on standard error\n"
    run(project, "again", warm)
    assert (project / "again").read_bytes() == (project / "forked").read_bytes()


def test_exit_codes_are_the_stages(project: Path, warm: dict[str, str]) -> None:
    assert run(project, "leave", warm).returncode == 7
    failed = run(project, "fail", warm)
    assert failed.returncode == 1
    assert failed.stderr.endswith("ValueError: no luck\n")


def test_a_forked_stage_sees_the_code_of_its_folder(project: Path, warm: dict[str, str]) -> None:
    assert run(project, "a", warm).stdout.endswith("tiny\n")
    (project / "stages/own.py").write_text("NAME = 'another'\n")
    assert run(project, "a", warm).stdout.endswith("another\n")


def test_a_stage_ends_with_its_client(project: Path, warm: dict[str, str]) -> None:
    python = warm["PATH"].split(os.pathsep)[0] + "/python"
    client = subprocess.Popen([python, "-m", "stages.tiny", "wait"], cwd=project, env={**os.environ, **warm})
    stage = int(appears(project / "pid"))
    client.kill()
    client.wait()
    assert ends(stage)
    assert run(project, "leave", warm).returncode == 7


def test_a_stage_gets_the_signals_of_its_client(project: Path, warm: dict[str, str]) -> None:
    words = [warm["PATH"].split(os.pathsep)[0] + "/python", "-m", "stages.tiny", "interrupted"]
    client = subprocess.Popen(words, cwd=project, env={**os.environ, **warm}, stderr=subprocess.PIPE, text=True)
    appears(project / "pid")
    client.send_signal(signal.SIGINT)
    assert client.communicate()[1] == "interrupted\n"
    assert client.returncode == 1


def test_stages_and_folder_end_with_the_process(project: Path) -> None:
    program = "import time; from wsol_core.core.warm_process import warm_process\n"
    program += "with warm_process() as found:\n print(found['PATH'], flush=True)\n time.sleep(60)\n"
    owner = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert owner.stdout is not None
    warm = {"PATH": owner.stdout.readline().strip()}
    client = subprocess.Popen(f"exec {COMMAND} wait", shell=True, cwd=project, env={**os.environ, **warm})
    stage = int(appears(project / "pid"))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert ends(stage)
    assert client.wait() == 137
    gone = Path(warm["PATH"].split(os.pathsep)[0])
    disappears(gone)
    assert run(project, "leave", warm).returncode == 7  # by the next python of the PATH


def test_another_command_is_the_real_pythons(project: Path, warm: dict[str, str]) -> None:
    done = subprocess.run(
        "python -c 'import sys; print(sys.executable)'",
        shell=True, env={**os.environ, **warm}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{sys.executable}\n"
    assert run(project, "leave", {**warm, "WSOL_LAUNCH": "false"}).returncode == 1
