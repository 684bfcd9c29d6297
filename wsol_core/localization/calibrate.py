"""The box threshold, chosen without ground truth: the one whose boxes agree best with the pseudo boxes."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import Block
from wsol_core.core.regions import Scale
from wsol_core.localization.localize import Targets, sweep
from wsol_core.metrics.localization import GroundTruth, best_index, mean_iou, threshold_grid

FloatArray = npt.NDArray[np.floating]


class CalibrateParams(Block):
    """How the threshold is chosen."""

    step: float = Field(gt=0, le=0.5)
    """Distance between the thresholds tried, from 0 up to, not including, 1; see `threshold_grid`."""
    images: int = Field(ge=1)
    """Images of train-weaksup to calibrate on, at the most; drawn at random if there are more."""
    constants: dict[str, float]
    """Thresholds by method that are taken as they stand (a paper's own, say) instead of being calibrated."""

    def thresholds(self, method: str) -> npt.NDArray[np.float64]:
        """The thresholds `(T,)` to choose among: the method's constant alone, or those of `threshold_grid`."""
        if method in self.constants:
            return np.array([self.constants[method]])
        return threshold_grid(self.step)


@dataclass(frozen=True)
class Calibration:
    """A chosen threshold.

    Attributes:
        threshold: in [0, 1).
        mean_iou: of the boxes at this threshold with the pseudo boxes.
        images: number of images that it was chosen on.
        curve: columns `threshold`, `mean_iou`.
    """

    threshold: float
    mean_iou: float
    images: int
    curve: pd.DataFrame


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
        raise InputError(f"{store.path}: no training image has a pseudo box to calibrate on; run ddt_boxes again")
    curve = mean_iou(sweep(store, targets, thresholds, resolution, "calibrate", scale=scale))
    best = best_index(curve)
    table = pd.DataFrame({"threshold": thresholds, "mean_iou": curve})
    return Calibration(float(thresholds[best]), float(curve[best]), len(targets.images), table)


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
