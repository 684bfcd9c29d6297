"""The detections of a trained detector in all images of the detection set, as a table."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import nn

from wsol_core.core.errors import InputError
from wsol_core.core.files import SCORED_BOXES, read_table, write_table
from wsol_core.core.params import Block
from wsol_core.data.index import read_index
from wsol_core.detection.detector import DetectorParams, build
from wsol_core.detection.entry import INDEX, PROPOSALS, DetectorEntry, ImageDetectorEntry
from wsol_core.detection.infer import detect_in_images
from wsol_core.detection.infer_linear import detect_by_features
from wsol_core.detection.linear_detector import LinearDetector, LinearDetectorParams
from wsol_core.detection.proposal_features import ProposalFeatureStore
from wsol_core.engine.checkpoints import checkpoint_params, load_checkpoint, restore

P = TypeVar("P", bound=Block)
M = TypeVar("M", bound=nn.Module)


def write_detections(name: str, entry: DetectorEntry) -> None:
    """Write `data/detection/detections/NAME.parquet`; under `torchrun` the first process does.

    Args:
        name: of the detector `data/models/NAME.safetensors`.
        entry: that it was trained by.

    Raises:
        InputError: the checkpoint is missing, of another version, or of other classes than the data set's; no image
            has a proposal; or the features are not those of the proposals.
    """
    path, index = Path(f"data/models/{name}.safetensors"), read_index(Path(INDEX))
    proposals = read_table(Path(PROPOSALS), SCORED_BOXES)[0]
    if isinstance(entry, ImageDetectorEntry):
        detector = rebuild_detector(path, index.classes, DetectorParams, build)
        found = detect_in_images(detector, index, proposals, entry.detect)
    else:
        with ProposalFeatureStore(Path(entry.sees)) as store:
            linear = rebuild_detector(
                path,
                index.classes,
                LinearDetectorParams,
                lambda params, classes: LinearDetector(params, store.width, classes),
            )
            found = detect_by_features(linear, store, index, proposals, entry.detect)
    if found is not None:
        write_table(Path(f"data/detection/detections/{name}.parquet"), found)


def rebuild_detector(path: Path, classes: tuple[str, ...], params_type: type[P], build: Callable[[P, int], M]) -> M:
    """The trained detector of a checkpoint.

    Args:
        path: of the checkpoint.
        classes: names, in order of their numbers, that its own must be.
        params_type: of its parameters.
        build: from parameters and the number of classes to the untrained detector.

    Raises:
        InputError: the checkpoint is missing, of another version, or of other classes.
    """
    found = load_checkpoint(path)
    if found.classes != classes:
        raise InputError(f"{path}: it detects {', '.join(found.classes)}, not the data set's classes; train it again")
    model = build(checkpoint_params(path, found, params_type), len(classes))
    restore(model, found.tensors, path)
    return model
