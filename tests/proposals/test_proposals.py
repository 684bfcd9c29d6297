"""Proposals: selective search in processes (same bytes however it runs) and files of others."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table, write_table
from wsol_core.data.index import ImageIndex, read_index, write_index
from wsol_core.proposals.files import FileParams, read_proposals
from wsol_core.proposals.selection import choose, distinct, proposal_rows
from wsol_core.proposals.selective_search import SearchParams, search_proposals, selective_search

PARAMS = SearchParams(mode="fast", longest_side=0)
COLUMNS = ["image_id", "x0", "y0", "x1", "y1", "score", "label"]


def picture(seed: int, width: int = 96, height: int = 64) -> np.ndarray:
    """Coloured rectangles."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(0, 255, 3), np.uint8)
    for _ in range(12):
        (x0, y0), (w, h) = rng.integers(0, (width, height)), rng.integers(6, 40, 2)
        image[y0 : y0 + h, x0 : x0 + w] = rng.integers(0, 255, 3)
    return image


def make_index(folder: Path, count: int) -> ImageIndex:
    """`count` pictures in `folder`, and their index."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count):
        cv2.imwrite(str(folder / "images" / f"p{number:03d}.png"), picture(number))
        rows.append((f"images/p{number:03d}", f"images/p{number:03d}.png", "", "test", [0], 96, 64))
    table = pd.DataFrame(rows, columns=["image_id", "path", "digest", "split", "labels", "width", "height"])
    return ImageIndex(table, ("thing",), "toy", str(folder))


@pytest.fixture
def index(tmp_path: Path) -> ImageIndex:
    return make_index(tmp_path / "set", 3)


def boxes_of(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


# Selective search


def test_search_is_seeded_and_its_set_of_boxes_is_not() -> None:
    first, again, other = (selective_search(picture(1), PARAMS, seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert {tuple(box) for box in first.tolist()} == {tuple(box) for box in other.tolist()}


def test_boxes_of_a_reduced_picture_are_in_original_pixels() -> None:
    image = np.full((200, 300, 3), 40, np.uint8)
    image[50:150, 100:250] = (250, 30, 30)
    boxes = selective_search(image, PARAMS.model_copy(update={"longest_side": 150}), 0)
    assert np.abs(boxes - [100, 50, 250, 150]).max(axis=1).min() <= 2
    assert boxes.min() >= 0
    assert (boxes.max(axis=0) <= [300, 200, 300, 200]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (30, 30)])
@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_a_flat_or_tiny_picture_is_one_proposal(shape: tuple[int, int], mode: str) -> None:
    params = PARAMS.model_copy(update={"mode": mode, "longest_side": 20})
    boxes = selective_search(np.full((*shape, 3), 90, np.uint8), params, 0)
    assert distinct(boxes, shape[1], shape[0]).tolist() == [[0, 0, shape[1], shape[0]]]


def test_distinct_boxes_by_hand() -> None:
    boxes = boxes_of((5, 5, 20, 20), (-9, 2, 8, 8), (5, 5, 20, 20), (1, 3, 30, 3), (0, 2, 8, 8), (9, 9, 13, 13))
    assert distinct(boxes, 40, 30).tolist() == [[5, 5, 20, 20], [0, 2, 8, 8], [9, 9, 13, 13]]


@pytest.mark.parametrize("boxes", [boxes_of(), boxes_of((1, 1, 1, 9)), boxes_of((50, 2, 60, 20))])
def test_nothing_left_is_the_whole_picture(boxes: np.ndarray) -> None:
    assert distinct(boxes, 40, 30).tolist() == [[0, 0, 40, 30]]


def found_in(index: ImageIndex, *boxes: np.ndarray) -> pd.DataFrame:
    rows = [proposal_rows(name, own) for name, own in zip(index.table["image_id"], boxes, strict=True)]
    return pd.concat(rows, ignore_index=True)


def test_choice_by_hand(index: ImageIndex) -> None:
    first = boxes_of((0, 0, 9, 9), (0, 0, 3, 50), (0, 0, 4, 4), (2, 2, 9, 9))
    found = found_in(index, first, boxes_of((0, 0, 3, 3)), boxes_of((0, 0, 96, 4)))
    chosen = choose(found, index, 4, 2)
    assert chosen.columns.tolist() == COLUMNS
    assert chosen[COLUMNS[1:6]].to_numpy().tolist() == [
        [0, 0, 9, 9, 1], [0, 0, 4, 4, 0.5], [0, 0, 96, 64, 1], [0, 0, 96, 4, 1],
    ]  # fmt: skip
    assert chosen["image_id"].tolist() == ["images/p000"] * 2 + ["images/p001", "images/p002"]
    assert chosen.dtypes.equals(found.dtypes)


def test_choice_equals_a_loop_over_images(index: ImageIndex) -> None:
    rng = np.random.default_rng(0)
    corners = [np.sort(rng.choice(60, (30, 2, 2)), axis=1).reshape(-1, 4) for _ in range(3)]
    found = found_in(index, *(distinct(each.astype(np.float32), 96, 64) for each in corners))
    chosen = choose(found, index, 12, 5)
    for name in index.table["image_id"]:
        own = found.loc[found["image_id"] == name, COLUMNS[1:5]].to_numpy().tolist()
        large = [[x0, y0, x1, y1] for x0, y0, x1, y1 in own if min(x1 - x0, y1 - y0) >= 12][:5]
        mine = chosen[chosen["image_id"] == name]
        assert mine[COLUMNS[1:5]].to_numpy().tolist() == large
        np.testing.assert_allclose(mine["score"], 1 - np.arange(len(large)) / len(large), rtol=1e-6)


def test_proposals_of_other_images_than_the_index_has_are_refused(index: ImageIndex) -> None:
    found = found_in(index, *[boxes_of((0, 0, 9, 9))] * 3)
    with pytest.raises(InputError, match="'images/p002' is in the index or has proposals, not both"):
        choose(found[:2], index, 0, 9)
    with pytest.raises(InputError, match="'elsewhere'"):
        choose(pd.concat([found, found[:1].assign(image_id="elsewhere")]), index, 0, 9)


def test_rows() -> None:
    rows = proposal_rows("a", boxes_of((0, 0, 1, 1), (0, 0, 2, 2), (0, 0, 3, 3), (0, 0, 4, 4)))
    assert rows.columns.tolist() == COLUMNS
    assert rows["score"].tolist() == [1, 0.75, 0.5, 0.25]
    assert [str(rows[c].dtype) for c in COLUMNS[1:]] == ["float32"] * 5 + ["int32"]
    assert set(rows["label"]) == {-1}


def test_a_picture_of_another_size_than_the_index_says_is_named(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSOL_WORKERS", "1")
    cv2.imwrite(str(index.root / "images" / "p001.png"), picture(1, width=50))
    tmp_path.joinpath("scratch").mkdir()
    with pytest.raises(InputError, match=r"p001\.png.*96x64"):
        search_proposals(index, PARAMS, tmp_path / "scratch")


def stage(folder: Path) -> subprocess.Popen:
    """`python -m stages.selective_search toy` in `folder`, with one worker."""
    environment = {key: value for key, value in os.environ.items() if key not in ("DVC_STAGE", "WSOL_SCRATCH")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "WSOL_WORKERS": "1"}
    command = [sys.executable, "-m", "stages.selective_search", "toy"]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)


def test_same_bytes_with_any_workers_and_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = make_index(tmp_path / "set", 40)
    write_index(tmp_path / "data/detection/index.parquet", index)
    (tmp_path / "params.yaml").write_text("selective_search: {toy: {mode: fast, longest_side: 0}}", encoding="utf-8")
    kill_after_a_part(stage(tmp_path), tmp_path / ".wsol")
    output = tmp_path / "data/detection/proposals/toy.parquet"
    assert not output.exists()
    assert stage(tmp_path).wait() == 0
    assert not list((tmp_path / ".wsol").iterdir())
    for workers in ("1", "2"):
        monkeypatch.setenv("WSOL_WORKERS", workers)
        (tmp_path / workers).mkdir()
        write_table(tmp_path / "undisturbed.parquet", search_proposals(index, PARAMS, tmp_path / workers))
        assert output.read_bytes() == (tmp_path / "undisturbed.parquet").read_bytes()
    table, _ = read_table(output)
    assert table.columns.tolist() == COLUMNS
    assert table["image_id"].is_monotonic_increasing
    assert set(table["image_id"]) == set(index.table["image_id"])
    assert not table.duplicated(COLUMNS[:5]).any()


def kill_after_a_part(process: subprocess.Popen, scratch: Path) -> None:
    """SIGKILL as soon as the first part is on disk."""
    while not list(scratch.glob("*/[0-9]*.parquet")):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(list(scratch.glob("*/[0-9]*.parquet"))) < 5


def test_parts_that_are_there_are_taken(index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = proposal_rows("images/p000", boxes_of((0, 0, 7, 7)))
    part.to_parquet(tmp_path / "00000000.parquet")
    monkeypatch.setenv("WSOL_WORKERS", "1")
    pd.testing.assert_frame_equal(search_proposals(index, PARAMS, tmp_path), part, check_dtype=False)


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_damaged_part_is_discarded_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: bytes | None
) -> None:
    monkeypatch.setenv("WSOL_WORKERS", "1")
    index, part = make_index(tmp_path / "set", 1), tmp_path / "00000000.parquet"
    expected = search_proposals(index, PARAMS, tmp_path)
    if damage is None:
        proposal_rows("other", boxes_of((0, 0, 7, 7))).to_parquet(part)
    else:
        part.write_bytes(damage)
    pd.testing.assert_frame_equal(search_proposals(index, PARAMS, tmp_path), expected)
    assert f"warning: {part}: " in capsys.readouterr().err


# Files of others


def cells(*values: object) -> np.ndarray:
    """A MATLAB cell of one row."""
    cell = np.empty((1, len(values)), dtype=object)
    cell[0, :] = values
    return cell


INSIDE = [[3, 2, 10, 20], [1, 1, 64, 96]]


def matlab(path: Path, *boxes: object) -> Path:
    cell = cells(*[np.array(box, dtype=float) for box in boxes])
    savemat(path, {"boxes": cell, "images": cells(*[f"p{number:03d}" for number in range(len(boxes))]).T})
    return path


def save_npz(path: Path, **arrays: Any) -> None:
    np.savez(path, **arrays)


def read(path: Path, index: ImageIndex, coordinates: str = "xyxy") -> pd.DataFrame:
    return read_proposals(index, FileParams.model_validate({"path": str(path), "coordinates": coordinates}))


def test_mat_by_hand(index: ImageIndex, tmp_path: Path) -> None:
    path = matlab(tmp_path / "ss.mat", INSIDE, INSIDE[:1], INSIDE, INSIDE)
    table = read(path, index, "yxyx_inclusive")
    assert table["image_id"].tolist() == ["images/p000"] * 2 + ["images/p001"] + ["images/p002"] * 2
    assert table[COLUMNS[1:5]].iloc[:2].to_numpy().tolist() == [[1, 2, 20, 10], [0, 0, 96, 64]]
    assert table["score"].tolist() == [1, 0.5, 1, 1, 0.5]


@pytest.mark.parametrize(
    ("coordinates", "expected"),
    [
        ("xyxy", [3, 2, 10, 20]),
        ("xyxy_inclusive", [2, 1, 10, 20]),
        ("yxyx_inclusive", [1, 2, 20, 10]),
        ("xywh", [3, 2, 13, 22]),
        ("xywh_from_1", [2, 1, 12, 21]),
    ],
)
@pytest.mark.parametrize("flat", [True, False])
def test_npz_by_hand(index: ImageIndex, tmp_path: Path, coordinates: str, expected: list[int], flat: bool) -> None:
    ids = index.table["image_id"].tolist()
    box = np.array([INSIDE[0]])
    if flat:
        save_npz(tmp_path / "p.npz", image_id=np.array(ids[::-1]), boxes=box.repeat(3, axis=0))
    else:
        save_npz(tmp_path / "p.npz", **dict.fromkeys(ids, box))
    table = read(tmp_path / "p.npz", index, coordinates)
    assert table["image_id"].tolist() == ids
    assert table[COLUMNS[1:5]].to_numpy().tolist() == [expected] * 3


def test_flat_npz_keeps_the_order_of_the_file(index: ImageIndex, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = np.sort(rng.choice(60, (90, 2, 2)), axis=1) + np.array([[0, 0], [4, 4]])
    ids = rng.permutation(np.repeat(index.table["image_id"].to_numpy(dtype=str), 30))
    save_npz(tmp_path / "p.npz", image_id=ids, boxes=corners.reshape(-1, 4))
    table = read(tmp_path / "p.npz", index)
    for image_id in index.table["image_id"]:
        boxes = dict.fromkeys(
            map(tuple, np.minimum(corners.reshape(-1, 4)[ids == image_id], [96, 64, 96, 64]).tolist())
        )
        assert list(boxes) == [tuple(b) for b in table.loc[table["image_id"] == image_id, COLUMNS[1:5]].to_numpy()]


def test_a_folder_of_files_is_read_as_one(index: ImageIndex, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    ids = index.table["image_id"].tolist()
    save_npz(folder / "a.npz", **dict.fromkeys([*ids[:1], "elsewhere"], np.array([[1, 1, 9, 9]])))
    save_npz(folder / "b.npz", **dict.fromkeys(ids[1:], np.array([[0, 0, 9, 9]])))
    table = read(folder, index)
    assert table[["image_id", "x0"]].to_numpy().tolist() == [[ids[0], 1], [ids[1], 0], [ids[2], 0]]
    save_npz(folder / "c.npz", **dict.fromkeys(ids[:1], np.array(INSIDE)))
    with pytest.raises(InputError, match=r"c\.npz.*images/p000.*twice"):
        read(folder, index)


@pytest.mark.parametrize("boxes", [[INSIDE, INSIDE], [INSIDE, INSIDE, np.zeros((0, 4))], [INSIDE, INSIDE, []]])
def test_an_image_without_proposals_is_named(index: ImageIndex, tmp_path: Path, boxes: list) -> None:
    path = matlab(tmp_path / "ss.mat", *boxes)
    with pytest.raises(InputError, match="no proposals for 1 images of the index, 'images/p002'"):
        read(path, index, "yxyx_inclusive")


def test_names_that_two_images_share_are_not_matched(index: ImageIndex, tmp_path: Path) -> None:
    path = matlab(tmp_path / "ss.mat", INSIDE, INSIDE, INSIDE)
    twins = index.table.assign(path=["a/p000.png", "b/p000.png", "a/p002.png"])
    with pytest.raises(InputError, match="2 images"):
        read(path, ImageIndex(twins, ("thing",), "toy"), "yxyx_inclusive")


@pytest.mark.parametrize(
    "box", [[0, 0, 99, 20], [-2, 0, 9, 9], [5, 5, 5, 9], [9, 9, 3, 3], [0, 0, np.nan, 9], [0, 0, 9, np.inf]]
)
def test_a_bad_box_is_named_with_its_image(index: ImageIndex, tmp_path: Path, box: list[float]) -> None:
    boxes = dict.fromkeys(index.table["image_id"], np.array([INSIDE[0]], dtype=float)) | {
        "images/p001": np.array([INSIDE[0], box])
    }
    save_npz(tmp_path / "p.npz", **boxes)
    with pytest.raises(InputError, match=r"images/p001.*96x64.*'xyxy'"):
        read(tmp_path / "p.npz", index)


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["p.npz", "p.mat", "object.npz"])
def test_pickles_are_refused(index: ImageIndex, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "sprung"
    if name == "object.npz":
        trap = np.empty(1, dtype=object)
        trap[0] = Trap(mark)
        save_npz(tmp_path / name, **{"images/p000": trap})
    else:
        (tmp_path / name).write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(InputError, match=name) as caught:
        read(tmp_path / name, index)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["missing.mat", "missing.npz", "empty.mat", "empty.npz", "short.mat", "short.npz"])
def test_a_damaged_file_is_named(index: ImageIndex, tmp_path: Path, name: str) -> None:
    if name.startswith("empty"):
        (tmp_path / name).touch()
    elif name == "short.mat":
        content = matlab(tmp_path / name, INSIDE, INSIDE, INSIDE).read_bytes()
        (tmp_path / name).write_bytes(content[:-90])
    elif name == "short.npz":
        save_npz(tmp_path / name, a=np.array(INSIDE))
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-30])
    with pytest.raises(InputError, match=name):
        read(tmp_path / name, index)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"boxes": cells(np.array(INSIDE)), "images": cells("p000", "p001")}, "same length"),
        ({"images": cells("p000")}, "none of the variables boxes, bboxes, bbs"),
        ({"boxes": np.array(INSIDE), "images": cells("p000")}, "cells"),
        ({"boxes": cells(np.ones((2, 6))), "images": cells("p000")}, "four columns"),
        ({"boxes": cells("text"), "images": cells("p000")}, "numbers"),
    ],
)
def test_a_mat_of_another_layout_is_refused(index: ImageIndex, tmp_path: Path, content: dict, message: str) -> None:
    savemat(tmp_path / "ss.mat", content)
    with pytest.raises(InputError, match=rf"ss\.mat.*{message}"):
        read(tmp_path / "ss.mat", index)


def test_an_npz_with_ids_and_boxes_of_different_number_is_refused(index: ImageIndex, tmp_path: Path) -> None:
    save_npz(tmp_path / "p.npz", image_id=np.array(["a"]), boxes=np.array(INSIDE))
    with pytest.raises(InputError, match=r"p\.npz.*image ids"):
        read(tmp_path / "p.npz", index)


def test_another_kind_of_file_is_refused(index: ImageIndex, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p\.pkl.*\.mat, \.npz and \.json"):
        read(tmp_path / "p.pkl", index)


def test_an_index_without_images_is_refused(index: ImageIndex, tmp_path: Path) -> None:
    write_index(tmp_path / "index.parquet", ImageIndex(index.table.iloc[:0], ("thing",), "toy", "."))
    with pytest.raises(InputError, match="no image"):
        search_proposals(read_index(tmp_path / "index.parquet"), PARAMS, tmp_path)


ONE = boxes_of((1, 1, 9, 9), (2, 2, 20, 20), (3, 3, 30, 30))
BY_SCORE = [[2, 2, 20, 20], [1, 1, 9, 9], [3, 3, 30, 30]]
SCORES = np.array([0.5, 0.9, 0.5])


def boxes_of_first(table: pd.DataFrame) -> list[list[float]]:
    boxes: list[list[float]] = table.loc[table["image_id"] == "images/p000", COLUMNS[1:5]].to_numpy().tolist()
    return boxes


def save_7_3(path: Path, **variables: Any) -> None:
    """MATLAB's version 7.3: HDF5 behind a header, arrays transposed, cells of references."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, cell in variables.items():
            references = []
            for number, value in enumerate(cell):
                text = isinstance(value, str)
                data = np.array([[ord(letter)] for letter in value], np.uint16) if text else np.asarray(value).T
                dataset = file.create_dataset(f"#refs#/{name}{number}", data=data)
                dataset.attrs["MATLAB_class"] = np.bytes_("char" if text else "double")
                references.append(dataset.ref)
            file.create_dataset(name, data=np.array([references], dtype=h5py.ref_dtype))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_scores_of_a_mat_decide_the_rank(index: ImageIndex, tmp_path: Path, version: str) -> None:
    names = ["p000", "p001", "p002"]
    path = tmp_path / "edge.mat"
    if version == "5":
        content = {"boxes": cells(ONE, ONE, ONE), "images": cells(*names), "boxScores": cells(*[SCORES[:, None]] * 3)}
        savemat(path, content)
    else:
        save_7_3(path, boxes=[ONE] * 3, images=names, boxScores=[SCORES[:, None]] * 3)
    table = read(path, index)
    assert boxes_of_first(table) == BY_SCORE
    assert table["image_id"].tolist() == [name for name in index.table["image_id"] for _ in range(3)]


@pytest.mark.parametrize(
    "content",
    [
        {"bboxes": ONE, "scores": SCORES},
        {"boxes": ONE, "bboxes_scores": SCORES[None]},
        {"bbs": np.column_stack([ONE, SCORES])},
    ],
)
def test_a_mat_per_image_is_named_by_its_file(index: ImageIndex, tmp_path: Path, content: dict) -> None:
    folder = tmp_path / "mcg"
    folder.mkdir()
    for name in ("p000", "p001", "p002"):
        savemat(folder / f"{name}.mat", content)
    assert boxes_of_first(read(folder, index)) == BY_SCORE


def test_scores_of_an_npz_decide_the_rank(index: ImageIndex, tmp_path: Path) -> None:
    ids = np.repeat(index.table["image_id"].to_numpy(dtype=str), 3)
    save_npz(tmp_path / "p.npz", image_id=ids, boxes=np.tile(ONE, (3, 1)), scores=np.tile(SCORES, 3))
    assert boxes_of_first(read(tmp_path / "p.npz", index)) == BY_SCORE


@pytest.mark.parametrize("layout", ["names", "numbers", "listed"])
@pytest.mark.parametrize("scored", [True, False])
def test_coco_proposals(index: ImageIndex, tmp_path: Path, layout: str, scored: bool) -> None:
    renamed = index.table.assign(path=[f"images/{number:012d}.png" for number in (7, 8, 9)])
    key: Any = {"names": "images/p{:03d}", "numbers": 7, "listed": 70}[layout]
    rows = []
    for number in range(3):
        image_id = key.format(number) if isinstance(key, str) else key + number
        for box, score in zip(ONE.tolist(), SCORES.tolist(), strict=True):
            x0, y0, x1, y1 = box
            rows.append(
                {"image_id": image_id, "bbox": [x0, y0, x1 - x0, y1 - y0]} | ({"score": score} if scored else {})
            )
    images = [{"id": 70 + number, "file_name": f"val/{7 + number:012d}.jpg"} for number in range(3)]
    content = {"images": images, "annotations": rows} if layout == "listed" else rows
    (tmp_path / "p.json").write_text(json.dumps(content))
    table = read(tmp_path / "p.json", ImageIndex(renamed, ("thing",), "toy"), "xywh")
    assert boxes_of_first(table) == (BY_SCORE if scored else ONE.tolist())


@pytest.mark.parametrize(
    "content", ["[", "[" * 100_000, '{"a": 1}', '[{"image_id": 1}]', '[{"image_id": "p000", "bbox": [1, 2]}]']
)
def test_json_of_another_layout_is_refused_in_one_line(index: ImageIndex, tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(InputError, match=r"p\.json: (not JSON|nested|not a readable file of proposals)") as caught:
        read(tmp_path / "p.json", index, "xywh")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scores", [[0.5, np.nan, 0.1], [0.5, 0.1]])
def test_bad_scores_are_named_with_their_image(index: ImageIndex, tmp_path: Path, scores: list[float]) -> None:
    savemat(tmp_path / "p000.mat", {"bboxes": ONE, "scores": np.array(scores)})
    with pytest.raises(InputError, match=r"image 'p000': \d scores for 3 boxes"):
        read(tmp_path / "p000.mat", index)


def test_a_damaged_7_3_file_is_named(index: ImageIndex, tmp_path: Path) -> None:
    (tmp_path / "p.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(600))
    with pytest.raises(InputError, match=r"p\.mat: not a readable file of proposals"):
        read(tmp_path / "p.mat", index)
