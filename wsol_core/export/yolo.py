"""YOLO: `labels/NAME.txt` with lines `class x y width height`, `data.yaml` and a list of images per split.

Centre and size are shares of the image's width and height, six digits; classes count from 0. NAME is the image's path
in its root without the suffix, and without `images/` in front: put or link the images into `images/` beside `labels/`
and a trainer finds both. An image without a box has an empty file, which trainers take for background. Scores are left
out, since these are labels to train on.
"""

from pathlib import Path, PurePosixPath

import yaml

from wsol_core.core.boxes import to_centre
from wsol_core.data.index import SPLITS
from wsol_core.export.results import BoxResults

KEYS = dict(zip(SPLITS, ("train", "val", "test"), strict=True))


def write_boxes(results: BoxResults, folder: Path) -> None:
    """Write a file per image, the lists and the description."""
    shares = to_centre(results.corners(), results.sizes())
    lines: dict[str, list[str]] = {str(name): [] for name in results.images["image_id"]}
    for name, label, row in zip(results.boxes["image_id"], results.boxes["label"], shares.tolist(), strict=True):
        lines[name].append(" ".join([str(label), *(f"{share:.6f}" for share in row)]) + "\n")
    for name, place in zip(results.images["image_id"], results.images["path"], strict=True):
        path = folder / "labels" / PurePosixPath(below_images(place)).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines[name]), encoding="utf-8")
    content: dict[str, object] = {"names": dict(enumerate(results.classes))}
    for split, rows in results.images.groupby("split"):
        content[KEYS[str(split)]] = f"{split}.txt"
        paths = "".join(f"./images/{below_images(path)}\n" for path in rows["path"])
        (folder / f"{split}.txt").write_text(paths, encoding="utf-8")
    (folder / "data.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def below_images(path: str) -> str:
    """An image's path below the folder `images`."""
    return path.removeprefix("images/")
