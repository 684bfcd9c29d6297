import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import scan as stage
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table
from wsol_core.data.images import Inspection, inspect
from wsol_core.data.paths import passed_over, walk
from wsol_core.datasets import scan as module
from wsol_core.datasets.scan import list_files, scan

PATHS = ["a/1.png", "a/2.png", "b/3.png"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number, path in enumerate(PATHS):
        place = tmp_path / "root" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4 + number, 3), (number, 0, 0)).save(place)
    return tmp_path / "root"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def counted(path: Path, max_pixels: int) -> Inspection:
        names.append(path.name)
        return inspect(path, max_pixels)

    monkeypatch.setattr(module, "inspect", counted)
    return names


def cache_file(root: Path) -> Path:
    return root.parent / "cache" / "wsol" / "scan-2.sqlite"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_scan_says_what_each_file_is(root: Path, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_WORKERS", workers)
    (root / "bad.jpg").write_bytes(b"")
    table = scan(root, ["gone.png", *PATHS, "bad.jpg", "a"])
    assert table.columns.tolist() == ["path", "digest", "width", "height", "problem"]
    assert table["width"].tolist() == [0, 4, 5, 6, 0, 0]
    assert table["problem"].tolist() == ["listed but missing", "", "", "", "zero bytes", "not a regular file"]
    assert table["digest"].str.len().tolist() == [0, 32, 32, 32, 32, 0]
    assert scan(root, []).empty


def test_unchanged_files_are_not_opened_again(root: Path, opened: list[str]) -> None:
    first = scan(root, PATHS)
    assert opened == ["1.png", "2.png", "3.png"]
    opened.clear()
    second = scan(root, PATHS[::-1])
    assert opened == []
    assert second.iloc[::-1].reset_index(drop=True).equals(first)


def test_changed_files_are_opened_again(root: Path, opened: list[str]) -> None:
    first = scan(root, PATHS)
    opened.clear()
    status = (root / PATHS[0]).stat()
    os.utime(root / PATHS[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    status = (root / PATHS[1]).stat()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)).save(root / PATHS[1])
    os.utime(root / PATHS[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    second = scan(root, PATHS)
    assert opened == ["1.png", "2.png"]
    assert (second["digest"] == first["digest"]).tolist() == [True, False, True]
    assert second["width"].tolist() == [4, 30, 6]


def test_a_bad_file_is_looked_at_again_since_tomorrow_it_may_be_read(root: Path, opened: list[str]) -> None:
    (root / "bad.jpg").write_bytes(b"nothing")
    for _ in range(2):
        assert scan(root, ["bad.jpg"])["problem"].tolist() == ["not an image"]
    assert opened == ["bad.jpg", "bad.jpg"]


def test_another_max_pixels_is_obeyed_whatever_is_remembered(root: Path, opened: list[str]) -> None:
    for limit, problem in ((11, "larger than max_pixels"), (12, ""), (11, "larger than max_pixels"), (12, "")):
        assert scan(root, PATHS[:1], limit)["problem"].tolist() == [problem]
    assert opened == ["1.png", "1.png"]


def test_what_is_no_file_is_not_opened(root: Path, opened: list[str]) -> None:
    os.mkfifo(root / "queue.jpg")
    (root / "gone.jpg").symlink_to(root / "nothing.jpg")
    (root / "circle.jpg").symlink_to(root / "circle.jpg")
    table = scan(root, ["queue.jpg", "gone.jpg", "circle.jpg", "x" * 300])
    assert table["problem"].tolist() == ["not a regular file", "link to nothing", "link to itself", "unreadable"]
    assert opened == []


def test_what_walk_passes_over_is_named(root: Path) -> None:
    os.mkfifo(root / "a/queue")
    (root / "a/gone.jpg").symlink_to(root / "nothing.jpg")
    (root / "circle").symlink_to(root / "circle")
    (root / "loop").symlink_to(root)
    (root.parent / "elsewhere").mkdir()
    (root.parent / "elsewhere/4.png").write_bytes(b"")
    (root / "c").symlink_to(root.parent / "elsewhere")
    wrong = {"a/gone.jpg": "link to nothing", "a/queue": "not a regular file", "circle": "link to itself"}
    followed = "linked folder, not followed (see follow_links)"
    assert dict(passed_over(root)) == wrong | {"c": followed, "loop": followed}
    assert dict(passed_over(root, follow_links=True)) == wrong | {"loop": "link to itself"}
    assert sorted(walk(root)) == PATHS
    assert sorted(walk(root, follow_links=True)) == [*PATHS, "c/4.png"]
    assert list_files(root, follow_links=True)["path"].tolist() == [*PATHS, "c/4.png"]


def test_a_link_into_a_closed_folder_is_no_link_to_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "shut.jpg").symlink_to(root / "closed/4.png")
    stat = Path.stat

    def closed(place: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if place.name == "shut.jpg" and follow_symlinks:
            raise PermissionError(13, "Permission denied")
        return stat(place, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", closed)
    assert passed_over(root) == [("shut.jpg", "link to what may not be read")]


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is open to root")
def test_a_closed_folder_is_named(root: Path) -> None:
    (root / "a").chmod(0)
    try:
        assert passed_over(root) == [("a", "folder that may not be read")]
    finally:
        (root / "a").chmod(0o755)


def test_files_are_remembered_batch_by_batch(root: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    monkeypatch.setattr(module, "BATCH", 2)

    def dies(path: Path, max_pixels: int) -> Inspection:
        if path.name == "3.png":
            raise KeyboardInterrupt
        return inspect(path, max_pixels)

    with monkeypatch.context() as patch:
        patch.setattr(module, "inspect", dies)
        with pytest.raises(KeyboardInterrupt):
            scan(root, PATHS)
    assert scan(root, PATHS)["width"].tolist() == [4, 5, 6]
    assert opened == ["3.png"]


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_damaged_cache_is_made_again(root: Path, content: bytes, opened: list[str]) -> None:
    cache_file(root).parent.mkdir(parents=True)
    cache_file(root).write_bytes(content)
    assert scan(root, PATHS)["width"].tolist() == [4, 5, 6]
    scan(root, PATHS)
    assert len(opened) == 3


def test_cache_damaged_in_the_middle_is_done_without(root: Path) -> None:
    expected = scan(root, PATHS)
    content = bytearray(cache_file(root).read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)
    cache_file(root).write_bytes(content)
    for _ in range(2):
        assert scan(root, PATHS).equals(expected)


def test_unwritable_and_locked_caches_are_done_without(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scan(root, PATHS)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert scan(root, PATHS).equals(expected)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    with sqlite3.connect(cache_file(root)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert scan(root, PATHS).equals(expected)


def test_walk_leaves_out_hidden_files_and_linked_folders(root: Path) -> None:
    (root / ".git").mkdir()
    (root / ".git" / "x.png").write_bytes(b"")
    (root / ".hidden.png").write_bytes(b"")
    (root / "loop").symlink_to(root)
    assert sorted(walk(root)) == PATHS
    assert sorted(walk(root, "a")) == PATHS[:2]


def test_name_that_is_no_utf8_is_refused(root: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(root) + b"/\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    with pytest.raises(InputError, match="not valid UTF-8"):
        list(walk(root))


def test_list_files_leaves_out_links_that_lead_out(root: Path) -> None:
    (root.parent / "secret.txt").write_text("x")
    (root / "link.txt").symlink_to(root.parent / "secret.txt")
    (root / "classes.txt").write_text("1 bird")
    table = list_files(root)
    assert table["path"].tolist() == [*PATHS, "classes.txt"]
    assert table["digest"].str.len().tolist() == [32] * 4


def test_stage_writes_the_same_bytes_until_a_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = root.parent / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setenv("WSOL_ROOT_CUB", str(root))
    monkeypatch.setenv("WSOL_WORKERS", "1")
    (project / "params.yaml").write_text(
        "data: {birds: {name: cub, source: data/birds/files.parquet, reader: cub, fullsup_per_class: 1}}"
    )
    output = project / "data" / "birds" / "files.parquet"
    contents = []
    for change in (None, None, "touch", "write"):
        if change == "touch":
            os.utime(root / PATHS[0], ns=(1, 1))
        if change == "write":
            (root / PATHS[0]).write_bytes(b"other")
        stage.main("birds")
        contents.append(output.read_bytes())
    assert contents[0] == contents[1] == contents[2] != contents[3]
    assert read_table(output)[0]["path"].tolist() == PATHS


def test_stage_lists_a_folder_of_background_images(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("WSOL_ROOT_SKIES", str(root))
    Path("params.yaml").write_text(
        "data: {background: {name: skies, source: data/background/files.parquet, reader: unlabelled}}"
    )
    stage.main("background")
    assert read_table(Path("data/background/files.parquet"))[0]["path"].tolist() == PATHS
