"""BC-CT: pixel-level supervision from background images (Add Pixel-level Supervision for Free, 4).

Masks that a binary classifier made without looking at classes (`binary`, Eqs. 1 to 3) supervise a branch
of the classification network (`pixel_supervision`, CT), so that its class maps grow beyond the most discriminative part
(Eqs. 4 to 6). The binary classifier is trained first; `joint` trains both at once (4.2).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from wsol_core.data.loading import Batch
from wsol_core.data.targets import ImageTargets
from wsol_core.engine.targets import Targets, class_labels
from wsol_core.methods.bcct.pixel_supervision import MaskLoss, answer_loss


class LabelledMasks:
    """CT's targets `(h, w)` float32: an image's class, counted from 1, on its mask; the same number negative beside it.

    Args:
        masks: `(h, w)`, 0 or 1, by position.
        labels: classes, counted from 0, by position.
    """

    def __init__(self, masks: ImageTargets, labels: Sequence[np.int64]) -> None:
        self._masks, self._labels = masks, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, position: int) -> npt.NDArray[np.float32]:
        number = np.float32(self._labels[position] + 1)
        return np.where(np.asarray(self._masks[position]) > 0, number, -number)


def labelled_masks(masks: Targets) -> Targets:
    """CT's targets from masks and the images' labels."""
    return lambda rows: LabelledMasks(masks(rows), class_labels(rows))


def ct_loss(model: nn.Module, batch: Batch, mask: MaskLoss) -> Tensor:
    """The sum of the class's cross entropy and the mask loss (Eqs. 4 to 6); `batch.targets` are `LabelledMasks`."""
    classes = batch.targets[:, 0, 0].abs().long() - 1
    return answer_loss(model(batch.inputs), classes, (batch.targets > 0).float(), mask)
