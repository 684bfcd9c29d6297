"""From a data set as it is published to the image index and, apart from it, the annotations."""

import difflib
import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path, write_csv
from wsol_core.data.images import turned
from wsol_core.data.index import (
    INDEX_COLUMNS,
    TEST,
    TRAIN_FULLSUP,
    TRAIN_WEAKSUP,
    ImageIndex,
    write_annotations,
    write_index,
)
from wsol_core.data.paths import LINKED_OUT
from wsol_core.datasets.listing import NAMED, OUTSIDE_ROOT, VOID, DataParams, InstanceMask, Listing, Problem
from wsol_core.datasets.readers import coco, csv_boxes, cub, folder, imagenet, unlabelled, voc, yolo
from wsol_core.datasets.scan import scan
from wsol_core.datasets.validate import (
    as_table,
    check_boxes,
    check_listing,
    check_sizes,
    refuse_bad,
    same_bytes,
    summary,
    turn_boxes,
    without,
)

READERS: dict[str, Callable[[Path, DataParams], Listing]] = {
    "folder": folder.read,
    "cub": cub.read,
    "voc": voc.read,
    "imagenet": imagenet.read,
    "coco": coco.read,
    "csv": csv_boxes.read,
    "yolo": yolo.read,
    "unlabelled": unlabelled.read,
}
BAD_MASK = "unreadable mask"
OTHER_MASK = "mask of another size"
SWAPPED_MASK = "mask of swapped width and height"


def prepare(params: DataParams, root: Path, set_name: str, output: Path) -> None:
    """Read, check and write one data set.

    Writes into `output`: `index.parquet`; the folder `truth` with `annotations.parquet` and `masks/` (a PNG per image
    that has instances, see `Listing.masks`; pixels of objects without a row in the annotations are 0, void ones 255);
    and `skipped.csv` (`image_id`, `path`, `reason`), where everything is listed that was left out: bad images, bad
    boxes of images that stay, files that no list names. It is written whatever comes after, and summed up on standard
    error. A bad image stops (`fail`) or goes (`skip`); so does one with a bad mask. The same bytes under two classes
    are named.

    Raises:
        InputError: bad images (`on_bad_image: fail`), no training image, an unknown class, or the layout is another.
    """
    listing = READERS[params.reader](root, params)
    problems = [*listing.problems, *check_listing(root, listing, params.follow_links)]
    listing = wanted(listing, params)
    images, unusable = _looked_at(listing.images, root, problems, params.max_pixels)
    readable = images[images["width"] > 0]
    turns, resized = check_sizes(listing, readable, root, params.swapped_sizes)
    annotations, misplaced = check_boxes(turn_boxes(listing.annotations, turns, listing), readable)
    problems += [*unusable, *resized, *misplaced]
    images, annotations = without(images, problems), without(annotations, problems)
    skipped = output / "skipped.csv"
    with atomic_path(output / "truth") as truth:
        (truth / "masks").mkdir(parents=True)
        annotations, unfit = _write_masks(truth / "masks", listing, images, annotations, turns)
        table = as_table([*problems, *unfit])
        write_csv(skipped, table)
        refuse_bad(table, set_name, params)
        images = without(images, unfit)
        write_annotations(truth / "annotations.parquet", without(annotations, unfit))
        images = split_off(images, TEST, params.test_per_class, params.seed)
        images = split_off(images, TRAIN_FULLSUP, params.fullsup_per_class, params.seed)
        if not (images["split"] == TRAIN_WEAKSUP).any():
            reasons = f"{summary(table)}; all are in {skipped}" if len(table) else f"see data.{set_name} in params.yaml"
            raise InputError(f"{set_name}: no training image is left: {reasons}")
        _say(table, images, set_name, skipped)
    write_index(
        output / "index.parquet",
        ImageIndex(images[list(INDEX_COLUMNS)], listing.classes, params.name, params.folder),
    )


def _say(problems: pd.DataFrame, images: pd.DataFrame, set_name: str, skipped: Path) -> None:
    """Sum up on standard error what was left out, and name images that are the same under two classes."""
    if len(problems):
        print(f"warning: {set_name!r}: {summary(problems)}; all are in {skipped}", file=sys.stderr)
    if pairs := same_bytes(images):
        named = ", ".join(f"{first!r} = {other!r}" for first, other in pairs[:NAMED])
        text = f"{len(pairs)} images are the same bytes under two classes: {named}"
        print(f"warning: {set_name!r}: {text}", file=sys.stderr)


def wanted(listing: Listing, params: DataParams) -> Listing:
    """What the parameters `one_class` and `classes` leave of a listing.

    Raises:
        InputError: a class is unknown or named twice.
    """
    return restrict(of_one_class(listing) if params.one_class else listing, params.classes)


def of_one_class(listing: Listing) -> Listing:
    """The listing of the images with one label; those with several go, and their boxes."""
    images = listing.images[[len(labels) == 1 for labels in listing.images["labels"]]].reset_index(drop=True)
    kept = listing.annotations["image_id"].isin(images["image_id"])
    return replace(listing, images=images, annotations=listing.annotations[kept].reset_index(drop=True))


def restrict(listing: Listing, classes: tuple[str, ...] | None) -> Listing:
    """The listing of `classes` alone: other labels and boxes go, and images that are left without a label.

    Raises:
        InputError: a class is unknown or named twice.
    """
    if classes is None:
        return listing
    known = {name: place for place, name in enumerate(listing.classes)}
    for name, uses in Counter(classes).items():
        if name not in known or uses > 1:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close and name not in known else ""
            raise InputError(f"classes: {name!r} is {'named twice' if uses > 1 else 'no class of this set'}{hint}")
    position = {known[name]: place for place, name in enumerate(classes)}
    labels = [sorted(position[label] for label in row if label in position) for row in listing.images["labels"]]
    images = listing.images.assign(labels=pd.Series(labels, dtype=object))[[bool(row) for row in labels]].reset_index(
        drop=True
    )
    chosen = listing.annotations["label"].isin(position) & listing.annotations["image_id"].isin(images["image_id"])
    annotations = listing.annotations[chosen].reset_index(drop=True)
    annotations["label"] = annotations["label"].map(position).astype("int64")
    return replace(listing, classes=classes, images=images, annotations=annotations)


def split_off(images: pd.DataFrame, split: str, per_class: int, seed: int) -> pd.DataFrame:
    """Move `per_class` images of each class from `train-weaksup` into `split`, where there is none in it yet.

    The choice hangs on the seed and each image's own id, so that other images may come and go. An image of several
    classes counts for each of them; one that is the last of a class in `train-weaksup` stays.
    """
    if per_class == 0 or (images["split"] == split).any():
        return images
    train = images[images["split"] == TRAIN_WEAKSUP]
    order = sorted(zip(train["image_id"].map(lambda name: _rank(name, split, seed)), train.index, strict=True))
    left = Counter(label for labels in train["labels"] for label in labels)
    taken: Counter[int] = Counter()
    rows = []
    for _, row in order:
        labels = train["labels"].loc[row]
        if any(taken[label] < per_class for label in labels) and all(left[label] > 1 for label in labels):
            rows.append(row)
            taken.update(labels)
            left.subtract(labels)
    images = images.copy()
    images.loc[rows, "split"] = split
    return images


def _rank(name: str, split: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{split}/{name}".encode(), digest_size=16).digest()


def _looked_at(
    images: pd.DataFrame, root: Path, problems: list[Problem], max_pixels: int
) -> tuple[pd.DataFrame, list[Problem]]:
    """The images inside the root with `digest`, `width` and `height`, and what is wrong with them."""
    outside = {problem.path for problem in problems if problem.reason in (OUTSIDE_ROOT, LINKED_OUT)}
    inside = images[~images["path"].isin(outside)]
    looks = scan(root, sorted(set(inside["path"])), max_pixels)
    images = inside.merge(looks, on="path", how="left", validate="many_to_one")
    bad = images[images["problem"] != ""]
    return images, [Problem(*row) for row in zip(bad["image_id"], bad["path"], bad["problem"], strict=True)]


def _write_masks(
    masks: Path, listing: Listing, images: pd.DataFrame, annotations: pd.DataFrame, turns: dict[str, int]
) -> tuple[pd.DataFrame, list[Problem]]:
    """Write the PNGs; in the annotations, `instance` becomes 0 where the mask does not show the object.

    What an annotation file draws for an image of another size is not painted.
    """
    annotations, problems = annotations.copy(), []
    places = dict(
        zip(images["image_id"], zip(images["path"], images["height"], images["width"], strict=True), strict=True)
    )
    groups = annotations[annotations["instance"] > 0].groupby("image_id")["instance"]
    for key, instances in tqdm(groups, "masks", unit="image", disable=None if len(groups) else True):
        name, (path, *shape) = str(key), places[key]
        width, height = listing.sizes.get(name, shape[::-1])
        if [height, width] != shape and name not in turns:
            problems.append(Problem(name, path, OTHER_MASK))
            continue
        try:
            mask = listing.masks(name)
        except Exception:  # a broken file or segmentation can raise anything
            problems.append(Problem(name, path, BAD_MASK))
            continue
        if mask is not None and name in turns and list(mask.shape) != shape:
            mask = turned(mask, turns[name])
        if mask is not None and list(mask.shape) != shape:
            problems.append(Problem(name, path, SWAPPED_MASK if list(mask.shape) == shape[::-1] else OTHER_MASK))
            continue
        shown = np.intersect1d(instances, mask) if mask is not None else instances[:0]
        annotations.loc[instances[~instances.isin(shown)].index, "instance"] = 0
        if mask is not None and len(shown):
            _write_mask(masks / f"{name}.png", np.where(np.isin(mask, [*shown, VOID]), mask, 0).astype(np.uint8))
    return annotations, problems


def _write_mask(path: Path, mask: InstanceMask) -> None:
    """Write instances `(H, W)` uint8 as a PNG without palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
