"""Segmentation figures of anybody's label masks, and of anybody's per-class saliency maps."""

from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import IGNORE
from wsol_core.data.label_masks import LabelMasks, Labels
from wsol_core.external.names import ImageNames
from wsol_core.external.report import Outcome
from wsol_core.external.score_maps import ScoreMaps
from wsol_core.metrics.saliency import SaliencyAP
from wsol_core.metrics.segmentation import Confusion, SeedFigures, SeedScores

BACKGROUND = 0


def evaluate_masks(
    predicted: LabelMasks | None,
    truth: LabelMasks,
    classes: tuple[str, ...],
    maps: ScoreMaps | None = None,
    seeds: LabelMasks | None = None,
) -> Outcome:
    """Mean IoU (VOC protocol), precision and recall of seeds, and the average precision of per-class saliency maps.

    All masks of `truth` count. Without a prediction every pixel of an image is wrong, its background too; without seeds
    none of its pixels is found.

    Args:
        predicted: masks with the same names and sizes; None leaves mIoU out.
        truth: masks; 255 is ignored.
        classes: names by number in the masks, 0 the background.
        maps: maps per class, label k for class k + 1 of the masks (a map store numbers classes without background);
            only those of classes that an image shows are looked at. None leaves `saliency_ap` out.
        seeds: masks in which 255 is no seed; None leaves `seed_precision` and `seed_recall` out.

    Raises:
        InputError: a mask or map is damaged, belongs to no image, or has another size or an unknown class.
    """
    figures: dict[str, Any] = dict.fromkeys(("miou", "seed_precision", "seed_recall", "saliency_ap"))
    notes: dict[str, str] = {}
    counts = {"images": len(truth)}
    table = pd.DataFrame({"number": range(len(classes)), "class": classes})
    if predicted is None:
        notes["miou"] = "give --masks"
    else:
        ious = _ious(predicted, truth, classes)
        table["iou"] = ious
        figures["miou"] = float(np.nanmean(ious)) if not np.isnan(ious).all() else None
        counts["images_without_prediction"] = len(truth) - len(predicted)
    if seeds is None:
        notes |= dict.fromkeys(("seed_precision", "seed_recall"), "give --seeds")
    else:
        cues = _seeds(seeds, truth, classes)
        figures |= {"seed_precision": cues.precision, "seed_recall": cues.recall}
        table["seed_precision"] = [cues.precision_per_class[number] for number in range(len(classes))]
        table["seed_recall"] = [cues.recall_per_class[number] for number in range(len(classes))]
    if maps is None:
        notes["saliency_ap"] = "give --maps"
    else:
        found = _saliency(maps, truth, classes)
        figures["saliency_ap"], counts["saliency_maps"] = found.saliency_ap, found.pairs
        table["saliency_ap"] = [found.per_class.get(number, np.nan) for number in range(len(classes))]
    return Outcome(f"segmentation of {len(truth)} images", figures, counts, notes, {"classes": table})


def predicted_masks(
    truth: LabelMasks, predicted: LabelMasks | None, seeds: LabelMasks | None, maps: ScoreMaps | None
) -> LabelMasks:
    """The true masks of the images for which a mask, seeds or a map are given.

    Raises:
        InputError: one of these belongs to no image.
    """
    names = ImageNames(truth.image_ids)
    given = [(masks.image_ids, masks.root) for masks in (predicted, seeds) if masks is not None]
    if maps is not None:
        given.append((list(maps.names), maps.place))
    return truth.only({name for own, place in given for name in names.find_all(own, place)})


def numbered_classes(truth: LabelMasks) -> tuple[str, ...]:
    """Class names where nobody gave any: the numbers from 0 to the greatest in the true masks."""
    greatest = BACKGROUND
    for name in tqdm(truth, "classes", unit="mask", disable=None):
        labels = truth.read(name)
        greatest = max(greatest, int(labels[labels != IGNORE].max(initial=0)))
    return tuple(str(number) for number in range(greatest + 1))


def _ious(predicted: LabelMasks, truth: LabelMasks, classes: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """IoU per class; one more class, which the truth never shows, stands for pixels without a prediction."""
    found = _by_image(predicted, truth)
    nothing = len(classes)
    confusion = Confusion(nothing + 1)
    for name in tqdm(truth, "masks", unit="mask", disable=None):
        own = _known(truth.read(name), classes, truth, name)
        labels = None if name not in found else _fitting(predicted, found[name], own, classes)
        confusion.add(np.full(own.shape, nothing) if labels is None else labels.astype(np.int64), own, name)
    per_class = confusion.figures().per_class
    return np.array([per_class[number] for number in range(nothing)], dtype=np.float64)


def _seeds(seeds: LabelMasks, truth: LabelMasks, classes: tuple[str, ...]) -> SeedFigures:
    found = _by_image(seeds, truth)
    scores = SeedScores(len(classes))
    for name in tqdm(truth, "seeds", unit="mask", disable=None):
        own = _known(truth.read(name), classes, truth, name)
        labels = None if name not in found else _fitting(seeds, found[name], own, classes)
        scores.add(np.full_like(own, IGNORE) if labels is None else labels, own, name)
    return scores.figures()


def _fitting(masks: LabelMasks, name: str, truth: Labels, classes: tuple[str, ...]) -> Labels:
    """A mask of known classes and of the truth's size."""
    labels = _known(masks.read(name), classes, masks, name)
    if labels.shape != truth.shape:
        word = "transposed: " if labels.shape == truth.shape[::-1] else ""
        raise InputError(
            f"{masks.path(name)}: {word}{labels.shape[1]}x{labels.shape[0]} pixels, but the ground truth "
            f"has {truth.shape[1]}x{truth.shape[0]}; masks have the size of the original image"
        )
    return labels


def _by_image(predicted: LabelMasks, truth: LabelMasks) -> dict[str, str]:
    found = ImageNames(truth.image_ids).find_all(predicted.image_ids, predicted.root)
    by_image: dict[str, str] = {}
    for image_id, name in zip(found, predicted.image_ids, strict=True):
        if image_id in by_image:
            raise InputError(f"{predicted.path(name)}: image {image_id!r} has a second mask; remove one")
        by_image[image_id] = name
    return by_image


def _known(labels: Labels, classes: tuple[str, ...], masks: LabelMasks, name: str) -> Labels:
    wrong = labels[(labels >= len(classes)) & (labels != IGNORE)]
    if wrong.size:
        raise InputError(
            f"{masks.path(name)}: holds class {wrong.flat[0]}, but classes go from 0 to {len(classes) - 1}"
        )
    return labels


def _saliency(maps: ScoreMaps, truth: LabelMasks, classes: tuple[str, ...]) -> Any:
    scores = SaliencyAP()
    found = ImageNames(truth.image_ids).find_all(maps.names, maps.place)
    for name, image_id in zip(tqdm(maps.names, "saliency", unit="image", disable=None), found, strict=True):
        own = _known(truth.read(image_id), classes, truth, image_id)
        for label in maps.labels(name):
            number = label + 1
            if not BACKGROUND < number < len(classes):
                raise InputError(f"{maps.place}: image {name!r} has a map for {label}, which is no class number")
            if (own == number).any():
                mask = np.where(own == IGNORE, IGNORE, own == number).astype(np.uint8)
                scores.add(maps.read(name, label), mask, number, f"{maps.place}: {name}")
    return scores.figures()
