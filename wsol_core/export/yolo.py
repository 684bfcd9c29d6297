"""YOLO: `labels/NAME.txt` with lines `class x y width height`, `data.yaml` and a list of images per split.

Centre and size are shares of the image's width and height, six digits; classes count from 0. NAME is the image's name
in the export (see `pictures`): with the images in `images/` beside `labels/`, a trainer finds both. ultralytics wants
`train` and `val`: where no image is of `train-fullsup`, `val` is the test list, else the only one there is. An image
without a box has an empty file, which trainers take for background. Scores are left out, since these are labels to
train on.
"""

from pathlib import Path, PurePosixPath

import yaml

from wsol_core.core.boxes import to_centre
from wsol_core.data.index import SPLITS
from wsol_core.export.results import BoxResults

FOLDER = "images"
KEYS = dict(zip(SPLITS, ("train", "val", "test"), strict=True))


def write_boxes(results: BoxResults, folder: Path) -> None:
    """Write a file per image, the lists and the description."""
    shares = to_centre(results.corners(), results.sizes())
    lines: dict[str, list[str]] = {str(name): [] for name in results.images["image_id"]}
    for name, label, row in zip(results.boxes["image_id"], results.boxes["label"], shares.tolist(), strict=True):
        lines[name].append(" ".join([str(label), *(f"{share:.6f}" for share in row)]) + "\n")
    (folder / "labels").mkdir()
    for name, file_name in zip(results.images["image_id"], results.images["file_name"], strict=True):
        path = folder / "labels" / f"{PurePosixPath(file_name).stem}.txt"
        path.write_text("".join(lines[name]), encoding="utf-8")
    lists: dict[str, str] = {}
    for split, rows in results.images.groupby("split"):
        lists[KEYS[str(split)]] = f"{split}.txt"
        paths = "".join(f"./{FOLDER}/{name}\n" for name in rows["file_name"])
        (folder / f"{split}.txt").write_text(paths, encoding="utf-8")
    needed = {"train": ("train", "val", "test"), "val": ("val", "test", "train")}
    lists |= {key: next(lists[other] for other in others if other in lists) for key, others in needed.items() if lists}
    content = {"names": dict(enumerate(results.classes)), **lists}
    (folder / "data.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
