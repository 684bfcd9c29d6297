"""Every command of docs/sharing.md, in its order, in a small project with a folder as remote."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/sharing.md").read_text(encoding="utf-8")
PIPELINE = """\
stages:
  copy:
    cmd: "cat source.txt params.yaml > out.txt"
    deps: [source.txt]
    params: [seed]
    outs: [out.txt]
"""
Shell = Callable[[str], subprocess.CompletedProcess[str]]


def commands(section: str) -> list[str]:
    """The lines of the code blocks of a section."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    lines = [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert lines, f"docs/sharing.md has no commands under {section!r}"
    return lines


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs a line in a committed project of one stage, with `/mnt/team` at a place of the test; it must succeed."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "somebody@example.org")

    def run(line: str) -> subprocess.CompletedProcess[str]:
        line = line.replace("/mnt/team", str(tmp_path))
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done

    Path("dvc.yaml").write_text(PIPELINE)
    Path("params.yaml").write_text("seed: 0\n")
    Path("source.txt").write_text("source\n")
    for line in (
        "git init -q -b main . && git init -q --bare ../origin.git && git remote add origin ../origin.git",
        "dvc init -q && dvc config core.analytics false && dvc repro -q",
        "git add . && git commit -qm Project && git push -q origin main",
    ):
        run(line)
    return run


def forget() -> None:
    """Another machine: the commit without cache and artifacts."""
    shutil.rmtree(".dvc/cache", ignore_errors=True)
    Path("out.txt").unlink(missing_ok=True)


@pytest.mark.slow
def test_page_does_what_it_says(shell: Shell, tmp_path: Path) -> None:
    first, rest = commands("Push and pull")[:3], commands("Push and pull")[3:]
    for line in first:
        shell(line)
    for line in rest:
        if "pull" in line:
            forget()
        shell(line)
    assert Path("out.txt").read_text() == "source\nseed: 0\n"
    assert any((tmp_path / "wsol").rglob("files/md5/*/*"))

    for line in commands("Experiments"):
        shell(line)
    assert Path("out.txt").read_text() == "source\nseed: 1\n"

    shell("git checkout -q . && dvc checkout -q")
    for line in commands("One cache for several people or checkouts"):
        shell(line)
    assert any((tmp_path / "cache").rglob("files/md5/*/*"))
    assert Path("out.txt").read_text() == "source\nseed: 0\n"

    for line in commands("Clean up"):
        shell(line)
    shell("dvc exp apply wide")
    assert Path("out.txt").read_text() == "source\nseed: 1\n"
    shell("git checkout -q . && dvc checkout -q")

    for line in commands("Continuous integration"):
        shell(line)
    Path("source.txt").write_text("another\n")
    with pytest.raises(AssertionError, match="dvc status --quiet"):
        shell("dvc status --quiet")


def test_clean_up_without_naming_experiments_loses_their_artifacts(shell: Shell) -> None:
    shell("dvc exp run -q --name wide --set-param seed=1 && git checkout -q . && dvc checkout -q")
    shell("dvc gc --workspace --force")
    with pytest.raises(AssertionError, match=r"out\.txt"):
        shell("dvc exp apply wide")
