import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path, read_table, temporary_folder, write_csv, write_json, write_table
from wsol_core.core.locks import Lock, lock

TABLE = pd.DataFrame({"image_id": ["a", "b"], "score": np.array([0.5, 1], np.float32), "labels": [[1, 2], []]})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["x"]


def fill_and_fail(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "x").write_text("half")
        raise error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(type(error)):
        fill_and_fail(path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert names(tmp_path) == []


def test_folder_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert names(path) == ["second"]
    assert names(tmp_path) == ["folder"]


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "cached").write_text("old")
    (tmp_path / "x").hardlink_to(tmp_path / "cached")
    write_json(tmp_path / "x", {})
    assert (tmp_path / "cached").read_text() == "old"


def test_json_is_sorted(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": 1, "a": [0.5, None]})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": [0.5, None], "b": 1}
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")


def test_csv_has_no_index(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", pd.DataFrame({"a": [1], "b": ["ü"]}))
    assert (tmp_path / "x.csv").read_bytes() == "a,b\n1,ü\n".encode()


@pytest.mark.parametrize("table", [TABLE, TABLE.iloc[:0]])
def test_table_round_trip_gives_the_same_bytes(tmp_path: Path, table: pd.DataFrame) -> None:
    for name in ("one", "two"):
        write_table(tmp_path / name, table, {"b": 1, "a": ["x"]})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found, metadata = read_table(tmp_path / "one")
    assert metadata == {"b": 1, "a": ["x"]}
    assert list(found.columns) == list(table.columns)
    assert found["score"].dtype == np.float32
    assert [list(labels) for labels in found["labels"]] == table["labels"].tolist()


def test_damaged_or_missing_table_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(InputError, match="parquet"):
        read_table(path)
    write_table(path, pd.DataFrame({"a": np.arange(5000)}))
    whole = path.read_bytes()
    middle = len(whole) // 3
    for damaged in (b"", b"PAR1", whole[:-20], whole[:middle], whole[:4] + bytes(middle) + whole[4 + middle :]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="run the stage that makes it again"):
            read_table(path)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_run_left_is_removed_also_under_this_process_number(tmp_path: Path, kind: str) -> None:
    other, same, foreign = (tmp_path / f".x.{number}.tmp" for number in (99999999, os.getpid(), "note"))
    for left in (other, same, foreign):
        if kind == "folder":
            left.mkdir()
            left = left / "half"
        left.write_text("half")
    with atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == [foreign.name, "x"]


def test_what_another_run_is_writing_stays(tmp_path: Path) -> None:
    left = tmp_path / ".x.99999999.tmp"
    left.mkdir()
    with lock(left) as state:
        assert state is Lock.OURS
        write_json(tmp_path / "x", {})
        assert names(tmp_path) == [left.name, "x"]
    write_json(tmp_path / "x", {})
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK])
def test_without_locks_nothing_is_taken_for_a_killed_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = [f".x.{each}.tmp" for each in (1, 2)]
    (tmp_path / left[0]).mkdir()
    (tmp_path / left[1]).touch()
    write_json(tmp_path / "x", {})
    assert names(tmp_path) == [*left, "x"]


def test_a_leftover_that_cannot_be_removed_is_not_locked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / ".x.1.tmp"
    left.mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with atomic_path(tmp_path / "x") as temporary:
            temporary.touch()
            patch.undo()
    with lock(left) as state:
        assert state is Lock.OURS


def test_a_temporary_folder_that_is_removed_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    mkdir = Path.mkdir

    def meet_another_run(folder: Path) -> None:
        mkdir(folder)
        made.append(folder)
        if len(made) == 1:
            folder.rmdir()

    monkeypatch.setattr(Path, "mkdir", meet_another_run)
    with temporary_folder(tmp_path / "x") as folder:
        assert folder == made[1]
        assert folder.is_dir()
    assert names(tmp_path) == []


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append("fsync") or fsync(file))  # type: ignore[func-returns-value]
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replace") or replace(*paths))  # type: ignore[func-returns-value]
    write_json(tmp_path / "x", {})
    assert done == ["fsync", "replace"]


def test_a_folder_is_there_at_every_moment_while_it_is_replaced(tmp_path: Path) -> None:
    """A second process looks all the time."""
    path, missing = tmp_path / "folder", tmp_path / "missing"
    script = f"""
import pathlib, time
path, end = pathlib.Path({str(path)!r}), time.monotonic() + 1
while time.monotonic() < end:
    if not path.exists():
        pathlib.Path({str(missing)!r}).touch()
"""
    path.mkdir()
    watcher = subprocess.Popen([sys.executable, "-c", script])
    number = 0
    while watcher.poll() is None:
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / str(number := number + 1)).touch()
    assert names(path) == [str(number)]
    assert not missing.exists()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("image_id", [1, 2]), ("x0", ["a", "b"]), ("x0", [0.5, float("nan")]), ("x0", [0.5, float("inf")]),
        ("label", [0.5, 1.5]), ("label", None),
    ],
)  # fmt: skip
def test_a_table_of_another_layout_is_one_error(tmp_path: Path, column: str, values: list[object] | None) -> None:
    table = pd.DataFrame({"image_id": ["a", "b"], "x0": [0.0, 1.0], "label": [0, 1]})
    write_table(tmp_path / "x", table)
    read_table(tmp_path / "x", ["image_id", "x0", "label"])
    write_table(
        tmp_path / "x", table.drop(columns=column) if values is None else table.assign(**{column: pd.Series(values)})
    )
    with pytest.raises(InputError, match=rf"x: not a readable table .*{column}.*; run the stage that makes it again"):
        read_table(tmp_path / "x", ["image_id", "x0", "label"])


@pytest.mark.parametrize("text", [b"[1]", b"{junk", b"\xff"])
def test_damaged_metadata_are_one_error(tmp_path: Path, text: bytes) -> None:
    content = pa.table({"a": [1]}).replace_schema_metadata({b"wsol": text})
    pq.write_table(content, tmp_path / "x")
    with pytest.raises(InputError, match="run the stage that makes it again"):
        read_table(tmp_path / "x")
