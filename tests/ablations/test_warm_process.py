"""Stages forked from a warm process behave as stages in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsol_core.ablations.warm_process import ADDRESS, CLIENT, warm_process

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
    """A folder with a blank in its name, with a stage and the client."""
    folder = tmp_path / "a b"
    client = "wsol_core/ablations/warm_process.py"
    files = {
        "stages/__init__.py": "", "stages/tiny.py": STAGE, "stages/own.py": "NAME = 'tiny'\n",
        "wsol_core/__init__.py": "", "wsol_core/ablations/__init__.py": "", client: (ROOT / client).read_text(),
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
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
    words = [*CLIENT.split(), "-m", "stages.tiny", "wait"]
    client = subprocess.Popen(words, cwd=project, env={**os.environ, "PATH": PATH, **warm})
    stage = int(appears(project / "pid"))
    client.kill()
    client.wait()
    assert ends(stage)
    assert run(project, "leave", warm).returncode == 7


def test_stages_end_with_the_process_and_clients_say_so(project: Path) -> None:
    program = "import time; from wsol_core.ablations.warm_process import warm_process\n"
    program += "with warm_process() as found:\n print(found['WSOL_WARM_PROCESS'], flush=True)\n time.sleep(60)\n"
    owner = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert owner.stdout is not None
    warm = {"WSOL_LAUNCH": CLIENT, ADDRESS: owner.stdout.readline().strip()}
    client = subprocess.Popen(f"{COMMAND} wait", shell=True, cwd=project, env={**os.environ, "PATH": PATH, **warm})
    stage = int(appears(project / "pid"))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert ends(stage)
    assert client.wait() == 137
    done = run(project, "leave", warm)
    assert not Path(warm[ADDRESS]).parent.exists()
    assert done.returncode == 1
    assert done.stderr == "error: the process that stages are forked from has ended (out of memory?); run it again\n"


def test_a_launcher_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_LAUNCH", "torchrun")
    with warm_process() as environment:
        assert environment == {}
