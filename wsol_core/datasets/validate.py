"""What is wrong with a data set: every bad image together, each with its reason."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_csv
from wsol_core.data.images import SUFFIXES
from wsol_core.data.paths import image_id, is_inside, walk
from wsol_core.datasets.listing import DUPLICATE, OUTSIDE_ROOT, Listing, Problem

UNLISTED = "unlisted"
LABEL_RANGE = "label out of range"
BOX_OUTSIDE = "box outside the image"
BOX_OVERHANG = "box reaches outside the image"
EMPTY_BOX = "empty box"

KEPT = (UNLISTED, BOX_OVERHANG)
"""Reasons that are listed, but leave an image in."""

TOLERANCE = 1.001
NAMED = 5


def check_listing(root: Path, listing: Listing) -> list[Problem]:
    """Duplicate ids (every image that bears one), labels out of range, paths outside the root; unlisted images."""
    images, count = listing.images, len(listing.classes)
    wrong = listing.annotations.loc[~listing.annotations["label"].between(0, count - 1), "image_id"]
    in_range = [all(0 <= label < count for label in labels) for labels in images["labels"]]
    inside = [is_inside(root, path) for path in images["path"]]
    return [
        *_problems(images[images["image_id"].duplicated(keep=False)], DUPLICATE),
        *_problems(images[~np.array(in_range, dtype=bool) | images["image_id"].isin(wrong)], LABEL_RANGE),
        *_problems(images[~np.array(inside, dtype=bool)], OUTSIDE_ROOT),
        *_unlisted(root, listing),
    ]


def check_boxes(annotations: pd.DataFrame, images: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """Clip boxes to their images.

    Args:
        annotations: as a listing's.
        images: `image_id`, `path`, `width`, `height`.

    Returns:
        The annotations of these images, boxes cut off at the border, and the images with a box that is empty, lies
        outside or reaches outside. Up to a pixel is rounding (as in CUB and ImageNet) and goes without a word.
    """
    sizes = images.drop_duplicates("image_id").set_index("image_id")[["path", "width", "height"]]
    kept = annotations[annotations["image_id"].isin(sizes.index)].reset_index(drop=True)
    of_box = sizes.loc[kept["image_id"]].reset_index()
    boxes = kept[list(BOX_COLUMNS)].to_numpy(np.float32)
    limits = of_box[["width", "height", "width", "height"]].to_numpy(np.float32)
    inside = np.all((boxes >= -TOLERANCE) & (boxes <= limits + TOLERANCE), axis=1)
    clipped = np.clip(boxes, 0, limits)
    empty = ~np.all(clipped[:, 2:] > clipped[:, :2], axis=1)
    kept[list(BOX_COLUMNS)] = clipped
    reasons = ((inside & empty, EMPTY_BOX), (~inside & empty, BOX_OUTSIDE), (~inside & ~empty, BOX_OVERHANG))
    return kept, [problem for rows, reason in reasons for problem in _problems(of_box[rows], reason)]


def without(images: pd.DataFrame, problems: Iterable[Problem]) -> pd.DataFrame:
    """The images, or annotations, that have none of `problems`, by id."""
    bad = {problem.image_id for problem in problems if problem.reason not in KEPT}
    return images[~images["image_id"].isin(bad)].reset_index(drop=True)


def report(problems: Iterable[Problem], set_name: str, on_bad_image: Literal["fail", "skip"]) -> pd.DataFrame:
    """The problems as a table `image_id, path, reason`, sorted.

    Raises:
        InputError: there are bad images and `on_bad_image` is `fail`; they are all in `logs/bad_images_SET.csv`.
            An unlisted image is no bad image. With `skip`, one whose box reaches outside is listed, yet stays in.
    """
    rows = sorted(set(problems), key=lambda problem: (problem.path, problem.image_id, problem.reason))
    table = pd.DataFrame(rows, columns=list(Problem._fields), dtype=str)
    bad = [problem for problem in rows if problem.reason != UNLISTED]
    if not bad or on_bad_image == "skip":
        return table
    log = Path("logs") / f"bad_images_{set_name}.csv"
    write_csv(log, table)
    counts = ", ".join(f"{number} {reason}" for reason, number in sorted(Counter(p.reason for p in bad).items()))
    named = ", ".join(f"{problem.path!r} ({problem.reason})" for problem in bad[:NAMED])
    raise InputError(
        f"bad images in {set_name!r}: {counts}; {'first ' if len(bad) > NAMED else ''}{named}; all are in {log}; "
        f"mend them, or set data.{set_name}.on_bad_image to skip"
    )


def _unlisted(root: Path, listing: Listing) -> list[Problem]:
    known = set(listing.images["path"])
    folders = [folder for folder in listing.folders if (root / folder).is_dir()]
    found = {path for folder in folders for path in walk(root, folder)} - known
    return [Problem(image_id(path), path, UNLISTED) for path in found if Path(path).suffix.lower() in SUFFIXES]


def _problems(images: pd.DataFrame, reason: str) -> list[Problem]:
    return [Problem(name, path, reason) for name, path in zip(images["image_id"], images["path"], strict=True)]
