"""Scratch folders: what a killed run left goes by age and by command; what is the user's, or in use, stays."""

import errno
import fcntl
import os
import shutil
import time
from pathlib import Path

import pytest

from wsol_core.core.errors import InputError
from wsol_core.core.scratch import MARKER, NAME, clean, scratch_folder

DIGEST = "0123456789abcdef" * 2


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WSOL_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def leave(scratch: Path, name: str, days: float) -> Path:
    folder = scratch / name
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    (folder / "part").touch()
    age(folder, days)
    return folder


def age(folder: Path, days: float) -> None:
    then = time.time() - days * 86400
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def test_scratch_goes_by_age_and_by_command_but_nothing_else_does(scratch: Path) -> None:
    old, new = leave(scratch, f"train-a-{DIGEST}", 31), leave(scratch, f"train-b-{DIGEST}", 29)
    mine = leave(scratch, "mine", 99)
    with scratch_folder("s", {}, []) as own:
        assert NAME.fullmatch(own.name)
        assert not old.exists()
        assert clean() == [new]
        assert own.exists()
    assert clean() == []
    assert list(scratch.iterdir()) == [mine]


def test_two_runs_never_share_a_scratch_folder(scratch: Path) -> None:
    with scratch_folder("s", {}, []), pytest.raises(InputError, match="another run of s"), scratch_folder("s", {}, []):
        pass
    assert not list(scratch.iterdir())


@pytest.mark.usefixtures("scratch")
def test_a_file_in_place_of_a_scratch_folder_is_discarded(capsys: pytest.CaptureFixture[str]) -> None:
    with scratch_folder("s", {}, []) as folder:
        pass
    folder.write_text("")
    with scratch_folder("s", {}, []) as again:
        assert again.is_dir()
    assert capsys.readouterr().err == f"warning: {folder}: not a folder; it is computed again\n"


def test_a_folder_of_the_user_stays_whatever_its_name(scratch: Path) -> None:
    weights = scratch / f"resnet50-{DIGEST}" / "weights.pth"
    weights.parent.mkdir(parents=True)
    weights.write_text("the user's")
    age(weights.parent, 99)
    with scratch_folder("s", {}, []):
        pass
    assert clean() == []
    assert weights.read_text() == "the user's"


def killed(stage: str) -> Path:
    """The scratch folder of a run that did not end well."""
    with pytest.raises(KeyboardInterrupt), scratch_folder(stage, {}, []) as folder:
        raise KeyboardInterrupt
    return folder


@pytest.mark.usefixtures("scratch")
def test_a_stopped_run_finds_its_folder_again_until_it_is_cleaned() -> None:
    left = killed("s")
    (left / "part").write_text("half")
    assert killed("s") == left
    assert (left / "part").read_text() == "half"
    assert clean() == [left]
    assert not left.exists()


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK])
def test_without_locks_runs_go_on_and_nothing_is_cleaned(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = killed("s")
    assert clean() == []
    assert left.exists()
    with scratch_folder("t", {}, []) as folder:
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.usefixtures("scratch")
def test_nfs_locks_what_is_open_for_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def as_nfs(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", as_nfs)
    left = killed("s")
    with scratch_folder("t", {}, []) as own:
        assert clean() == [left]
        assert own.exists()


@pytest.mark.usefixtures("scratch")
def test_a_folder_of_another_user_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = sorted([killed("s"), killed("t")])
    os_open = os.open

    def refuse(path: str | Path, *rest: int, **more: int) -> int:
        if theirs in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return os_open(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    assert clean() == [ours]
    assert theirs.exists()


@pytest.mark.usefixtures("scratch")
def test_a_folder_that_cannot_be_removed_is_not_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    left = killed("s")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    assert clean() == []
    assert left.exists()


@pytest.mark.usefixtures("scratch")
def test_a_folder_that_is_cleaned_before_it_is_locked_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    touch, touched = Path.touch, list[Path]()

    def meet_clean(path: Path) -> None:
        touch(path)
        touched.append(path)
        if len(touched) == 1:
            shutil.rmtree(path.parent)

    monkeypatch.setattr(Path, "touch", meet_clean)
    with scratch_folder("s", {}, []) as folder:
        assert folder.is_dir()
    assert len(touched) == 2
