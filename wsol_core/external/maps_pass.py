"""One pass over somebody's score maps, in which everything is measured that needs the maps themselves."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from wsol_core.core.boxes import BOX_COLUMNS, Boxes
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.core.parallel import in_threads
from wsol_core.core.regions import boxes_at_thresholds
from wsol_core.external.ground_truth import Mask, Truth
from wsol_core.external.score_maps import ScoreMap, ScoreMaps, agnostic, refuse_transposed
from wsol_core.metrics.localization import THRESHOLDS, GroundTruth, best_index, best_iou, gt_known, is_correct
from wsol_core.metrics.max_box import Correct, MaxBoxAcc
from wsol_core.metrics.pixels import PixelScores

RESOLUTION = 224
NOTHING: ScoreMap = np.zeros((1, 1), dtype=np.float32)
"""Stands for a missing map: no box, and scores of 0."""


class _Look(NamedTuple):
    image_id: str
    score_map: ScoreMap | None
    mask: Mask | None
    ious: npt.NDArray[np.float32]
    box: Boxes
    correct: Correct | None


class MapsPass:
    """What one pass over the maps of all images of a ground truth finds.

    An image with one label is held against its map for that label, else its class-agnostic one; an image with several,
    against its class-agnostic one, else the maximum over its maps. Without a map its boxes are empty and its pixels
    score 0. Maps are read one at a time.

    Attributes:
        boxed: which images `(I,)` of the ground truth have a box: N of them.
        truth: their boxes.
        thresholds: `(T,)`, ascending: those of `metrics.localization`, and the chosen one.
        swept: IoU `(N, T)` of the maps' boxes at `thresholds`.
        predicted: the boxes `(N, 4)` at the threshold `chosen`, empty without a map; all empty where it is None.
        max_box: of the images with a box.
        pixels: of the images with a mask.
        masked: number of images with a mask.
        missing: number of images without a map.

    Raises:
        InputError: a map is bad or belongs to no image, an image has two maps, or a map's label is no class.
    """

    def __init__(self, maps: ScoreMaps, truth: Truth, chosen: float | None) -> None:
        self._maps, self._source, self._names = maps, truth, _names_by_image(maps, truth)
        self.boxed = truth.images["image_id"].isin(truth.boxes["image_id"]).to_numpy(bool)
        self.images = truth.images[self.boxed].reset_index(drop=True)
        self.truth = truth_boxes(truth)
        starts = np.flatnonzero(np.diff(self.truth.image, prepend=-1))
        own = np.split(self.truth.boxes, starts[1:])
        self._boxes: dict[str, Boxes] = dict(zip(self.images["image_id"], own, strict=False))
        self.thresholds = THRESHOLDS if chosen is None else np.unique([*THRESHOLDS, chosen])
        self._chosen = None if chosen is None else int(np.searchsorted(self.thresholds, chosen))
        self.swept = np.zeros((len(self.images), len(self.thresholds)), dtype=np.float32)
        self.predicted = np.zeros((len(self.images), 4), dtype=np.float32)
        self.max_box, self.pixels, self.masked = MaxBoxAcc(), PixelScores(), 0
        self.missing = len(truth.images) - len(self._names)
        self._measure()

    def ious(self, threshold: float) -> npt.NDArray[np.float32]:
        """IoU `(N,)` of the images with a box at one of `thresholds`."""
        return self.swept[:, int(np.searchsorted(self.thresholds, threshold))]

    def at(self, threshold: float) -> npt.NDArray[np.bool_]:
        """Which images with a box `(N,)` are right at one of `thresholds`."""
        return is_correct(self.ious(threshold))

    def best_threshold(self) -> float:
        """The best of the usual hundred thresholds."""
        usual = np.searchsorted(self.thresholds, THRESHOLDS)
        return float(THRESHOLDS[best_index(gt_known(self.swept[:, usual]))])

    def _measure(self) -> None:
        position = {name: place for place, name in enumerate(self.images["image_id"])}
        for image_id, score_map, mask, ious, box, correct in self._looks():
            shown = NOTHING if score_map is None else score_map
            if image_id in position:
                self.swept[position[image_id]] = ious
                self.predicted[position[image_id]] = box
            if correct is not None:
                self.max_box.count(correct)
            if mask is not None:
                self.masked += 1
                self.pixels.add(shown, mask, image_id)

    def _looks(self) -> Iterator[_Look]:
        columns = self._source.images[["image_id", "width", "height", "labels"]]
        rows: Iterator[tuple[str, int, int, list[int]]] = columns.itertuples(index=False, name=None)
        yield from tqdm(in_threads(self._look, rows), "maps", len(columns), unit="map", disable=None)

    def _look(self, image_id: str, width: int, height: int, labels: list[int]) -> _Look:
        score_map, ious, box = None, np.zeros(len(self.thresholds), np.float32), np.zeros(4, np.float32)
        correct = None
        if image_id in self._names:
            score_map = agnostic(self._maps, self._names[image_id], labels[0] if len(labels) == 1 else None)
        if score_map is not None:
            place = f"{self._maps.place}: image {self._names[image_id]!r}"
            refuse_transposed(score_map, width, height, place)
        if score_map is not None and image_id in self._boxes:
            predicted = boxes_at_thresholds(score_map, self.thresholds, width, height, RESOLUTION)
            own = GroundTruth(self._boxes[image_id], np.zeros(len(self._boxes[image_id]), dtype=np.intp))
            ious = best_iou(predicted[None], own)[0]
            box = box if self._chosen is None else predicted[self._chosen]
        if image_id in self._boxes:
            shown = NOTHING if score_map is None else score_map
            correct = self.max_box.measure(shown, self._boxes[image_id], width, height, image_id)
        return _Look(image_id, score_map, self._source.mask(image_id), ious, box, correct)


def truth_boxes(truth: Truth) -> GroundTruth:
    """The boxes of those images that have one, in the images' order."""
    boxed = truth.images.loc[truth.images["image_id"].isin(truth.boxes["image_id"]), "image_id"]
    position = {name: place for place, name in enumerate(boxed)}
    image = truth.boxes["image_id"].map(position).to_numpy(np.intp)
    return GroundTruth(truth.boxes[list(BOX_COLUMNS)].to_numpy(np.float32), image)


def _names_by_image(maps: ScoreMaps, truth: Truth) -> dict[str, str]:
    """The source's name of each image that has a map."""
    names: dict[str, str] = {}
    for name, image_id in zip(maps.names, truth.names.find_all(maps.names, maps.place), strict=True):
        if image_id in truth.elsewhere:
            continue
        if image_id in names:
            raise InputError(f"{maps.place}: {names[image_id]!r} and {name!r} are both maps of image {image_id!r}")
        names[image_id] = name
        if wrong := [label for label in maps.labels(name) if not CLASS_AGNOSTIC <= label < len(truth.classes)]:
            raise InputError(f"{maps.place}: image {name!r} has a map for {wrong[0]}, which is no class number")
    return names
