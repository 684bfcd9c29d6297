"""An entry of `detectors:`, one of two kinds: what it sees decides which."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError, ValidationInfo, field_validator

from wsol_core.core.errors import InputError
from wsol_core.core.params import PARAMS, Block, content, explain
from wsol_core.detection.detector import DetectorParams
from wsol_core.detection.heads import HeadParams
from wsol_core.detection.infer import DetectParams
from wsol_core.detection.linear_detector import LinearDetectorParams
from wsol_core.detection.postprocess import PostprocessParams

INDEX = "data/detection/index.parquet"
PROPOSALS = "data/detection/proposals.parquet"
OBJECTNESS = re.compile(r"data/detection/objectness/[\w-][\w.-]*\.parquet")
FEATURES = re.compile(r"data/detection/proposal_features/[\w-][\w.-]*\.h5")


class DetectorEntry(Block):
    """What both kinds of detectors have."""

    sees: str = INDEX
    """data/detection/index.parquet: images, its layers are trained along; data/detection/proposal_features/NAME.h5:
    features of the proposals, heads alone are trained"""
    learns_from: str = PROPOSALS
    """proposals of the training images: data/detection/proposals.parquet, or data/detection/objectness/METHOD.parquet,
    the same boxes with their objectness"""
    network: HeadParams
    """the network and its training"""
    detect: PostprocessParams = PostprocessParams()
    """which boxes are its detections"""

    @field_validator("learns_from")
    @classmethod
    def _is_a_table(cls, path: str) -> str:
        if path != PROPOSALS and not OBJECTNESS.fullmatch(path):
            raise ValueError(f"name {PROPOSALS} or data/detection/objectness/METHOD.parquet")
        return path

    @field_validator("network")
    @classmethod
    def _filter_has_objectness(cls, network: HeadParams, info: ValidationInfo) -> HeadParams:
        if network.filter and info.data.get("learns_from") == PROPOSALS:
            raise ValueError("a filter needs objectness: let learns_from be data/detection/objectness/METHOD.parquet")
        return network


class ImageDetectorEntry(DetectorEntry):
    """A detector that sees images."""

    network: DetectorParams
    """the network and its training"""
    detect: DetectParams = DetectParams()
    """views of each image, and which boxes are detections"""


class LinearDetectorEntry(DetectorEntry):
    """A detector that sees features of proposals."""

    network: LinearDetectorParams
    """the heads and their training"""


def entry_model(entry: Any, place: str) -> type[DetectorEntry]:
    """The kind of a detector.

    Args:
        entry: of `detectors:`, as it stands.
        place: of the entry, for messages, such as `detectors.oicr`.

    Raises:
        InputError: it sees something else.
    """
    sees = entry.get("sees", INDEX) if isinstance(entry, dict) else INDEX
    if sees == INDEX:
        return ImageDetectorEntry
    if isinstance(sees, str) and FEATURES.fullmatch(sees):
        return LinearDetectorEntry
    raise InputError(f"{place}.sees: {sees!r}: name {INDEX} or data/detection/proposal_features/NAME.h5")


def detector_entry(entry: Any, place: str = "detectors") -> DetectorEntry:
    """An entry of `detectors:`, checked.

    Args:
        entry: as it stands.
        place: of the entry, for messages, such as `detectors.oicr`.

    Raises:
        InputError: it sees something else, or a key is missing, unknown or wrong; the message names it.
    """
    model = entry_model(entry, place)
    try:
        return model.model_validate(entry)
    except ValidationError as error:
        raise InputError(explain(error, model, place)) from error


def load_detector(name: str, parts: Sequence[str] = ()) -> DetectorEntry:
    """The entry `detectors.NAME` of the parameters.

    Args:
        name: of the detector.
        parts: keys that are read, the others have their defaults: a stage that declares these alone to DVC does not
            run again where another one changes; all where none is named.

    Raises:
        InputError: it is missing or wrong.
    """
    block = f"detectors.{name}"
    entry = {part: content(f"{block}.{part}") for part in parts} if parts else content(block)
    return detector_entry(entry, f"{PARAMS}: {block}")
