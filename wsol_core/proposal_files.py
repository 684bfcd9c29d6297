"""Ready-made proposals of others, from `.mat` and `.npz` files. Nothing is unpickled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.io import loadmat

from wsol_core.boxes import Boxes, from_inclusive, from_xywh
from wsol_core.data.index import ImageIndex
from wsol_core.errors import InputError
from wsol_core.proposals import ProposalParams, join, proposal_rows, select

Named = tuple[str, npt.NDArray[Any]]


def read_proposals(path: Path, index: ImageIndex, params: ProposalParams) -> pd.DataFrame:
    """The proposals that a file, or the files of a folder, give to the images of the index.

    - `.mat`, as published for WSDDN and OICR: a cell `boxes` of `(n, 4)` arrays and a cell `images` of their names.
    - `.npz`: arrays `image_id (P,)` of str and `boxes (P, 4)`; or one `(n, 4)` array per image under its id.

    An image is known by its `image_id`, or by its file's name without suffix where no other image has the same.
    Boxes count by `params.coordinates`; the order within an image is the rank. Names outside the index are passed over.

    Returns:
        A table of boxes by `image_id` and rank, as `wsol_core.proposals.proposal_rows` makes it.

    Raises:
        InputError: a file is missing, damaged, of another layout, or would have to be unpickled; an image of the index
            has no proposals, or has them twice; a box is empty, not finite, or leaves its image by more than a pixel.
    """
    known = _names(index)
    found: dict[str, Boxes] = {}
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        for name, raw in _read(file):
            image_id = known.get(name)
            if image_id in found:
                raise InputError(f"{file}: image {image_id!r} has proposals twice; leave one of them out")
            if image_id is not None:
                found[image_id] = _convert(raw, params.coordinates, f"{file}: image {name!r}")
    missing = [image_id for image_id in index.table["image_id"] if not len(found.get(image_id, ()))]
    if missing:
        raise InputError(f"{path}: no proposals for {len(missing)} images of the index, {missing[0]!r} for one")
    sizes = zip(index.table["image_id"], index.table["width"], index.table["height"], strict=True)
    return join([
        proposal_rows(image_id, _selected(found[image_id], width, height, params, f"{path}: image {image_id!r}"))
        for image_id, width, height in sizes
    ])  # fmt: skip


def _names(index: ImageIndex) -> dict[str, str]:
    stems = index.table["path"].map(lambda path: Path(path).stem)
    alone = ~stems.duplicated(keep=False)
    by_stem = dict(zip(stems[alone], index.table["image_id"][alone], strict=True))
    return by_stem | {image_id: image_id for image_id in index.table["image_id"]}


def _read(file: Path) -> Iterator[Named]:
    reader = {".mat": _read_mat, ".npz": _read_npz}.get(file.suffix)
    if reader is None:
        raise InputError(f"{file}: proposals are read from .mat and .npz files")
    try:
        yield from reader(file)
    except NotImplementedError as error:
        raise InputError(f"{file}: MATLAB's version 7.3 is not read; save it again with -v7") from error
    except Exception as error:  # a broken file can raise anything inside a parser
        raise InputError(f"{file}: not a readable file of proposals ({error})") from error


def _read_mat(file: Path) -> Iterator[Named]:
    content = loadmat(file, variable_names=["boxes", "images"])
    boxes, images = content["boxes"].ravel(), content["images"].ravel()
    if boxes.dtype != object or len(boxes) != len(images):
        raise ValueError(f"`boxes` and `images` must be cells of the same length, here {len(boxes)} and {len(images)}")
    for name, cell in zip(images, boxes, strict=True):
        yield str(np.ravel(name)[0]), cell


def _read_npz(file: Path) -> Iterator[Named]:
    with np.load(file, allow_pickle=False) as content:
        if set(content.files) != {"image_id", "boxes"}:
            yield from ((name, content[name]) for name in content.files)
            return
        ids, boxes = content["image_id"], content["boxes"]
    if ids.shape != boxes.shape[:1]:
        raise ValueError(f"{ids.shape} image ids for {boxes.shape} boxes")
    order = np.argsort(ids, kind="stable")
    names, starts = np.unique(ids[order], return_index=True)
    yield from zip(names.tolist(), np.split(boxes[order], starts[1:]), strict=True)


def _convert(raw: Any, coordinates: str, place: str) -> Boxes:
    """`raw` as xyxy, half-open, counting from 0."""
    raw = np.asarray(raw)
    if raw.dtype.kind not in "iuf" or (raw.size and (raw.ndim != 2 or raw.shape[1] != 4)):
        raise InputError(f"{place}: proposals must be numbers in four columns, here {raw.dtype} of shape {raw.shape}")
    boxes = raw.reshape(-1, 4).astype(np.float32)
    if coordinates == "xywh":
        return from_xywh(boxes)
    if coordinates == "yxyx_inclusive":
        boxes = boxes[:, [1, 0, 3, 2]]
    return boxes if coordinates == "xyxy" else from_inclusive(boxes)


def _selected(boxes: Boxes, width: int, height: int, params: ProposalParams, place: str) -> Boxes:
    within = (boxes[:, :2] >= -1) & (boxes[:, 2:] <= np.array([width, height]) + 1) & (boxes[:, :2] < boxes[:, 2:])
    if not within.all():
        worst = boxes[np.flatnonzero(~within.all(axis=1))[0]].tolist()
        raise InputError(
            f"{place} ({width}x{height}) has a box {worst} (x0, y0, x1, y1 from 0) that is empty or outside; "
            f"are its coordinates really {params.coordinates!r}?"
        )
    return select(boxes, width, height, params)
