"""Ground truth as training targets: the oracles that weak supervision is held against (WSFL 3.2, 3.3.1, Table 1).

A pixel is foreground if it lies in any object of its image. Masks of 14x14 cells are the papers' "LR GT", masks as fine
as the network's input "HR GT", and these for 10 images per class "few-shot GT". Whatever learns from them has a name
that begins with `oracle-`, see `core/oracle_names.py`.

Deviation: the few-shot row of the papers takes its images from train-fullsup; here they are drawn from train-weaksup,
and train-fullsup measures the held-out loss, as for every other network.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from wsol_core.core.boxes import BOX_COLUMNS, rasterize
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, IGNORE, Kind, create
from wsol_core.core.params import Block
from wsol_core.data.index import TRAIN_FULLSUP, TRAIN_WEAKSUP, ImageIndex

WRITE_ROWS = 256

Masks = npt.NDArray[np.uint8]
Rasterizer = Callable[[pd.DataFrame], Masks]
"""From N rows of an image index to their masks `(N, resolution, resolution)`, 0 or 1."""


class OracleParams(Block):
    """Which ground truth an oracle learns from."""

    truth: Literal["boxes", "masks"]
    """the objects' boxes, or their masks"""
    resolution: int = Field(default=14, gt=0)
    """side of the square targets, in cells: 14 for LR GT, the network's input side for HR GT"""
    per_class: int = Field(default=0, ge=0)
    """training images per class, drawn by the seed; 0 for all"""


def chosen_images(index: ImageIndex, annotations: pd.DataFrame, params: OracleParams, seed: int) -> pd.DataFrame:
    """The rows of the index that have the truth: of train-weaksup those that are drawn, of train-fullsup all.

    An image has masks only if each of its objects has one: half a truth would call objects background.

    Raises:
        InputError: no image of train-weaksup has it.
    """
    known = annotations.groupby("image_id")["instance"].min()
    known = known[known > 0] if params.truth == "masks" else known
    rows = index.table[index.table["image_id"].isin(known.index)]
    train = rows[rows["split"] == TRAIN_WEAKSUP]
    if train.empty:
        raise InputError(f"no image of {TRAIN_WEAKSUP} in {index.name!r} has {params.truth}; an oracle needs them")
    if params.per_class:
        drawn = train.sample(frac=1, random_state=seed).explode("labels").groupby("labels").head(params.per_class)
        train = train[train["image_id"].isin(drawn["image_id"])]
    return pd.concat([train, rows[rows["split"] == TRAIN_FULLSUP]]).sort_values("image_id").reset_index(drop=True)


def box_masks(annotations: pd.DataFrame, resolution: int) -> Rasterizer:
    """Masks of an image's boxes together: 1 where a cell's centre lies in any of them, see `rasterize`.

    Each image must have a box in `annotations`.
    """

    def draw(rows: pd.DataFrame) -> Masks:
        places = rows[["image_id", "width", "height"]].assign(place=np.arange(len(rows)))
        boxes = places.merge(annotations[["image_id", *BOX_COLUMNS]], on="image_id")
        corners = boxes[list(BOX_COLUMNS)].to_numpy(np.float32)
        single = rasterize(corners, boxes["width"].to_numpy(), boxes["height"].to_numpy(), resolution)
        together: Masks = np.maximum.reduceat(single, np.flatnonzero(np.diff(boxes["place"], prepend=-1)))
        return together

    return draw


def drawn_masks(folder: Path, resolution: int) -> Rasterizer:
    """Masks of an image's instances together: 1 where the pixel at a cell's centre belongs to any, 0 where it is void.

    Each image must have its `<image_id>.png` in `folder`, see `prepare`.
    """

    def draw(rows: pd.DataFrame) -> Masks:
        places = zip(rows["image_id"], rows["width"], rows["height"], strict=True)
        return np.stack([_coarse(folder / f"{name}.png", width, height, resolution) for name, width, height in places])

    return draw


def all_masks(folder: Path, annotations: pd.DataFrame, params: OracleParams) -> Rasterizer:
    """Masks of any images: of boxes, or those drawn in `folder`; empty where an image has no object.

    Raises:
        InputError: an object has no mask where masks are asked for.
    """
    bare = annotations.loc[annotations["instance"] == 0, "image_id"]
    if params.truth == "masks" and len(bare):
        raise InputError(f"image {bare.iloc[0]!r} has an object without a mask; take truth: boxes")
    side, shown = params.resolution, set(annotations["image_id"])
    draw_shown = drawn_masks(folder, side) if params.truth == "masks" else box_masks(annotations, side)

    def draw(rows: pd.DataFrame) -> Masks:
        masks = np.zeros((len(rows), side, side), np.uint8)
        has_object = rows["image_id"].isin(shown).to_numpy()
        if has_object.any():
            masks[has_object] = draw_shown(rows[has_object])
        return masks

    return draw


def _coarse(path: Path, width: int, height: int, resolution: int) -> Masks:
    instances: Masks | None = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)  # type: ignore[assignment]
    if instances is None or instances.shape != (height, width):
        raise InputError(f"{path}: not a mask of {width} x {height} pixels; run prepare again")
    centres = (np.arange(resolution) + 0.5) / resolution
    rows, columns = (centres * height).astype(int), (centres * width).astype(int)
    return np.asarray(~np.isin(instances[np.ix_(rows, columns)], (0, IGNORE)), dtype=np.uint8)


def write_masks(path: Path, rows: pd.DataFrame, draw: Rasterizer, resolution: int) -> None:
    """Write the masks of `rows`, sorted by id, to a new store, a few hundred at a time."""
    with create(path, Kind.MASK, resolution, resolution) as writer:
        for start in range(0, len(rows), WRITE_ROWS):
            part = rows.iloc[start : start + WRITE_ROWS]
            writer.append(part["image_id"].tolist(), [CLASS_AGNOSTIC] * len(part), draw(part))
