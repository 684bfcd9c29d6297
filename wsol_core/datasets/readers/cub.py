"""CUB-200-2011 as its authors publish it: five text files, `images/`, and if wanted `segmentations/`."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from wsol_core.core.boxes import BOX_COLUMNS, from_xywh
from wsol_core.core.errors import InputError
from wsol_core.data.index import ANNOTATION_COLUMNS, TEST, TRAIN_WEAKSUP
from wsol_core.data.paths import below, image_id, is_inside
from wsol_core.datasets.listing import DataParams, InstanceMask, Listing

VOTE = 127


def read(root: Path, params: DataParams) -> Listing:
    """Read `images.txt`, `classes.txt`, `image_class_labels.txt`, `train_test_split.txt` and `bounding_boxes.txt`.

    Training images become `train-weaksup`. The image id is the path below `images/` without suffix. A segmentation is
    the majority of its annotators (above 127 of 255).

    Raises:
        InputError: one of the files is missing or malformed, or lacks an image of `images.txt`.
    """
    if not (root / "images.txt").is_file():
        raise InputError(f"{params.name}: no images.txt in the data set's root; the root is the folder CUB_200_2011")
    names = _table(root, "images.txt", {"path": str})
    classes = _table(root, "classes.txt", {"name": str})
    position = {number: place for place, number in enumerate(classes.index)}
    label = _of(names, root, "image_class_labels.txt", {"label": int})["label"].map(position).fillna(-1).astype(int)
    train = _of(names, root, "train_test_split.txt", {"train": int})["train"]
    sizes = _of(names, root, "bounding_boxes.txt", dict.fromkeys(("x", "y", "width", "height"), float))
    ids = names["path"].map(image_id).to_numpy()
    images = pd.DataFrame(
        {
            "image_id": ids,
            "path": [below("images", path) for path in names["path"]],
            "split": np.where(train == 1, TRAIN_WEAKSUP, TEST),
            "labels": [[number] for number in label],
        }
    )
    boxes = pd.DataFrame(from_xywh(sizes.to_numpy()), columns=list(BOX_COLUMNS))
    annotations = boxes.assign(image_id=ids, label=label.to_numpy(), difficult=False, instance=1)

    return Listing(
        tuple(classes["name"]), images, annotations[list(ANNOTATION_COLUMNS)], ("images",), partial(_mask, root)
    )


def _mask(root: Path, name: str) -> InstanceMask | None:
    path = f"segmentations/{name}.png"
    if not is_inside(root, path) or not (root / path).is_file():
        return None
    with Image.open(root / path, formats=["PNG"]) as votes:
        return (np.asarray(votes.convert("L")) > VOTE).astype(np.uint8)


def _table(root: Path, name: str, columns: dict[str, type[Any]]) -> pd.DataFrame:
    """Rows `number value ...` of one official file, by number; a number may come twice."""
    try:
        return pd.read_csv(
            root / name, sep=r"\s+", names=["number", *columns], index_col="number", dtype={"number": int, **columns}
        )
    except FileNotFoundError as error:
        raise InputError(f"{name}: missing in the data set's root; it is part of CUB-200-2011") from error
    except ValueError as error:
        raise InputError(f"{name}: not as in CUB-200-2011 ({error})") from error


def _of(names: pd.DataFrame, root: Path, name: str, columns: dict[str, type[Any]]) -> pd.DataFrame:
    table = _table(root, name, columns)
    table = table[~table.index.duplicated()]
    if len(lacking := names.index.difference(table.index)):
        raise InputError(f"{name}: no line for image {lacking[0]} of images.txt")
    return table.loc[names.index]
