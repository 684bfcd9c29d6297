"""What is wrong with a data set: every bad image and every bad box together, each with its reason."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS, turn
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_csv
from wsol_core.data.images import SIDEWAYS, is_image_file, stored_orientation
from wsol_core.data.paths import LINKED_OUT, image_id, is_folder, is_inside, leaves_root, passed_over, walk
from wsol_core.datasets.listing import (
    DUPLICATE,
    NAMED,
    NO_IMAGE,
    NO_SUCH_FOLDER,
    OUTSIDE_ROOT,
    DataParams,
    Listing,
    Problem,
)

UNLISTED = "unlisted"
LABEL_RANGE = "label out of range"
BOX_OUTSIDE = "box outside the image"
BOX_OVERHANG = "box reaches outside the image"
EMPTY_BOX = "empty box"
NO_NUMBERS = "box of no four finite numbers"
OTHER_SIZE = "another size than the annotation says"
SWAPPED = "width and height swapped in the annotation"
BEFORE_TURN = "annotated before the turn that EXIF asks for (see swapped_sizes)"

BAD_BOXES = (BOX_OUTSIDE, EMPTY_BOX, NO_NUMBERS)
KEPT = (UNLISTED, NO_IMAGE, NO_SUCH_FOLDER, OTHER_SIZE, BOX_OVERHANG, *BAD_BOXES)
"""Reasons that are listed, but leave an image in."""

TOLERANCE = 1.001


def check_listing(root: Path, listing: Listing, follow_links: bool = False) -> list[Problem]:
    """Duplicate ids (every image that bears one), labels out of range, paths and ids that lead out of the root.

    Of what no row names: images, and links and other things that are no files.
    """
    images, count = listing.images, len(listing.classes)
    wrong = listing.annotations.loc[~listing.annotations["label"].between(0, count - 1), "image_id"]
    in_range = [all(0 <= label < count for label in labels) for labels in images["labels"]]
    names = zip(images["image_id"], images["path"], strict=True)
    climbs = np.array([leaves_root(name) or leaves_root(path) for name, path in names], dtype=bool)
    inside = np.array([is_inside(root, path, follow_links) for path in images["path"]], dtype=bool)
    return [
        *_problems(images[images["image_id"].duplicated(keep=False)], DUPLICATE),
        *_problems(images[~np.array(in_range, dtype=bool) | images["image_id"].isin(wrong)], LABEL_RANGE),
        *_problems(images[~(inside | climbs)], LINKED_OUT),
        *_problems(images[climbs], OUTSIDE_ROOT),
        *_unlisted(root, listing, follow_links),
    ]


def check_sizes(
    listing: Listing, images: pd.DataFrame, root: Path, swapped_sizes: Literal["refuse", "turn"]
) -> tuple[dict[str, int], list[Problem]]:
    """Hold the images' sizes against those that the annotation file gives.

    Args:
        listing: with `sizes`.
        images: `image_id`, `path`, `width`, `height` of readable images.
        root: of the paths.
        swapped_sizes: as in the parameters.

    Returns:
        The EXIF orientation, 5 to 8, of the images whose boxes and masks are to be turned, by id; and the images of
        another size.
    """
    turns: dict[str, int] = {}
    problems: list[Problem] = []
    rows = images[["image_id", "path", "width", "height"]].itertuples(index=False, name=None) if listing.sizes else ()
    for name, path, width, height in rows:
        said = listing.sizes.get(name, (width, height))
        if said == (width, height):
            continue
        orientation = stored_orientation(root / path) if said == (height, width) else 0
        if orientation in SIDEWAYS and swapped_sizes == "turn":
            turns[name] = orientation
        elif orientation:
            problems.append(Problem(name, path, BEFORE_TURN if orientation in SIDEWAYS else SWAPPED))
        else:
            problems.append(Problem(name, path, OTHER_SIZE))
    return turns, problems


def turn_boxes(annotations: pd.DataFrame, turns: dict[str, int], listing: Listing) -> pd.DataFrame:
    """The annotations with the boxes of some images turned as `check_sizes` says."""
    annotations = annotations.copy()
    for name, rows in annotations[annotations["image_id"].isin(turns)].groupby("image_id"):
        boxes = rows[list(BOX_COLUMNS)].to_numpy(np.float32)
        annotations.loc[rows.index, list(BOX_COLUMNS)] = turn(boxes, *listing.sizes[str(name)], turns[str(name)])
    return annotations


def check_boxes(annotations: pd.DataFrame, images: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """Clip boxes to their images, and leave out those of which nothing is left.

    Args:
        annotations: as a listing's.
        images: `image_id`, `path`, `width`, `height`.

    Returns:
        The annotations of these images, boxes cut off at the border, without boxes that are empty, outside or not
        finite; and the images with such a box, or with one that reaches outside. Up to a pixel is rounding (as in CUB
        and ImageNet) and goes without a word.
    """
    sizes = images.drop_duplicates("image_id").set_index("image_id")[["path", "width", "height"]]
    kept = annotations[annotations["image_id"].isin(sizes.index)].reset_index(drop=True)
    of_box = sizes.loc[kept["image_id"]].reset_index()
    boxes = kept[list(BOX_COLUMNS)].to_numpy(np.float32)
    limits = of_box[["width", "height", "width", "height"]].to_numpy(np.float32)
    finite = np.isfinite(boxes).all(axis=1)
    inside = np.all((boxes >= -TOLERANCE) & (boxes <= limits + TOLERANCE), axis=1)
    clipped = np.clip(boxes, 0, limits)
    empty = ~np.all(clipped[:, 2:] > clipped[:, :2], axis=1)
    kept[list(BOX_COLUMNS)] = clipped
    reasons = (
        (~finite, NO_NUMBERS), (finite & inside & empty, EMPTY_BOX), (finite & ~inside & empty, BOX_OUTSIDE),
        (finite & ~inside & ~empty, BOX_OVERHANG),
    )  # fmt: skip
    problems = [problem for rows, reason in reasons for problem in _problems(of_box[rows], reason)]
    return kept[finite & ~empty].reset_index(drop=True), problems


def without(images: pd.DataFrame, problems: Iterable[Problem]) -> pd.DataFrame:
    """The images, or annotations, that have none of `problems`, by id."""
    bad = {problem.image_id for problem in problems if problem.reason not in KEPT}
    return images[~images["image_id"].isin(bad)].reset_index(drop=True)


def same_bytes(images: pd.DataFrame) -> list[tuple[str, str]]:
    """Paths of images that are the same bytes under different labels: of each, the first and another."""
    several = images.loc[images["digest"].duplicated(keep=False) & (images["digest"] != ""), ["digest", "path"]]
    several = several.assign(labels=pd.factorize(images.loc[several.index, "labels"].map(tuple))[0])
    first = several.groupby("digest").transform("first")
    others = several[several["labels"] != first["labels"]].drop_duplicates("digest")
    return sorted(zip(first.loc[others.index, "path"], others["path"], strict=True))


def as_table(problems: Iterable[Problem]) -> pd.DataFrame:
    """The problems as a table `image_id, path, reason`, sorted, each once."""
    rows = sorted(set(problems), key=lambda problem: (problem.path, problem.image_id, problem.reason))
    return pd.DataFrame(rows, columns=list(Problem._fields), dtype=str)


def summary(problems: pd.DataFrame) -> str:
    """How many there are of each reason, and the first five, those that leave an image out before the others."""
    counts = Counter(problems["reason"])
    order = sorted(counts, key=lambda reason: (reason in KEPT, reason))
    first = problems.assign(kept=problems["reason"].isin(KEPT)).sort_values("kept", kind="stable")[:NAMED]
    named = ", ".join(f"{path!r} ({reason})" for path, reason in zip(first["path"], first["reason"], strict=True))
    more = "first " if len(problems) > NAMED else ""
    return f"{', '.join(f'{counts[reason]} {reason}' for reason in order)}; {more}{named}"


def refuse_bad(problems: pd.DataFrame, set_name: str, params: DataParams) -> None:
    """Stop at bad images where the parameters say so.

    Raises:
        InputError: there are some, and `on_bad_image` is `fail`; all problems are in `logs/bad_images_SET.csv`.
    """
    bad = problems[~problems["reason"].isin(KEPT)]
    if bad.empty or params.on_bad_image == "skip":
        return
    log = Path("logs") / f"bad_images_{set_name}.csv"
    write_csv(log, problems)
    raise InputError(
        f"bad images in {set_name!r}: {summary(bad)}; all are in {log}; "
        f"mend them, or set data.{set_name}.on_bad_image to skip"
    )


def _unlisted(root: Path, listing: Listing, follow_links: bool) -> list[Problem]:
    known = set(listing.images["path"]) | {problem.path for problem in listing.problems}
    folders = [folder for folder in listing.folders if not leaves_root(folder) and is_folder(root / folder)]
    found = {path for folder in folders for path in walk(root, folder, follow_links)} - known
    images = [Problem(image_id(path), path, UNLISTED) for path in found if is_image_file(root / path)]
    over = {entry for folder in folders for entry in passed_over(root, folder, follow_links)}
    return images + [Problem(path, path, str(problem)) for path, problem in over if path not in known]


def _problems(images: pd.DataFrame, reason: str) -> list[Problem]:
    return [Problem(name, path, reason) for name, path in zip(images["image_id"], images["path"], strict=True)]
