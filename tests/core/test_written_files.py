"""The rule of outputs: only listed, unchanged files are replaced or removed, and no input ever is."""

import json
import os
from pathlib import Path

import pytest

from wsol_core.core.errors import InputError
from wsol_core.core.written_files import LIST, WrittenFiles, output_file, output_folder


def write(folder: Path, overwrite: bool = False, /, **files: str) -> None:
    """Write files, `a__b` for `a/b`."""
    with output_folder(folder, "test", overwrite) as new:
        for name, text in files.items():
            path = new / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def contents(folder: Path) -> dict[str, str]:
    """Texts by path, without the list."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != LIST]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def listed(folder: Path) -> list[str]:
    return [json.loads(line)["file"] for line in (folder / LIST).read_text().splitlines()]


def test_a_folder_is_written_again_and_what_is_no_longer_written_goes(tmp_path: Path) -> None:
    out = tmp_path / "deep/out"
    write(out, a="1", sub__b="2")
    write(out, a="3", other__c="4")
    assert contents(out) == {"a": "3", "other/c": "4"}
    assert not (out / "sub").exists()
    assert listed(out) == ["a", "other/c"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_the_users_files_stay(tmp_path: Path) -> None:
    write(tmp_path, a="1", sub__b="2", sub__c="3")
    (tmp_path / "sub/mine").write_text("mine")
    (tmp_path / "sub/c").write_text("edited")
    write(tmp_path, a="4")
    assert contents(tmp_path) == {"a": "4", "sub/mine": "mine", "sub/c": "edited"}
    with pytest.raises(InputError, match="c: exists and was not written by wsol"):
        write(tmp_path, sub__c="5")


@pytest.mark.parametrize("text", ["edited", ""])
def test_an_edited_file_stops_before_anything_is_written(tmp_path: Path, text: str) -> None:
    write(tmp_path, a="1", b="2", c="3")
    (tmp_path / "b").write_text(text)
    (tmp_path / "mine").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"b: was changed since wsol wrote it; .* --overwrite"):
        write(tmp_path, a="4", b="5")
    assert contents(tmp_path) == before
    write(tmp_path, True, a="4", b="5")
    assert contents(tmp_path) == {"a": "4", "b": "5", "mine": "mine"}


def test_files_beside_one_another_are_outputs_apart(tmp_path: Path) -> None:
    for name in ("a.json", "b.json", "a.json"):
        with output_file(tmp_path / name) as path:
            path.write_text(name)
            path.with_suffix(".csv").write_text(name)
    write(tmp_path, x="1")
    write(tmp_path, y="1")
    with output_file(tmp_path / "a.json") as path:
        path.write_text("alone")
    assert contents(tmp_path) == {"a.json": "alone", "b.json": "b.json", "b.csv": "b.json", "y": "1"}
    with pytest.raises(InputError, match="a folder"), output_file(tmp_path):
        pass
    with pytest.raises(InputError, match="a file"):
        write(tmp_path / "y", a="1")


def test_a_link_is_the_users(tmp_path: Path) -> None:
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    write(out, a="1", sub__b="2")
    theirs.mkdir()
    (theirs / "b").write_text("2")
    (out / "a").unlink()
    (out / "a").symlink_to(theirs / "b")
    with pytest.raises(InputError, match="a: was changed"):
        write(out, a="3")
    write(out, True, a="3")
    assert not (out / "a").is_symlink()
    write(out, a="3", sub__b="2")
    (out / "sub/b").unlink()
    (out / "sub").rmdir()
    (out / "sub").symlink_to(theirs)
    with pytest.raises(InputError, match="sub: is in the way"):
        write(out, True, sub__b="3")
    write(out, a="4")
    (out / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="gone: exists"):
        write(out, gone="1")
    assert contents(theirs) == {"b": "2"}


def test_a_folder_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="a: is in the way"):
        write(tmp_path, True, a="1")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_an_input_is_never_replaced_or_removed(tmp_path: Path) -> None:
    write(tmp_path, a="1", folder__b="2")
    inputs = (tmp_path / "a", tmp_path / "folder")
    for name in ("a", "folder/b"):
        files = WrittenFiles(tmp_path, "another", True, inputs)
        with pytest.raises(InputError, match="is an input"):
            files.check([name])
    with output_folder(tmp_path, "test", True, [tmp_path / "a"]) as new:
        (new / "c").write_text("3")
    assert contents(tmp_path) == {"a": "1", "c": "3"}


def fail(new: Path) -> None:
    (new / "a").write_text("2")
    (new / "b").unlink()


def test_a_failure_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "out", a="1")
    for name in ("out", "new"):
        with pytest.raises(FileNotFoundError), output_folder(tmp_path / name, "test") as new:
            fail(new)
    assert contents(tmp_path) == {"out/a": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("until", range(1, 4))
def test_after_a_kill_all_files_are_whole_and_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: int
) -> None:
    write(tmp_path, a="1", b="1", stale="1")
    moved = 0

    def replace(source: Path, target: Path) -> None:
        nonlocal moved
        moved += 1
        if moved == until:
            raise KeyboardInterrupt
        Path(source).replace(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, a="2", b="2")
    assert {contents(tmp_path)[name] for name in ("a", "b")} <= {"1", "2"}
    with (tmp_path / LIST).open("a") as file:
        file.write('{"file": "cut o')
    write(tmp_path, a="3", b="3")
    assert contents(tmp_path) == {"a": "3", "b": "3"}
    assert listed(tmp_path) == ["a", "b"]


def test_a_list_that_names_files_elsewhere_is_not_believed(tmp_path: Path) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    mine.write_text("1")
    write(out, a="1")
    text = (out / LIST).read_text()
    for name in ("../mine", str(mine), "."):
        with (out / LIST).open("a") as file:
            file.write(text.replace('"a"', json.dumps(name)))
    write(out, b="2")
    assert contents(tmp_path) == {"mine": "1", "out/b": "2"}


def test_odd_names(tmp_path: Path) -> None:
    name = "a \u2028\udcffb\n.txt"
    for text in ("1", "2"):
        with output_file(tmp_path / name) as path:
            path.write_text(text)
    assert (tmp_path / name).read_text() == "2"


def test_what_a_killed_run_left_goes_and_what_only_looks_like_it_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    for name in (".wsol-new.99999999.tmp", "sub/.b.99999999.tmp"):
        (out / name).mkdir()
        (out / name / "half").touch()
    (out / "sub/.mine.1.tmp").touch()
    (tmp_path / ".new.99999999.tmp").mkdir()
    write(out, a="1", sub__b="2")
    write(tmp_path / "new", a="1")
    assert contents(tmp_path) == {"out/a": "1", "out/sub/b": "2", "out/sub/.mine.1.tmp": "", "new/a": "1"}
    assert not list(tmp_path.rglob(".*99999999*"))
