"""Maps to boxes: those of each map at the chosen threshold, and the IoU of the boxes at many thresholds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, TypeAdapter
from tqdm import tqdm

from wsol_core.core.boxes import BOX_COLUMNS, Boxes
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, MapStore
from wsol_core.core.parallel import in_threads
from wsol_core.core.params import Block
from wsol_core.core.regions import OtsuScale, Scale, boxes_at_thresholds, is_otsu, map_box, map_boxes, rescale, upsample
from wsol_core.core.texts import read_json
from wsol_core.data.index import ImageIndex
from wsol_core.metrics.localization import GroundTruth, best_iou

FloatArray = npt.NDArray[np.floating]
CalibratedBy = Literal["pseudo_boxes", "labels", "constant", OtsuScale]


class LocalizeParams(Block):
    """How a map becomes boxes."""

    resolution: int = Field(default=224, ge=1, le=2048)
    """Side in pixels of the square grid on which maps are thresholded and components found (224 in the papers)."""
    scale: Scale = "value"
    """What is held against the threshold: scores as they are (`value`), as shares of the map's maximum (`maximum`), as
    the share of the map's pixels that are lower (`percentile`), or relative to the map's own threshold of Otsu
    (`otsu`, which stands at .5) or to that of the scores' square roots (`otsu_root`) or logits (`otsu_logit`). Methods
    that are calibrated by one of the three have that scale whatever stands here."""
    components: Literal["largest", "all"] = "largest"
    """One box per map, of the largest component; or one for each component (several objects in an image)."""
    min_area: float = Field(default=0.01, ge=0, le=1)
    """With `all`: components smaller than this share of the image are left out."""


@dataclass(frozen=True)
class Threshold:
    """Where a method's maps are cut, as `calibrate` chose it.

    Attributes:
        value: in [0, 1]; at 1 nothing is cut out.
        scale: what is held against it, see `regions.rescale`.
        calibrated_by: what it was chosen by, see `calibrate.MethodParams`.

    Raises:
        InputError: the value lies elsewhere, or is no number.
    """

    value: float
    scale: Scale = "value"
    calibrated_by: CalibratedBy = "pseudo_boxes"

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise InputError(f"threshold {self.value:g}: must lie in [0, 1)")


@dataclass(frozen=True)
class Targets:
    """Images, and the boxes that their localization is held against: ground truth, or pseudo boxes to calibrate on.

    Attributes:
        images: columns `image_id`, `width`, `height`, `label` (the image's one label), sorted by id.
        truth: their boxes.
    """

    images: pd.DataFrame
    truth: GroundTruth

    def boxes_by_image(self) -> list[Boxes]:
        """The boxes `(G, 4)` of each image."""
        starts = np.flatnonzero(np.diff(self.truth.image, prepend=-1))
        return np.split(self.truth.boxes, starts[1:])


_THRESHOLD = TypeAdapter(Threshold)
_Row = tuple[int, str, int, int, int]

Visitor = Callable[[int, FloatArray | None], None]
"""Takes the position of an image among the targets and its map `(h, w)`, or None where it has none."""


def find_targets(index: ImageIndex, boxes: pd.DataFrame, split: str) -> Targets:
    """The images of `split` that have a box in `boxes` with their own label (or class-agnostic), and these boxes.

    Raises:
        InputError: an image of the index has none or several labels.
    """
    images = index.single_label().split(split)[["image_id", "width", "height", "labels"]]
    images = images.assign(label=[int(labels[0]) for labels in images.pop("labels")])
    pairs = images[["image_id", "label"]].merge(boxes, on="image_id", suffixes=("", "_of_box"))
    pairs = pairs[(pairs["label_of_box"] == pairs["label"]) | (pairs["label_of_box"] == CLASS_AGNOSTIC)]
    pairs = pairs.sort_values("image_id", kind="stable")
    image, ids = pd.factorize(pairs["image_id"])
    truth = GroundTruth(pairs[list(BOX_COLUMNS)].to_numpy(np.float32), image)
    return Targets(images[images["image_id"].isin(ids)].reset_index(drop=True), truth)


def sweep(
    store: MapStore,
    targets: Targets,
    thresholds: FloatArray,
    resolution: int,
    title: str,
    visitor: Visitor | None = None,
    scale: Scale = "value",
) -> npt.NDArray[np.float32]:
    """IoU `(N, T)` with their targets of the boxes that N images' maps give at each of T ascending thresholds.

    The boxes are those of the largest component, at thresholds of `scale`, see `regions.rescale`.
    A map is read, upsampled and swept at once, so memory is bounded by the result. An image's map is the one of its
    label, else its class-agnostic one; without a map its IoU is 0 at every threshold. What else is to be measured of
    the rescaled maps, a `visitor` does in the same pass; it is called from several threads, in any order. It gets maps
    in the store's resolution, those of a scale of Otsu's in the one that their threshold is found in.
    """
    boxes = targets.boxes_by_image()
    ious = np.zeros((len(targets.images), len(thresholds)), dtype=np.float32)

    def fill(position: int, image_id: str, width: int, height: int, label: int) -> None:
        score_map = store.find(image_id, label)
        if score_map is not None and is_otsu(scale):
            score_map = upsample(score_map, resolution, resolution)
        if visitor is not None:
            visitor(position, None if score_map is None else rescale(score_map, scale))
        if score_map is None:
            return
        predicted = boxes_at_thresholds(score_map, thresholds, width, height, resolution, scale)
        truth = GroundTruth(boxes[position], np.zeros(len(boxes[position]), dtype=np.intp))
        ious[position] = best_iou(predicted[None], truth)[0]

    rows: Iterable[_Row] = targets.images.itertuples(name=None)
    for _ in tqdm(in_threads(fill, rows), title, len(targets.images), unit="map", disable=None):
        pass
    return ious


def check_chosen(threshold: float | None) -> None:
    """Check a threshold that somebody chose; None for none.

    Raises:
        InputError: it is not in [0, 1).
    """
    if threshold is not None and not 0 <= threshold < 1:
        raise InputError(f"threshold {threshold:g}: must lie in [0, 1)")


def read_calibration(path: Path) -> Threshold:
    """The threshold that `calibrate` wrote: a JSON file `{"threshold": .., "scale": .., "calibrated_by": ..}`.

    Raises:
        InputError: the file is missing or holds no threshold.
    """
    try:
        found = read_json(path, "its text")
        return _THRESHOLD.validate_python({
            "value": found["threshold"], "scale": found["scale"], "calibrated_by": found["calibrated_by"]
        })  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        raise InputError(f"{path}: no threshold in it ({error}); run calibrate again") from error


def localize(
    store: MapStore,
    index: ImageIndex,
    threshold: float,
    resolution: int,
    scale: Scale = "value",
    components: Literal["largest", "all"] = "largest",
    min_area: float = 0.0,
) -> pd.DataFrame:
    """The boxes of the store's maps, in its order: a table of boxes. The parameters are those of `LocalizeParams`.

    With `largest` there is one box per map, whose `score` is the map's maximum. With `all` there are one or more, best
    first, scored by `regions.map_boxes`; so the box of an image where only one counts is the first.

    Raises:
        InputError: the store has a map of an image that is not in the index.
    """
    sizes = dict(
        zip(index.table["image_id"], zip(index.table["width"], index.table["height"], strict=True), strict=True)
    )
    unknown = [image_id for image_id in store.image_ids if image_id not in sizes]
    if unknown:
        raise InputError(f"{store.path}: image {unknown[0]!r} is not in the index; make the maps again")

    def find(row: int) -> tuple[Boxes, npt.NDArray[np.float32]]:
        score_map = store[row]
        width, height = sizes[store.image_ids[row]]
        if components == "all":
            return map_boxes(score_map, threshold, width, height, resolution, scale, min_area)
        return map_box(score_map, threshold, width, height, resolution, scale)[None], score_map.max(keepdims=True)[0]

    rows = zip(range(len(store)), strict=True)
    found = list(tqdm(in_threads(find, rows), "localize", len(store), unit="map", disable=None))
    counts = [len(boxes) for boxes, _ in found]
    table = pd.DataFrame({"image_id": np.repeat(store.image_ids, counts)})
    table[list(BOX_COLUMNS)] = np.concatenate([np.empty((0, 4), np.float32), *(boxes for boxes, _ in found)])
    table["score"] = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in found)])
    return table.assign(label=np.repeat(store.labels, counts))


def final_boxes(boxes: pd.DataFrame, images: pd.DataFrame) -> Boxes:
    """The box `(N, 4)` of each image (columns `image_id`, `label`) in a table of boxes; empty (0, 0, 0, 0) without one.

    An image's box is the one with its label, else the class-agnostic one; of several the one of the highest score.
    """
    pairs = images[["image_id", "label"]].merge(boxes, on="image_id", suffixes=("", "_of_box"))
    pairs = pairs[(pairs["label_of_box"] == pairs["label"]) | (pairs["label_of_box"] == CLASS_AGNOSTIC)]
    ranked = pairs.sort_values(["image_id", "label_of_box", "score"], ascending=[True, False, False], kind="stable")
    best = ranked.drop_duplicates("image_id").set_index("image_id")[list(BOX_COLUMNS)]
    return best.reindex(images["image_id"]).fillna(0).to_numpy(np.float32)
