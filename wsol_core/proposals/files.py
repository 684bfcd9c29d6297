"""Ready-made proposals of others, from `.mat`, `.npz` and COCO's `.json` files. Nothing is unpickled."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.io import loadmat

from wsol_core.core.boxes import Boxes, from_inclusive, from_xywh
from wsol_core.core.errors import InputError
from wsol_core.core.hdf5 import own
from wsol_core.core.params import Block
from wsol_core.core.texts import read_json
from wsol_core.data.index import ImageIndex
from wsol_core.proposals.selection import distinct, join, proposal_rows

Array = npt.NDArray[Any]
Named = tuple[str, Array, Array | None]
"""A name, boxes and, where the file has them, scores."""
BOXES = ("boxes", "bboxes", "bbs")
SCORES = ("boxScores", "scores", "bboxes_scores")


class FileParams(Block):
    """Whose proposals."""

    path: str
    """a `.mat`, `.npz` or `.json` file of ready-made proposals, or a folder of such files"""
    coordinates: Literal["yxyx_inclusive", "xyxy_inclusive", "xyxy", "xywh", "xywh_from_1"]
    """of the boxes: `*_inclusive` count from 1 and their last pixel belongs to the box (`yxyx_inclusive` is MATLAB's
    selective search and MCG); `xyxy` is half-open and `xywh` corner and sides (COCO), both counting from 0;
    `xywh_from_1` are edge boxes"""


def read_proposals(index: ImageIndex, params: FileParams) -> pd.DataFrame:
    """The proposals that a file, or the files of a folder, give to the images of the index.

    - `.mat` of a data set, as published for WSDDN and OICR: a cell `boxes` of `(n, 4)` arrays, a cell `images` of their
      names and perhaps a cell `boxScores`; MATLAB's version 7.3 or an older one.
    - `.mat` of one image, which its file's name names (MCG, edge boxes): an array `boxes`, `bboxes` or `bbs` `(n, 4)`
      and perhaps `scores` or `bboxes_scores`.
    - `.npz`: arrays `image_id (P,)` of str, `boxes (P, 4)` and perhaps `scores (P,)`; or one `(n, 4)` array per image
      under its id.
    - `.json`: COCO's list of `image_id`, `bbox` and perhaps `score`, alone or under `annotations` beside `images`,
      which then turn numbers into files' names.

    An image is known by its `image_id`, or by its file's name without suffix where no other image has the same, zeros
    before a number left out. The fifth column of boxes is their score. The highest score comes first; without scores
    the order is the rank. Names outside the index are passed over.

    Returns:
        A table of boxes by `image_id` and rank, see `proposal_rows`.

    Raises:
        InputError: a file is missing, damaged, of another layout, or would have to be unpickled; an image of the index
            has no proposals, or has them twice; a box is empty, not finite, or leaves its image by more than a pixel.
    """
    path, known = Path(params.path), _names(index)
    found: dict[str, Boxes] = {}
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        for name, raw, scores in _read(file):
            image_id = known.get(_plain(name))
            if image_id in found:
                raise InputError(f"{file}: image {image_id!r} has proposals twice; leave one of them out")
            if image_id is not None:
                found[image_id] = _convert(raw, scores, params.coordinates, f"{file}: image {name!r}")
    missing = [image_id for image_id in index.table["image_id"] if not len(found.get(image_id, ()))]
    if missing:
        raise InputError(f"{path}: no proposals for {len(missing)} images of the index, {missing[0]!r} for one")
    sizes = zip(index.table["image_id"], index.table["width"], index.table["height"], strict=True)
    return join([
        proposal_rows(image_id, _within(found[image_id], width, height, params, f"{path}: image {image_id!r}"))
        for image_id, width, height in sizes
    ])  # fmt: skip


def _names(index: ImageIndex) -> dict[str, str]:
    stems = index.table["path"].map(lambda path: _plain(Path(path).stem))
    alone = ~stems.duplicated(keep=False)
    by_stem = dict(zip(stems[alone], index.table["image_id"][alone], strict=True))
    return by_stem | {_plain(image_id): image_id for image_id in index.table["image_id"]}


def _plain(name: str) -> str:
    """A number without zeros before it."""
    return str(int(name)) if name.isdecimal() else name


def _read(file: Path) -> Iterator[Named]:
    reader = {".mat": _read_mat, ".npz": _read_npz, ".json": _read_json}.get(file.suffix)
    if reader is None:
        raise InputError(f"{file}: proposals are read from .mat, .npz and .json files")
    try:
        yield from reader(file)
    except InputError:
        raise
    except Exception as error:  # a broken file can raise anything inside a parser
        raise InputError(f"{file}: not a readable file of proposals ({type(error).__name__}: {error})") from error


def _read_mat(file: Path) -> Iterator[Named]:
    with file.open("rb") as opened:
        version_7_3 = b"MATLAB 7.3" in opened.read(128)
    wanted = ("images", *BOXES, *SCORES)
    if not version_7_3:
        _refuse_fatal(file)
    content = _load_7_3(file, wanted) if version_7_3 else loadmat(file, variable_names=wanted)
    boxes = next((content[key] for key in BOXES if key in content), None)
    scores = next((content[key] for key in SCORES if key in content), None)
    if boxes is None:
        raise ValueError(f"none of the variables {', '.join(BOXES)}")
    if "images" not in content:
        yield file.stem, boxes, scores
        return
    names, cells = content["images"].ravel(), boxes.ravel()
    if boxes.dtype != object or len(cells) != len(names):
        raise ValueError(f"`boxes` and `images` must be cells of the same length, here {len(cells)} and {len(names)}")
    rest = scores.ravel() if scores is not None else [None] * len(cells)
    yield from ((str(np.ravel(name)[0]), *both) for name, *both in zip(names, cells, rest, strict=True))


def _refuse_fatal(file: Path) -> None:
    """Read a file in a process of its own first: SciPy reads some damaged ones beyond their end, which is the end."""
    trial = [sys.executable, "-c", "import sys; from scipy.io import loadmat; loadmat(sys.argv[1])", str(file)]
    if subprocess.run(trial, capture_output=True, check=False).returncode < 0:
        raise ValueError("damaged, so that it would end the process that reads it")


def _load_7_3(file: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Numbers, and cells of numbers and of texts; MATLAB's arrays are stored the other way round."""
    with h5py.File(file, "r") as content:
        links = {name: content.get(name, getlink=True) for name in names if name in content}
        if outside := [name for name, link in links.items() if not isinstance(link, h5py.HardLink)]:
            raise ValueError(f"{outside[0]} is a link")
        return {name: _value(content, own(content[name])) for name in links}


def _value(file: h5py.File, dataset: h5py.Dataset) -> Array:
    if dataset.dtype != h5py.ref_dtype:
        values: Array = dataset[()].T
        if dataset.attrs.get("MATLAB_class") == b"char":
            return np.array(["".join(map(chr, values.ravel()))])
        return values if not dataset.attrs.get("MATLAB_empty") else np.zeros((0, 4))
    cells = np.empty(dataset.shape, dtype=object)
    for place in np.ndindex(dataset.shape):
        cells[place] = _value(file, own(file[dataset[place]]))
    return cells


def _read_npz(file: Path) -> Iterator[Named]:
    with np.load(file, allow_pickle=False) as content:
        if not {"image_id", "boxes"} <= set(content.files):
            yield from ((name, content[name], None) for name in content.files)
            return
        ids, boxes, scores = content["image_id"], content["boxes"], content.get("scores")
    if ids.shape != boxes.shape[:1] or (scores is not None and scores.shape != ids.shape):
        raise ValueError(f"{ids.shape} image ids for {boxes.shape} boxes")
    yield from _by_name(ids, boxes, scores)


def _read_json(file: Path) -> Iterator[Named]:
    content = read_json(file)
    rows, images = (content["annotations"], content["images"]) if isinstance(content, dict) else (content, [])
    stems = {image["id"]: Path(image["file_name"]).stem for image in images}
    ids = np.array([str(stems.get(row["image_id"], row["image_id"])) for row in rows], dtype=str)
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float32).reshape(-1, 4)
    scored = len(rows) > 0 and all("score" in row for row in rows)
    yield from _by_name(ids, boxes, np.array([row["score"] for row in rows], np.float64) if scored else None)


def _by_name(ids: Array, boxes: Array, scores: Array | None) -> Iterator[Named]:
    order = np.argsort(ids, kind="stable")
    names, starts = np.unique(ids[order], return_index=True)
    for name, rows in zip(names.tolist(), np.split(order, starts[1:]), strict=True):
        yield name, boxes[rows], None if scores is None else scores[rows]


def _convert(raw: Any, scores: Any, coordinates: str, place: str) -> Boxes:
    """`raw` as xyxy, half-open, counting from 0, best first."""
    raw = np.asarray(raw)
    if raw.dtype.kind not in "iuf" or (raw.size and (raw.ndim != 2 or raw.shape[1] not in (4, 5))):
        shape = f"{raw.dtype} of shape {raw.shape}"
        raise InputError(f"{place}: proposals must be numbers in four columns, a fifth for scores; here {shape}")
    table = raw.reshape(-1, raw.shape[1] if raw.size else 4)
    boxes = table[:, :4].astype(np.float32)
    ranked = table[:, 4] if table.shape[1] == 5 else scores
    if ranked is not None:
        ranked = np.asarray(ranked, dtype=np.float64).ravel()
        if len(ranked) != len(boxes) or not np.isfinite(ranked).all():
            raise InputError(f"{place}: {len(ranked)} scores for {len(boxes)} boxes, or one that is no finite number")
        boxes = boxes[np.argsort(-ranked, kind="stable")]
    if coordinates in ("xywh", "xywh_from_1"):
        return from_xywh(boxes) - np.float32(coordinates == "xywh_from_1")
    if coordinates == "yxyx_inclusive":
        boxes = boxes[:, [1, 0, 3, 2]]
    return boxes if coordinates == "xyxy" else from_inclusive(boxes)


def _within(boxes: Boxes, width: int, height: int, params: FileParams, place: str) -> Boxes:
    inside = (boxes[:, :2] >= -1) & (boxes[:, 2:] <= np.array([width, height]) + 1) & (boxes[:, :2] < boxes[:, 2:])
    if not inside.all():
        worst = boxes[np.flatnonzero(~inside.all(axis=1))[0]].tolist()
        raise InputError(
            f"{place} ({width}x{height}) has a box {worst} (x0, y0, x1, y1 from 0) that is empty or outside; "
            f"are its coordinates really {params.coordinates!r}?"
        )
    return distinct(boxes, width, height)
