"""Pixel measures of score maps against masks: PxAP (Choe et al., CVPR 2020) and the pixel IoU, over a whole data set.

Maps and masks are brought to 224x224. The scores of all object pixels and of all other pixels are pooled in two
histograms over the thresholds, so memory does not grow with the number of images. A pixel counts as found where its
score, as float32, is at least the threshold.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.core.errors import InputError
from wsol_core.metrics.localization import best_index
from wsol_core.metrics.max_box import SIDE, TAUS, as_scores

Floats = npt.NDArray[np.float64]

IGNORED = 255


@dataclass(frozen=True)
class PixelFigures:
    """Figures in [0, 1], NaN where they are undefined (no object pixel was added).

    Attributes:
        px_ap: sum of precision times step of recall, from the highest threshold down, not interpolated.
        pixel_iou: of the pooled pixels, at its best threshold: an upper bound, chosen on the measured images.
        pixel_iou_threshold: that threshold, the middle one where several are best.
        thresholds: `(T,)`, ascending.
        precision: `(T,)`; NaN at a threshold that no pixel reaches.
        recall: `(T,)`.
        iou: `(T,)`, the pixel IoU at each threshold.
    """

    px_ap: float
    pixel_iou: float
    pixel_iou_threshold: float
    thresholds: Floats
    precision: Floats
    recall: Floats
    iou: Floats

    def pixel_iou_at(self, threshold: float) -> float:
        """The pixel IoU at the measured threshold nearest to `threshold`."""
        return float(self.iou[np.abs(self.thresholds - threshold).argmin()])


class PixelScores:
    """Adds up maps one by one.

    Args:
        thresholds: `(T,)`, ascending from 0, below 1.
    """

    def __init__(self, thresholds: Floats = TAUS) -> None:
        self._thresholds = np.asarray(thresholds, dtype=np.float64)
        self._edges = np.append(self._thresholds, 2.0)
        self._counts = np.zeros((2, len(self._thresholds)), dtype=np.int64)

    def add(self, score_map: npt.NDArray[np.floating], mask: npt.NDArray[np.uint8], name: str) -> None:
        """Add an image.

        Args:
            score_map: `(h, w)` in [0, 1], the whole image; resized bilinearly.
            mask: `(H, W)`, 0 other, 1 object (any instance), 255 ignored; resized to the nearest pixel.
            name: of the image, for messages.

        Raises:
            InputError: the map is no map or has a value that is not in [0, 1]; the mask is no mask.
        """
        scores = as_scores(score_map, name)
        if mask.ndim != 2 or mask.size == 0 or not np.isin(np.unique(mask), (0, 1, IGNORED)).all():
            raise InputError(f"{name}: a mask must be (height, width) of 0, 1 and {IGNORED}; convert it")
        truth = cv2.resize(mask.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        for value in (0, 1):
            self._counts[value] += np.histogram(scores[truth == value], bins=self._edges)[0]

    def figures(self) -> PixelFigures:
        """The figures of all images added so far."""
        false, true = np.cumsum(self._counts[:, ::-1], axis=1)[:, ::-1]
        objects = self._counts[1].sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = true / (true + false), true / np.float64(objects)
            iou = true / np.float64(objects + false)
        steps = recall - np.append(recall[1:], 0)
        iou = iou if objects else np.full_like(iou, np.nan)
        best = best_index(iou)
        return PixelFigures(
            px_ap=float(np.where(steps != 0, precision * steps, 0).sum()),
            pixel_iou=float(iou[best]),
            pixel_iou_threshold=float(self._thresholds[best]),
            thresholds=self._thresholds,
            precision=precision,
            recall=recall,
            iou=iou,
        )
