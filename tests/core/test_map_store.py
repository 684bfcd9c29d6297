import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, Kind, MapStore, create

Maps = npt.NDArray[np.float32]


def write(path: Path, maps: Maps, kind: Kind = Kind.SCORE, batch: int = 3) -> None:
    ids = [f"class/{row:04d}" for row in range(len(maps))]
    with create(path, kind, *maps.shape[1:]) as writer:
        for start in range(0, len(maps), batch):
            part = slice(start, start + batch)
            writer.append(ids[part], [CLASS_AGNOSTIC] * len(ids[part]), maps[part])


def random_maps(*shape: int) -> Maps:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("shape", [(10, 14, 14), (5, 1, 1), (3, 7, 1), (2, 300, 500), (0, 4, 6)])
def test_scores_come_back_as_they_were_to_float16(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    maps = random_maps(*shape)
    write(tmp_path / "x.h5", maps)
    with MapStore(tmp_path / "x.h5") as store:
        assert (len(store), store.shape, store.kind) == (shape[0], shape[1:], Kind.SCORE)
        assert store[:].dtype == np.float32
        np.testing.assert_array_equal(store[:], maps.astype(np.float16).astype(np.float32))
        covered = [row for part in store.batches(4) for row in range(part.start, part.stop)]
        assert covered == list(range(shape[0]))


def test_background_threshold_of_spol_survives(tmp_path: Path) -> None:
    write(tmp_path / "x.h5", np.array([[[0.0039, 0.0041]]], np.float32))
    with MapStore(tmp_path / "x.h5") as store:
        assert (store[0] < 0.004).tolist() == [[True, False]]


@pytest.mark.parametrize(("kind", "values"), [(Kind.MASK, [0, 1]), (Kind.TRISTATE, [0, 1, 255])])
def test_whole_number_kinds_come_back(tmp_path: Path, kind: Kind, values: list[int]) -> None:
    maps = np.random.default_rng(0).choice(values, (5, 6, 4)).astype(np.float32)
    write(tmp_path / "x.h5", maps, kind)
    with MapStore(tmp_path / "x.h5") as store:
        assert store.kind is kind
        np.testing.assert_array_equal(store[:], maps)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_same_rows_give_the_same_bytes(tmp_path: Path, batch: int) -> None:
    maps = random_maps(40, 56, 56)
    for name in ("one.h5", "two.h5"):
        write(tmp_path / name, maps, batch=batch)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_find_prefers_the_label_and_falls_back_to_the_class_agnostic_map(tmp_path: Path) -> None:
    maps = np.linspace(0, 1, 3, dtype=np.float32).reshape(3, 1, 1)
    with create(tmp_path / "x.h5", Kind.SCORE, 1, 1) as writer:
        writer.append(["a", "a", "b"], [CLASS_AGNOSTIC, 4, 7], maps)
    with MapStore(tmp_path / "x.h5") as store:
        keys = [("a", 4), ("a", 5), ("a", CLASS_AGNOSTIC), ("b", 7)]
        found = [store.find(image, label) for image, label in keys]
        assert [each.tolist() for each in found if each is not None] == [[[0.5]], [[0]], [[0]], [[1]]]
        assert store.find("b") is None
        assert store.find("c") is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.SCORE, np.nan), (Kind.SCORE, np.inf), (Kind.SCORE, -0.01), (Kind.SCORE, 1.01),
        (Kind.MASK, 2), (Kind.MASK, 255), (Kind.MASK, np.nan), (Kind.TRISTATE, 254),
    ],
)  # fmt: skip
def test_bad_value_is_refused_with_the_image(tmp_path: Path, kind: Kind, value: float) -> None:
    maps = np.zeros((4, 2, 2), np.float32)
    maps[2, 0, 1] = value
    with pytest.raises(InputError, match="image 'class/0002' has values other than"):
        write(tmp_path / "x.h5", maps, kind, batch=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keys", [[("b", 0), ("a", 0)], [("a", 1), ("a", 0)], [("a", 0), ("a", 0)]])
@pytest.mark.parametrize("batch", [1, 2])
def test_rows_out_of_order_are_refused(tmp_path: Path, keys: list[tuple[str, int]], batch: int) -> None:
    def append() -> None:
        with create(tmp_path / "x.h5", Kind.SCORE, 1, 1) as writer:
            for start in range(0, 2, batch):
                ids, labels = zip(*keys[start : start + batch], strict=True)
                writer.append(ids, labels, np.zeros((len(ids), 1, 1), np.float32))

    with pytest.raises(ValueError, match="rows come in the order"):
        append()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ids", "labels", "shape"), [(1, 1, (2, 2, 2)), (2, 1, (2, 2, 2)), (2, 2, (2, 2, 3))])
def test_shapes_must_agree(tmp_path: Path, ids: int, labels: int, shape: tuple[int, int, int]) -> None:
    with create(tmp_path / "x.h5", Kind.SCORE, 2, 2) as writer, pytest.raises(ValueError, match="maps for"):
        writer.append(["a", "b"][:ids], [0, 0][:labels], np.zeros(shape, np.float32))


def read_all(path: Path) -> None:
    with MapStore(path) as store:
        for part in store.batches(8):
            store[part]


def test_truncated_store_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    write(path, random_maps(20, 14, 14))
    whole = path.read_bytes()
    for length in (0, 8, 100, 2048, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="run the stage that makes it again"):
            read_all(path)


def test_damaged_maps_are_one_error(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    write(path, random_maps(20, 14, 14))
    with h5py.File(path, "r") as file:
        chunk = file["maps"].id.get_chunk_info(0)
    damaged = bytearray(path.read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    damaged[middle : middle + 64] = bytes(64)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="damaged"):
        read_all(path)


def test_missing_foreign_and_incomplete_files_are_one_error(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with pytest.raises(InputError, match="not a readable map store"):
        MapStore(path)
    path.write_text("no HDF5")
    with pytest.raises(InputError, match="not a readable map store"):
        MapStore(path)
    for missing in ("maps", "image_id", "label"):
        write(path, random_maps(2, 2, 2))
        with h5py.File(path, "r+") as file:
            del file[missing]
        with pytest.raises(InputError, match="not a readable map store"):
            MapStore(path)


def rewrite(path: Path, name: str, values: object, **options: object) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, data=values, **options)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("maps", np.zeros((2, 2, 2))), ("maps", np.zeros((2, 2), np.float16)),
        ("maps", np.zeros((3, 2, 2), np.float16)), ("maps", ["a", "b"]),
        ("image_id", [1, 2]), ("image_id", ["a"]), ("image_id", [["a", "b"]]),
        ("image_id", ["a", "a"]), ("label", [-1]), ("label", [[-1], [-1]]), ("label", [0.5, 0.5]), ("label", 0),
    ],
)  # fmt: skip
def test_a_store_of_another_layout_is_one_error(tmp_path: Path, name: str, values: object) -> None:
    path = tmp_path / "x.h5"
    write(path, random_maps(2, 2, 2))
    rewrite(path, name, values)
    with pytest.raises(InputError, match=r"x\.h5: not a readable map store .*; run the stage that makes it again"):
        MapStore(path)


def test_no_other_file_is_ever_read(tmp_path: Path) -> None:
    """External links, soft links, raw data in other files, virtual data sets, and a group in place of a data set."""
    path, other = tmp_path / "x.h5", tmp_path / "other.h5"
    write(other, random_maps(2, 2, 2))
    (tmp_path / "raw").write_bytes(bytes(16))
    layout = h5py.VirtualLayout((2, 2, 2), np.float16)
    layout[:] = h5py.VirtualSource(other, "maps", (2, 2, 2))

    def outside(file: h5py.File, kind: str) -> None:
        if kind == "raw":
            file.create_dataset("maps", (2, 2, 2), np.float16, external=[(str(tmp_path / "raw"), 0, 16)])
        elif kind == "virtual":
            file.create_virtual_dataset("maps", layout)
        elif kind == "group":
            file.create_group("maps")
        else:
            file["maps"] = h5py.ExternalLink(str(other), "maps") if kind == "external" else h5py.SoftLink("/label")

    for kind in ("external", "soft", "raw", "virtual", "group"):
        write(path, random_maps(2, 2, 2))
        with h5py.File(path, "r+") as file:
            del file["maps"]
            outside(file, kind)
        with pytest.raises(InputError, match="run the stage that makes it again"):
            MapStore(path)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [(Kind.SCORE, np.nan), (Kind.SCORE, np.inf), (Kind.SCORE, -0.01), (Kind.SCORE, 1.01), (Kind.MASK, 2),
     (Kind.MASK, 255), (Kind.TRISTATE, 7)],
)  # fmt: skip
def test_values_that_a_kind_has_not_are_refused_where_they_are_read(tmp_path: Path, kind: Kind, bad: float) -> None:
    path, maps = tmp_path / "x.h5", np.zeros((3, 2, 2), kind.dtype)
    write(path, maps, kind)
    maps[1, 0, 1] = bad
    rewrite(path, "maps", maps)
    with MapStore(path) as store:
        assert not store[0].any()
        for rows in (1, slice(0, 3)):
            with pytest.raises(InputError, match=r"x\.h5: the map of image .* has values other than .*; run the stage"):
                store[rows]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import Kind, create

def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, BYTES))
    maps = np.random.default_rng(0).random((200, 28, 28), dtype=np.float32)
    with create(Path("x.h5"), Kind.SCORE, 28, 28) as writer:
        for batch in range(ROWS):
            writer.append([f"{batch:03d}-{row:03d}" for row in range(200)], [-1] * 200, maps)

run_stage(main)
"""


@pytest.mark.parametrize(("limit", "rows"), [(500, 1), (5000, 1), (400_000, 10)])
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, limit: int, rows: int) -> None:
    code = FULL_DISK.replace("BYTES", str(limit)).replace("ROWS", str(rows))
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{code}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
