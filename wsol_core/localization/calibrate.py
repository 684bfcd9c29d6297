"""The box threshold, chosen without ground truth: the one whose boxes agree best with the pseudo boxes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.files import SCORED_BOXES, read_table
from wsol_core.core.map_store import Kind, MapStore
from wsol_core.core.params import Block
from wsol_core.core.regions import GridBox, Scale, is_otsu, largest_component_box
from wsol_core.data.index import TRAIN_WEAKSUP, ImageIndex
from wsol_core.localization.localize import CalibratedBy, LocalizeParams, Targets, Threshold, find_targets, sweep
from wsol_core.metrics.localization import GroundTruth, best_index, mean_iou, threshold_grid

FloatArray = npt.NDArray[np.floating]

CURVE = ("threshold", "mean_iou")
OTSU = 0.5
"""The threshold on the scales of Otsu."""


class MethodParams(Block):
    """Where a method's maps are cut."""

    calibrated_by: CalibratedBy = "pseudo_boxes"
    """pseudo_boxes: the threshold whose boxes agree best with a table of boxes; labels: with those of pseudo labels;
    constant: the one given; otsu: each map's own; otsu_root, otsu_logit: that of its scores' square roots or
    logits"""
    calibrated_on: str
    """the pseudo boxes (.parquet) or labels (.h5); the index of the images where neither plays a part"""
    constant: float = Field(default=0.5, ge=0, lt=1)
    """the threshold with `constant`, such as a paper's own"""

    @field_validator("calibrated_on")
    @classmethod
    def _no_ground_truth(cls, path: str, info: ValidationInfo) -> str:
        wanted = {"pseudo_boxes": ".parquet", "labels": ".h5"}.get(info.data.get("calibrated_by", ""), "")
        if not path.endswith(wanted):
            raise ValueError(f"not a {wanted} file, which {info.data['calibrated_by']} asks for")
        if "truth" in Path(path).parts:
            raise ValueError("ground truth; a threshold must not have seen it")
        return path


class CalibrateParams(Block):
    """How a threshold is sought."""

    step: float = Field(default=0.01, gt=0, le=0.5)
    """Distance between the thresholds tried, from 0 up to, not including, 1; see `threshold_grid`."""
    images: int = Field(default=500, ge=1)
    """Images of train-weaksup to calibrate on, at the most; drawn at random if there are more."""


@dataclass(frozen=True)
class Calibration:
    """A chosen threshold.

    Attributes:
        threshold: the threshold.
        mean_iou: of its boxes with the pseudo boxes; None where none were compared.
        images: number of images that it was chosen on.
        curve: columns `threshold`, `mean_iou`; without rows where nothing was compared.
    """

    threshold: Threshold
    mean_iou: float | None
    images: int
    curve: pd.DataFrame

    def content(self) -> dict[str, Any]:
        """What the JSON file holds that `read_calibration` reads."""
        return {
            "threshold": self.threshold.value,
            "scale": self.threshold.scale,
            "calibrated_by": self.threshold.calibrated_by,
            "mean_iou": None if self.mean_iou is None else round(self.mean_iou, 6),
            "images": self.images,
        }


def calibrate_method(
    store: MapStore, index: ImageIndex, method: MethodParams, search: CalibrateParams, params: LocalizeParams, seed: int
) -> Calibration:
    """The threshold of a method's maps, by whatever the method is calibrated.

    Args:
        store: the maps.
        index: the images.
        method: by what.
        search: how it is sought.
        params: how maps become boxes.
        seed: of the draw of images.

    Raises:
        InputError: there is nothing to calibrate on.
    """
    if method.calibrated_by == "constant":
        return _given(Threshold(method.constant, params.scale, "constant"))
    if is_otsu(method.calibrated_by):
        return _given(Threshold(OTSU, method.calibrated_by, method.calibrated_by))
    boxes = _pseudo_boxes(Path(method.calibrated_on), index)
    targets = draw(find_targets(index, boxes, TRAIN_WEAKSUP), search.images, seed)
    found = calibrate(store, targets, threshold_grid(search.step), params.resolution, params.scale)
    return replace(found, threshold=replace(found.threshold, calibrated_by=method.calibrated_by))


def _given(threshold: Threshold) -> Calibration:
    return Calibration(threshold, None, 0, pd.DataFrame(columns=list(CURVE)))


def _pseudo_boxes(path: Path, index: ImageIndex) -> pd.DataFrame:
    if path.suffix != ".h5":
        return read_table(path, SCORED_BOXES)[0]
    with MapStore(path) as labels:
        return label_boxes(labels, index)


def calibrate(
    store: MapStore, targets: Targets, thresholds: FloatArray, resolution: int, scale: Scale = "value"
) -> Calibration:
    """The one of ascending `thresholds` whose boxes have the highest mean IoU with the pseudo boxes `targets`.

    The thresholds are of `scale`, see `regions.rescale`.
    On a plateau its middle, see `best_index`. An image without a map has IoU 0 at every threshold.

    Raises:
        InputError: there is no pseudo box to calibrate on.
    """
    if not len(targets.images):
        raise InputError(f"{store.path}: no training image has a pseudo box to calibrate on; see calibrated_on")
    curve = mean_iou(sweep(store, targets, thresholds, resolution, "calibrate", scale=scale))
    best = best_index(curve)
    table = pd.DataFrame(dict(zip(CURVE, (thresholds, curve), strict=True)))
    return Calibration(Threshold(float(thresholds[best]), scale), float(curve[best]), len(targets.images), table)


def label_boxes(store: MapStore, index: ImageIndex) -> pd.DataFrame:
    """Pseudo boxes of a store of masks or tri-state labels: `image_id`, the row's `label`, and the box.

    The box is that of the largest foreground component, scaled to the image. A map without foreground has none; images
    that are not in train-weaksup are passed over.

    Raises:
        InputError: the store holds something else.
    """
    if store.kind not in (Kind.MASK, Kind.TRISTATE):
        raise InputError(f"{store.path}: holds no masks or tri-state labels to calibrate on; see calibrated_on")
    train = index.split(TRAIN_WEAKSUP)
    sizes = dict(zip(train["image_id"], zip(train["width"], train["height"], strict=True), strict=True))
    rows = []
    for row, (image_id, label) in enumerate(zip(store.image_ids, store.labels.tolist(), strict=True)):
        box = largest_component_box(store[row] == 1) if image_id in sizes else None
        if box is not None:
            rows.append((image_id, label, *_scaled(box, store.shape, sizes[image_id])))
    return pd.DataFrame(rows, columns=["image_id", "label", *BOX_COLUMNS])


def _scaled(box: GridBox, shape: tuple[int, int], size: tuple[int, int]) -> list[float]:
    """A box on a grid `(h, w)` in pixels of an image of `width x height`."""
    scales = (size[0] / shape[1], size[1] / shape[0]) * 2
    return [side * scale for side, scale in zip(box, scales, strict=True)]


def draw(targets: Targets, count: int, seed: int) -> Targets:
    """`count` of the images drawn without replacement, in their order; all of them where there are not more."""
    total = len(targets.images)
    if total <= count:
        return targets
    chosen = np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
    kept = np.isin(targets.truth.image, chosen)
    image = np.searchsorted(chosen, targets.truth.image[kept])
    return replace(
        targets,
        images=targets.images.iloc[chosen].reset_index(drop=True),
        truth=GroundTruth(targets.truth.boxes[kept], image),
    )
