"""Proposals: selective search in processes (same bytes however it runs) and files of others."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from wsol_core.data.index import ImageIndex, read_index, write_index
from wsol_core.errors import InputError
from wsol_core.files import read_table, write_table
from wsol_core.proposal_files import read_proposals
from wsol_core.proposals import ProposalParams, proposal_rows, search_proposals, select, selective_search

PARAMS = ProposalParams(
    source="selective_search", coordinates="xyxy", mode="fast", longest_side=0, min_side=4, max_proposals=500
)
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
    assert select(boxes, shape[1], shape[0], params).tolist() == [[0, 0, shape[1], shape[0]]]


def test_selection_by_hand() -> None:
    boxes = boxes_of((5, 5, 20, 20), (-9, 2, 8, 8), (5, 5, 20, 20), (1, 1, 30, 4), (0, 2, 8, 8), (9, 9, 13, 13))
    assert select(boxes, 40, 30, PARAMS).tolist() == [[5, 5, 20, 20], [0, 2, 8, 8], [9, 9, 13, 13]]
    first = PARAMS.model_copy(update={"max_proposals": 1})
    assert select(boxes, 40, 30, first).tolist() == [[5, 5, 20, 20]]


@pytest.mark.parametrize("boxes", [boxes_of(), boxes_of((1, 1, 1, 9)), boxes_of((50, 2, 60, 20))])
def test_nothing_left_is_the_whole_picture(boxes: np.ndarray) -> None:
    params = PARAMS.model_copy(update={"min_side": 0})
    assert select(boxes, 40, 30, params).tolist() == [[0, 0, 40, 30]]


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
    """`python -m stages.proposals toy` in `folder`, with one worker."""
    environment = {key: value for key, value in os.environ.items() if key not in ("DVC_STAGE", "WSOL_SCRATCH")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[1]), "WSOL_WORKERS": "1"}
    command = [sys.executable, "-m", "stages.proposals", "toy"]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)


def test_same_bytes_with_any_workers_and_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = make_index(tmp_path / "set", 40)
    write_index(tmp_path / "data/toy/index.parquet", index)
    (tmp_path / "params.yaml").write_text(f"proposals: {PARAMS.model_dump_json()}", encoding="utf-8")
    kill_after_a_part(stage(tmp_path), tmp_path / ".wsol")
    output = tmp_path / "data/toy/proposals.parquet"
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


def convention(name: str) -> ProposalParams:
    return PARAMS.model_copy(update={"coordinates": name})


def test_mat_by_hand(index: ImageIndex, tmp_path: Path) -> None:
    path = matlab(tmp_path / "ss.mat", INSIDE, INSIDE[:1], INSIDE, INSIDE)
    table = read_proposals(path, index, convention("yxyx_inclusive"))
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
    table = read_proposals(tmp_path / "p.npz", index, convention(coordinates))
    assert table["image_id"].tolist() == ids
    assert table[COLUMNS[1:5]].to_numpy().tolist() == [expected] * 3


def test_flat_npz_keeps_the_order_of_the_file(index: ImageIndex, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = np.sort(rng.choice(60, (90, 2, 2)), axis=1) + np.array([[0, 0], [4, 4]])
    ids = rng.permutation(np.repeat(index.table["image_id"].to_numpy(dtype=str), 30))
    save_npz(tmp_path / "p.npz", image_id=ids, boxes=corners.reshape(-1, 4))
    table = read_proposals(tmp_path / "p.npz", index, PARAMS)
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
    table = read_proposals(folder, index, PARAMS)
    assert table[["image_id", "x0"]].to_numpy().tolist() == [[ids[0], 1], [ids[1], 0], [ids[2], 0]]
    save_npz(folder / "c.npz", **dict.fromkeys(ids[:1], np.array(INSIDE)))
    with pytest.raises(InputError, match=r"c\.npz.*images/p000.*twice"):
        read_proposals(folder, index, PARAMS)


@pytest.mark.parametrize("boxes", [[INSIDE, INSIDE], [INSIDE, INSIDE, np.zeros((0, 4))], [INSIDE, INSIDE, []]])
def test_an_image_without_proposals_is_named(index: ImageIndex, tmp_path: Path, boxes: list) -> None:
    path = matlab(tmp_path / "ss.mat", *boxes)
    with pytest.raises(InputError, match="no proposals for 1 images of the index, 'images/p002'"):
        read_proposals(path, index, convention("yxyx_inclusive"))


def test_names_that_two_images_share_are_not_matched(index: ImageIndex, tmp_path: Path) -> None:
    path = matlab(tmp_path / "ss.mat", INSIDE, INSIDE, INSIDE)
    twins = index.table.assign(path=["a/p000.png", "b/p000.png", "a/p002.png"])
    with pytest.raises(InputError, match="2 images"):
        read_proposals(path, ImageIndex(twins, ("thing",), "toy"), convention("yxyx_inclusive"))


@pytest.mark.parametrize(
    "box", [[0, 0, 99, 20], [-2, 0, 9, 9], [5, 5, 5, 9], [9, 9, 3, 3], [0, 0, np.nan, 9], [0, 0, 9, np.inf]]
)
def test_a_bad_box_is_named_with_its_image(index: ImageIndex, tmp_path: Path, box: list[float]) -> None:
    boxes = dict.fromkeys(index.table["image_id"], np.array([INSIDE[0]], dtype=float)) | {
        "images/p001": np.array([INSIDE[0], box])
    }
    save_npz(tmp_path / "p.npz", **boxes)
    with pytest.raises(InputError, match=r"images/p001.*96x64.*'xyxy'"):
        read_proposals(tmp_path / "p.npz", index, PARAMS)


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
        read_proposals(tmp_path / name, index, PARAMS)
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
        read_proposals(tmp_path / name, index, PARAMS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"boxes": cells(np.array(INSIDE)), "images": cells("p000", "p001")}, "same length"),
        ({"boxes": cells(np.array(INSIDE))}, "images"),
        ({"boxes": np.array(INSIDE), "images": cells("p000")}, "cells"),
        ({"boxes": cells(np.ones((2, 5))), "images": cells("p000")}, "four columns"),
        ({"boxes": cells("text"), "images": cells("p000")}, "numbers"),
    ],
)
def test_a_mat_of_another_layout_is_refused(index: ImageIndex, tmp_path: Path, content: dict, message: str) -> None:
    savemat(tmp_path / "ss.mat", content)
    with pytest.raises(InputError, match=rf"ss\.mat.*{message}"):
        read_proposals(tmp_path / "ss.mat", index, PARAMS)


def test_an_npz_with_ids_and_boxes_of_different_number_is_refused(index: ImageIndex, tmp_path: Path) -> None:
    save_npz(tmp_path / "p.npz", image_id=np.array(["a"]), boxes=np.array(INSIDE))
    with pytest.raises(InputError, match=r"p\.npz.*image ids"):
        read_proposals(tmp_path / "p.npz", index, PARAMS)


def test_another_kind_of_file_is_refused(index: ImageIndex, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p\.pkl.*\.mat and \.npz"):
        read_proposals(tmp_path / "p.pkl", index, PARAMS)


def test_an_index_without_images_is_refused(index: ImageIndex, tmp_path: Path) -> None:
    write_index(tmp_path / "index.parquet", ImageIndex(index.table.iloc[:0], ("thing",), "toy", "."))
    with pytest.raises(InputError, match="no image"):
        search_proposals(read_index(tmp_path / "index.parquet"), PARAMS, tmp_path)
