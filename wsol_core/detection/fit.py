"""Training of a detector of `detectors:` from image labels and proposals."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from wsol_core.core.files import SCORED_BOXES, read_table
from wsol_core.core.oracle_names import refuse_hidden_oracle
from wsol_core.core.params import seed
from wsol_core.data.index import ImageIndex, read_index
from wsol_core.data.loading import Pairs
from wsol_core.detection.detector import Detector, DetectorParams, build
from wsol_core.detection.entry import INDEX, DetectorEntry
from wsol_core.detection.heads import DetectorLoss
from wsol_core.detection.linear_detector import LinearDetector, LinearDetectorParams, ProposalPairs
from wsol_core.detection.proposal_features import ProposalFeatureStore
from wsol_core.detection.proposal_targets import ProposalTargets, proposal_targets
from wsol_core.engine.fit import train_on_pairs, training_set

Targets = Callable[[pd.DataFrame], ProposalTargets]
"""From rows of an image index to the labels and proposals of each image."""


def fit_detector(name: str, entry: DetectorEntry) -> None:
    """Train a detector, see `train_on_pairs`.

    Args:
        name: of the detector.
        entry: of either kind.

    Raises:
        InputError: it learns from an oracle under a plain name, there is no image or no proposal to train on, the
            filter exempts an unknown class, or the features are not those of the proposals.
    """
    refuse_hidden_oracle(name, entry.learns_from)
    index, table = read_index(Path(INDEX)), read_table(Path(entry.learns_from), SCORED_BOXES)[0]
    targets = proposal_targets(table, len(index.classes), entry.network.max_proposals)
    inputs = sorted({Path(INDEX), Path(entry.sees), Path(entry.learns_from)})
    if isinstance(entry.network, DetectorParams):
        _fit_on_images(name, entry.network, index, targets, inputs)
    elif isinstance(entry.network, LinearDetectorParams):
        with ProposalFeatureStore(Path(entry.sees)) as store:
            _fit_on_features(name, entry.network, index, targets, inputs, store)


def _fit_on_images(name: str, params: DetectorParams, index: ImageIndex, targets: Targets, inputs: list[Path]) -> None:
    number = seed()

    def pairs(model: Detector, split: str) -> Pairs | None:
        return training_set(index, split, targets, params.training, model.backbone.interpolation, number)

    construct, loss = partial(build, params, len(index.classes)), DetectorLoss(params, index.classes)
    train_on_pairs(name, params, params.training.precision, index.classes, construct, loss, pairs, index.name, inputs)


def _fit_on_features(
    name: str,
    params: LinearDetectorParams,
    index: ImageIndex,
    targets: Targets,
    inputs: list[Path],
    store: ProposalFeatureStore,
) -> None:
    def pairs(_: LinearDetector, split: str) -> Pairs | None:
        rows = index.split(split)
        return None if rows.empty else ProposalPairs(store, rows, targets(rows))

    construct = partial(LinearDetector, params, store.width, len(index.classes))
    loss = DetectorLoss(params, index.classes)
    train_on_pairs(name, params, "32-true", index.classes, construct, loss, pairs, index.name, inputs)
