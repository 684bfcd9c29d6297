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
from wsol_core.data.index import (
    INDEX_COLUMNS,
    TEST,
    TRAIN_FULLSUP,
    TRAIN_WEAKSUP,
    ImageIndex,
    write_annotations,
    write_index,
)
from wsol_core.datasets.listing import OUTSIDE_ROOT, VOID, DataParams, InstanceMask, Listing, Problem
from wsol_core.datasets.readers import coco, csv_boxes, cub, folder, imagenet, unlabelled, voc
from wsol_core.datasets.scan import scan
from wsol_core.datasets.validate import UNLISTED, check_boxes, check_listing, report, without

READERS: dict[str, Callable[[Path, DataParams], Listing]] = {
    "folder": folder.read,
    "cub": cub.read,
    "voc": voc.read,
    "imagenet": imagenet.read,
    "coco": coco.read,
    "csv": csv_boxes.read,
    "unlabelled": unlabelled.read,
}
BAD_MASK = "unreadable mask"
OTHER_SIZE = "mask of another size"


def prepare(params: DataParams, root: Path, set_name: str, output: Path) -> None:
    """Read, check and write one data set.

    Writes into `output`: `index.parquet`; the folder `truth` with `annotations.parquet` and `masks/` (a PNG per image
    that has instances, see `Listing.masks`; pixels of objects without a row in the annotations are 0, void ones 255);
    and `skipped.csv` (`image_id`, `path`, `reason`; unlisted images among them). An image is bad as a whole: a truth of
    which a part is missing would count correct predictions as wrong, so one bad box or mask leaves the image out
    (`skip`) or stops (`fail`).

    Raises:
        InputError: bad images (`on_bad_image: fail`), no training image, an unknown class, or the layout is another.
    """
    listing = READERS[params.reader](root, params)
    problems = [*listing.problems, *check_listing(root, listing)]
    listing = wanted(listing, params)
    images, unusable = _looked_at(listing.images, root, problems)
    annotations, misplaced = check_boxes(listing.annotations, images[images["width"] > 0])
    problems += [*unusable, *misplaced]
    images, annotations = without(images, problems), without(annotations, problems)
    with atomic_path(output / "truth") as truth:
        (truth / "masks").mkdir(parents=True)
        annotations, unfit = _write_masks(truth / "masks", listing, images, annotations)
        skipped = report([*problems, *unfit], set_name, params.on_bad_image)
        write_annotations(truth / "annotations.parquet", without(annotations, unfit))
        images = _split(without(images, unfit), params, set_name)
    write_index(
        output / "index.parquet",
        ImageIndex(images[list(INDEX_COLUMNS)], listing.classes, params.name, params.folder),
    )
    write_csv(output / "skipped.csv", skipped)
    if unlisted := int((skipped["reason"] == UNLISTED).sum()):
        print(f"warning: {unlisted} unlisted images in {set_name!r}, see {output / 'skipped.csv'}", file=sys.stderr)


def _split(images: pd.DataFrame, params: DataParams, set_name: str) -> pd.DataFrame:
    images = split_off(images, TEST, params.test_per_class, params.seed)
    images = split_off(images, TRAIN_FULLSUP, params.fullsup_per_class, params.seed)
    if not (images["split"] == TRAIN_WEAKSUP).any():
        raise InputError(f"{set_name}: no training image is left; see data.{set_name} in the parameters")
    return images


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


def _looked_at(images: pd.DataFrame, root: Path, problems: list[Problem]) -> tuple[pd.DataFrame, list[Problem]]:
    """The images inside the root with `digest`, `width` and `height`, and what is wrong with them."""
    outside = {problem.path for problem in problems if problem.reason == OUTSIDE_ROOT}
    inside = images[~images["path"].isin(outside)]
    looks = scan(root, sorted(set(inside["path"])))
    images = inside.merge(looks, on="path", how="left", validate="many_to_one")
    bad = images[images["problem"] != ""]
    return images, [Problem(*row) for row in zip(bad["image_id"], bad["path"], bad["problem"], strict=True)]


def _write_masks(
    masks: Path, listing: Listing, images: pd.DataFrame, annotations: pd.DataFrame
) -> tuple[pd.DataFrame, list[Problem]]:
    """Write the PNGs; in the annotations, `instance` becomes 0 where the mask does not show the object."""
    annotations, problems = annotations.copy(), []
    places = dict(
        zip(images["image_id"], zip(images["path"], images["height"], images["width"], strict=True), strict=True)
    )
    groups = annotations[annotations["instance"] > 0].groupby("image_id")["instance"]
    for name, instances in tqdm(groups, "masks", unit="image", disable=None if len(groups) else True):
        path, *shape = places[name]
        try:
            mask = listing.masks(str(name))
        except Exception:  # a broken file or segmentation can raise anything
            problems.append(Problem(str(name), path, BAD_MASK))
            continue
        if mask is not None and list(mask.shape) != shape:
            problems.append(Problem(str(name), path, OTHER_SIZE))
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
