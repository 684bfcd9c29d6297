"""The data sets: found, read, counted, and a few images decoded."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from wsol_core.configuration.parameters import Parameters
from wsol_core.core.errors import InputError
from wsol_core.data.images import decode_squashed
from wsol_core.data.index import TEST, TRAIN_FULLSUP, TRAIN_WEAKSUP
from wsol_core.data.paths import is_inside
from wsol_core.data.roots import find_root
from wsol_core.datasets.listing import DataParams, Listing
from wsol_core.datasets.prepare import READERS, split_off, wanted
from wsol_core.datasets.scenes import DemoParams
from wsol_core.datasets.validate import KEPT, check_listing
from wsol_core.doctor.finding import Finding, tried
from wsol_core.methods.bcct.surroundings import folders_of_classes

SAMPLE = 16
"""Images that are decoded, spread over the set."""
SIDE = 224
DECODING = 0.003
"""Seconds for an image of the demo, which is not rendered yet."""
NAMED = 5
LOCALIZATION, BACKGROUND = "localization", "background"


@dataclass(frozen=True)
class Extent:
    """How much there is of a set.

    Attributes:
        images: of all splits.
        train: of train-weaksup.
        held_out: of train-fullsup.
        classes: their names.
        labels: classes per image, on average.
        decoding: seconds per image on one core.
        sample: an image to measure on, or None.
    """

    images: int
    train: int
    held_out: int
    classes: tuple[str, ...]
    labels: float
    decoding: float
    sample: Path | None


def check_data(params: Parameters, made: Sequence[str]) -> tuple[dict[str, Extent], list[Finding]]:
    """What there is of each data set of the parameters.

    Args:
        params: the parameters.
        made: files that stages make, which need not be there yet.
    """
    extents: dict[str, Extent] = {}
    findings: list[Finding] = []
    for key, block in params.data.items():
        if block.folder in made and not Path(block.folder).is_dir():
            extents[key] = _to_be_rendered(params.demo, key)
            text = f"{key}: {extents[key].images} images, which the pipeline renders first"
            findings.append(Finding("note", "data", text))
            continue
        classes = extents[LOCALIZATION].classes if key == BACKGROUND and LOCALIZATION in extents else ()
        found, wrong = tried("data", lambda: _check_set(key, block, classes))  # noqa: B023
        findings += wrong
        if found is not None:
            extents[key] = found[0]
            findings += found[1]
    return extents, findings


def _to_be_rendered(demo: DemoParams, key: str) -> Extent:
    if key == BACKGROUND:
        return Extent(demo.backgrounds, demo.backgrounds, 0, (), 0.0, DECODING, None)
    images = getattr(demo, key)
    count = images.train_weaksup + images.train_fullsup + images.test
    labels = sum(images.objects) / 2
    return Extent(count, images.train_weaksup, images.train_fullsup, images.classes, labels, DECODING, None)


def _check_set(key: str, params: DataParams, foreign: Sequence[str]) -> tuple[Extent, list[Finding]]:
    """Extent and findings of a set, in which no folder should bear the name of a class that is `foreign` to it."""
    root = Path(params.folder) if params.folder else find_root(params.name)
    if not root.is_dir():
        raise InputError(f"data.{key}.source: no folder {params.folder!r} in the project; mend it")
    listing = READERS[params.reader](root, params)
    problems = [*listing.problems, *check_listing(root, listing, params.follow_links)]
    listing = wanted(listing, params)
    if listing.images.empty:
        raise InputError(f"data.{key}: the reader {params.reader!r} finds no image in {root}; see reader and classes")
    images = split_off(listing.images, TEST, params.test_per_class, params.seed)
    images = split_off(images, TRAIN_FULLSUP, params.fullsup_per_class, params.seed)
    seconds, broken, sample = _decode_some(root, images, params)
    splits = images["split"].value_counts()
    extent = Extent(
        len(images), int(splits.get(TRAIN_WEAKSUP, 0)), int(splits.get(TRAIN_FULLSUP, 0)), listing.classes,
        float(np.mean([len(row) for row in images["labels"]])), seconds, sample,
    )  # fmt: skip
    bad = [f"{each.path} ({each.reason})" for each in problems if each.reason not in KEPT] + broken
    return extent, [
        Finding("note", "data", _described(key, root, listing, images)),
        *_check_labels(key, listing, images),
        *_check_bad(key, params, bad),
        *_check_folders(key, images, foreign),
    ]


def _decode_some(root: Path, images: pd.DataFrame, params: DataParams) -> tuple[float, list[str], Path | None]:
    """Seconds per image, which ones are broken, and one that is not."""
    places = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(int))
    paths = [path for path in images["path"].iloc[places] if is_inside(root, path, params.follow_links)]
    broken, whole = [], []
    start = time.perf_counter()
    for path in paths:
        try:
            decode_squashed(root / path, SIDE, SIDE, "bicubic", params.max_pixels)
            whole.append(root / path)
        except InputError as error:
            broken.append(str(error).split(";")[0])
    return (time.perf_counter() - start) / max(1, len(paths)), broken, whole[len(whole) // 2] if whole else None


def _described(key: str, root: Path, listing: Listing, images: pd.DataFrame) -> str:
    counts = Counter(label for labels in images["labels"] for label in labels)
    splits = ", ".join(f"{count} {name}" for name, count in images["split"].value_counts().sort_index().items())
    truth = listing.annotations["image_id"].nunique()
    known = f"{truth} with ground truth" if truth else "no ground truth, so evaluation is skipped"
    spread = f"{min(counts.values())} to {max(counts.values())} images each" if counts else "none of them shown"
    head = f"{key}: {len(images)} images in {root} ({splits})"
    return f"{head}, {len(listing.classes)} classes, {spread}, {known}" if listing.classes else head


def _check_labels(key: str, listing: Listing, images: pd.DataFrame) -> list[Finding]:
    findings = []
    shown = {label for labels in images.loc[images["split"] == TRAIN_WEAKSUP, "labels"] for label in labels}
    if empty := [name for label, name in enumerate(listing.classes) if label not in shown]:
        text = f"{key}: no training image of {_some(empty)}; add images, or leave the class out with data.{key}.classes"
        findings.append(Finding("warning", "data", text))
    wrong = images.loc[images["labels"].map(len) != 1, "image_id"].tolist() if key == LOCALIZATION else []
    if wrong:
        text = (
            f"{key}: {_some(wrong)}: not exactly one label, which localization needs; take them out, or use detection"
        )
        findings.append(Finding("error", "data", text))
    if key == LOCALIZATION and not (images["split"] == TRAIN_WEAKSUP).any():
        findings.append(Finding("error", "data", f"{key}: no image to train on; see data.{key}"))
    return findings


def _check_bad(key: str, params: DataParams, bad: Sequence[str]) -> list[Finding]:
    if not bad:
        return []
    if params.on_bad_image == "skip":
        return [Finding("warning", "data", f"{key}: bad images: {_some(bad)}; they will be left out")]
    text = f"{key}: bad images: {_some(bad)}; mend them, or set data.{key}.on_bad_image to skip"
    return [Finding("error", "data", text)]


def _check_folders(key: str, images: pd.DataFrame, foreign: Sequence[str]) -> list[Finding]:
    known = folders_of_classes(images["path"].tolist(), foreign)
    text = f"{key}: images in folders named as classes: {_some(known)}; take those out that show one"
    return [Finding("warning", "data", text)] if known else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more
