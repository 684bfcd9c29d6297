"""Per-class heat maps held against masks and boxes: saliency, locations, distance of peaks (Two-Phase 5 and 6)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, IGNORE, MapStore
from wsol_core.data.class_masks import ClassMasks, boxes_mask
from wsol_core.data.index import SPLITS, ImageIndex
from wsol_core.evaluation.figures import rounded
from wsol_core.metrics.max_box import as_scores
from wsol_core.metrics.saliency import SaliencyAP, centre_points, peak, peak_distance, point_map

COLUMNS = ("split", "store", "class", "images", "truth", "saliency_ap", "point_ap", "point_ap_centre")
POINT_TYPES = {"image_id": "object", "x": "int64", "y": "int64", "score": "float64", "label": "int64"}

Masks = Mapping[int, npt.NDArray[np.uint8]]
"""By label, what an image shows of the class: 1, elsewhere 0, 255 where a pixel does not count."""


@dataclass(frozen=True)
class _Truth:
    """One split: its images with objects, their objects, and the masks that saliency is held against."""

    images: pd.DataFrame
    objects: pd.DataFrame
    masks: ClassMasks | None

    def looks(self, split: str) -> Iterator[tuple[str, int, int, list[int], Masks]]:
        """Id, width, height, labels and masks of each image."""
        by_image = dict(iter(self.objects.groupby("image_id")))
        columns = self.images[["image_id", "width", "height"]].itertuples(index=False, name=None)
        for image_id, width, height in tqdm(columns, split, len(self.images), unit="image", disable=None):
            objects = by_image[image_id]
            labels = sorted(set(objects["label"].tolist()))
            yield image_id, width, height, labels, self._masks(image_id, width, height, objects, labels)

    def _masks(self, image_id: str, width: int, height: int, objects: pd.DataFrame, labels: list[int]) -> Masks:
        if self.masks is None:
            boxes = {label: objects.loc[objects["label"] == label, list(BOX_COLUMNS)] for label in labels}
            return {label: boxes_mask(own.to_numpy(), width, height) for label, own in boxes.items()}
        if image_id not in self.masks:
            return {}
        mask = self.masks.read(image_id)
        shown = [label for label in labels if (mask == label + 1).any()]
        return {label: np.where(mask == IGNORE, IGNORE, mask == label + 1).astype(np.uint8) for label in shown}


class _StoreScores:
    """Collects what one store comes to on one split."""

    def __init__(self, store: MapStore) -> None:
        self._store = store
        self._labels: dict[str, list[int]] = {}
        for image_id, label in zip(store.image_ids, store.labels.tolist(), strict=True):
            self._labels.setdefault(image_id, []).append(label)
        self._points: list[tuple[str, int, int, float, int]] = []
        self.saliency = SaliencyAP()
        self.absent = 0

    def has_map(self, images: pd.DataFrame) -> bool:
        """Whether the store has a map of any of these images."""
        return bool(images["image_id"].isin(self._labels).any())

    def add(self, image_id: str, width: int, height: int, labels: list[int], masks: Masks) -> None:
        """Add the maps of one image: those of the classes that it shows, and those that the store has beyond."""
        others = set(self._labels.get(image_id, ())) - {*labels, CLASS_AGNOSTIC}
        self.absent += len(others)
        for label in (*labels, *sorted(others)):
            found = self._store.find(image_id, label)
            scores = np.zeros((height, width), np.float32)
            if found is not None:
                scores = as_scores(found, f"{self._store.path}: {image_id}", (height, width))
                self._points.append((image_id, *peak(scores, width, height, image_id), label))
            if label in masks:
                self.saliency.add(scores, masks[label], label, image_id)

    def points(self) -> pd.DataFrame:
        """The peaks, as `metrics.saliency.point_map` takes them."""
        return pd.DataFrame(self._points, columns=list(POINT_TYPES)).astype(POINT_TYPES)


def evaluate(
    stores: Mapping[str, MapStore], index: ImageIndex, annotations: pd.DataFrame, masks: Path
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The figures of several stores of per-class maps, such as the phases', on every split with annotated images.

    A class that an image shows and a store has no map for is taken to have a map of zeros in `saliency_ap`, and no
    point; a split of which a store has no map is left out for it. A class-agnostic map stands for each class that its
    image shows. In `point_map` all maps count, also of classes that an image does not show (the paper does not say
    whether its do; `maps_of_absent_classes` tells), each ranked by its maximum: where that is to be the class's
    probability, the store must hold the maps times it.

    Args:
        stores: by name.
        index: the images.
        annotations: ground truth; images without an object do not count.
        masks: folder of the objects' masks, see `ClassMasks`.

    Returns:
        By split: `stores`, by name `saliency_ap` (against masks, over the images that have one; None where the split
        has none), `saliency_ap_boxes` (against boxes, where the split has no mask; else None), `saliency_pairs` (of map
        and mask), `point_map`, `point_map_centre`, `maps_of_absent_classes`; `peak_distance`, for two stores `A to B`
        `pixels`, `diagonals` and `pairs`; `images`. And a row per split, store and class in `COLUMNS`: `images`
        show the class, `truth` says whether saliency is held against `masks` or `boxes`.

    Raises:
        InputError: a store has a map of an unknown image or class, or a map or mask is bad.
    """
    for store in stores.values():
        unknown = store.image_ids[~np.isin(store.image_ids, index.table["image_id"].to_numpy(object))]
        if len(unknown):
            raise InputError(f"{store.path}: image {unknown[0]!r} is not in the index; make the maps again")
    truth_masks = ClassMasks(masks, index, annotations)
    figures: dict[str, Any] = {}
    tables = []
    for split in SPLITS:
        images = index.split(split)
        images = images[images["image_id"].isin(annotations["image_id"])]
        objects = annotations[annotations["image_id"].isin(images["image_id"])]
        masked = images["image_id"].isin(truth_masks.images["image_id"]).any()
        truth = _Truth(images, objects, truth_masks if masked else None)
        scores = {name: _StoreScores(store) for name, store in stores.items()}
        scores = {name: own for name, own in scores.items() if own.has_map(images)}
        if scores:
            figures[split], own_tables = _measure(split, scores, truth, index.classes)
            tables += own_tables
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
    return rounded(figures), table


def _measure(
    split: str, scores: Mapping[str, _StoreScores], truth: _Truth, classes: tuple[str, ...]
) -> tuple[dict[str, Any], list[pd.DataFrame]]:
    for look in truth.looks(split):
        for own in scores.values():
            own.add(*look)
    points = {name: own.points() for name, own in scores.items()}
    found = [_figures(own, points[name], truth, len(classes)) for name, own in scores.items()]
    tables = [
        table.assign(split=split, store=name, **{"class": classes})[list(COLUMNS)]
        for name, (_, table) in zip(scores, found, strict=True)
    ]
    shown = truth.objects[["image_id", "label"]].drop_duplicates()
    present = {name: own.merge(shown, on=["image_id", "label"]) for name, own in points.items()}
    distances = {
        f"{first} to {second}": vars(peak_distance(present[first], present[second], truth.images))
        for first, second in combinations(present, 2)
    }
    by_store = {name: own for name, (own, _) in zip(scores, found, strict=True)}
    return {"stores": by_store, "peak_distance": distances, "images": len(truth.images)}, tables


def _figures(
    scores: _StoreScores, points: pd.DataFrame, truth: _Truth, classes: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The figures of one store on one split, and its table by class."""
    saliency = scores.saliency.figures()
    located = point_map(points, truth.objects, classes)
    centre = point_map(centre_points(points, truth.images), truth.objects, classes)
    figures = {
        "saliency_ap": None if truth.masks is None else saliency.saliency_ap,
        "saliency_ap_boxes": saliency.saliency_ap if truth.masks is None else None,
        "saliency_pairs": saliency.pairs,
        "point_map": located.mean,
        "point_map_centre": centre.mean,
        "maps_of_absent_classes": scores.absent,
    }
    shown = truth.objects.drop_duplicates(["image_id", "label"])["label"]
    table = pd.DataFrame({
        "images": np.bincount(shown, minlength=classes),
        "truth": "boxes" if truth.masks is None else "masks",
        "saliency_ap": [saliency.per_class.get(label, np.nan) for label in range(classes)],
        "point_ap": [located.per_class[label] for label in range(classes)],
        "point_ap_centre": [centre.per_class[label] for label in range(classes)],
    })  # fmt: skip
    return figures, table
