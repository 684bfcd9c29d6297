"""Proposals of low objectness become background where detectors refine themselves (WSFL 3.5).

A foreground map that was learnt elsewhere says how much of a proposal is foreground. Where a branch would learn that a
proposal of low objectness shows a class, it learns that it is background, unless the class is exempt: one that the
foreground map cannot know, as it was learnt without it (WSFL 4.2: person and potted plant).
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from wsol_core.core.errors import InputError, nearest
from wsol_core.core.params import Block


class FilterParams(Block):
    """Which proposals are taken out."""

    threshold: float = Field(default=0.2, ge=0, le=1)
    """least objectness of a proposal that may show a class: .2, for ground truth .5 (WSFL 4.2)"""
    exempt: tuple[str, ...] = ()
    """names of the classes whose proposals stay whatever their objectness"""


class ProposalFilter:
    """The filter for a data set's classes.

    Args:
        params: threshold and names; None keeps everything.
        classes: names, in order of their numbers.

    Raises:
        InputError: an exempt class is none of the data set's.
    """

    def __init__(self, params: FilterParams | None, classes: Sequence[str]) -> None:
        self._threshold = params.threshold if params else 0.0
        exempt = params.exempt if params else ()
        for name in exempt:
            if name not in classes:
                raise InputError(f"filter: exempt: the data set has no class {name!r}{nearest(name, classes)}")
        self._exempt = torch.tensor([name in exempt for name in classes] + [True])

    def ordered(self, present: Tensor) -> Tensor:
        """The classes `present (S,)`, exempt ones first.

        So a proposal that is the seed of an exempt class has this class, even if it is the seed of another one too.
        """
        exempt = self._exempt.to(present.device)[present]
        return torch.cat([present[exempt], present[~exempt]])

    def apply(self, labels: Tensor, objectness: Tensor) -> Tensor:
        """The labels `(R,)`, 0 to C, with C, background, for proposals of a class whose objectness is too low.

        Args:
            labels: int64.
            objectness: `(R,)`.
        """
        stays = self._exempt.to(labels.device)[labels] | (objectness >= self._threshold)
        return labels.where(stays, len(self._exempt) - 1)
