from pathlib import Path

import pytest

from wsol_core.core.errors import InputError
from wsol_core.data.roots import find_root, registry, remember_root


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("CUB", "MY_BIRDS_2"):
        monkeypatch.delenv(f"WSOL_ROOT_{name}", raising=False)
    return tmp_path


def folder(home: Path, name: str) -> Path:
    (home / name).mkdir()
    return home / name


def test_remembered_roots_are_found_and_replaced(home: Path) -> None:
    first, second = folder(home, "first"), folder(home, "second")
    remember_root("cub", first)
    remember_root("voc", second)
    assert (find_root("cub"), find_root("voc")) == (first.resolve(), second.resolve())
    remember_root("cub", second)
    assert find_root("cub") == second.resolve()
    assert [path.name for path in registry().parent.iterdir()] == ["roots.yaml"]


def test_relative_root_is_remembered_as_absolute(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(home, "first")
    monkeypatch.chdir(home)
    remember_root("cub", Path("first"))
    monkeypatch.chdir("/")
    assert find_root("cub") == (home / "first").resolve()


def test_environment_comes_before_the_registry(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember_root("my-birds.2", folder(home, "first"))
    monkeypatch.setenv("WSOL_ROOT_MY_BIRDS_2", str(folder(home, "second")))
    assert find_root("my-birds.2") == (home / "second").resolve()


def test_registry_falls_back_to_the_home_folder(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(home))
    assert registry() == home / ".config" / "wsol" / "roots.yaml"


def test_unknown_root_says_how_to_give_it() -> None:
    with pytest.raises(InputError, match=r"'cub'.*--root PATH.*WSOL_ROOT_CUB"):
        find_root("cub")


def test_vanished_root_is_named(home: Path) -> None:
    place = folder(home, "gone")
    remember_root("cub", place)
    place.rmdir()
    with pytest.raises(InputError, match=r"gone.*not a folder"):
        find_root("cub")


def test_file_is_no_root(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(InputError, match="not a folder"):
        remember_root("cub", home / "file")


@pytest.mark.parametrize("content", [b"a: [", b"- a", b"word", b"\xff\xfe\xff"])
def test_damaged_registry_is_one_error(content: bytes) -> None:
    registry().parent.mkdir(parents=True)
    registry().write_bytes(content)
    with pytest.raises(InputError, match="mend or delete it"):
        find_root("cub")
