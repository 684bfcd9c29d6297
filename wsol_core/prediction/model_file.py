"""One file that predicts without the workspace: a checkpoint, and in its metadata a card that says how it is used.

It stays a checkpoint like any other: stages read it too. Its `config` and versions are those of the training; the card
stands beside them as `card`, in the one JSON text that the metadata is.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path
from wsol_core.core.params import Block, explain
from wsol_core.core.regions import Scale
from wsol_core.engine.inference import InferenceParams
from wsol_core.localization.localize import LocalizeParams

FORMAT = 2
"""Of exported files; what has another number, or none, is of another version."""


class ModelCard(Block):
    """How a trained network becomes boxes."""

    made_by: str = "wsol export"
    """tells an exported file"""
    version: int = FORMAT
    """of the file's format"""
    method: str
    """under whose name it was evaluated"""
    classes: tuple[str, ...]
    """names of the classes that it was trained on"""
    threshold: float = Field(ge=0, lt=1)
    """of the maps; calibrated without ground truth, or chosen by hand"""
    scale: Scale = "value"
    """what is held against the threshold, see `regions.rescale`"""
    localize: LocalizeParams
    """how maps become boxes"""
    inference: InferenceParams = InferenceParams()
    """views that maps are averaged over"""


def write_model(source: Path, card: ModelCard, path: Path) -> None:
    """Write the checkpoint `source` with a card to `path`.

    Raises:
        InputError: `source` is no checkpoint.
    """
    about = read_metadata(source) | {"card": card.model_dump(mode="json")}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(load_file(source), {"wsol": json.dumps(about, sort_keys=True)}))


def read_metadata(path: Path) -> dict[str, Any]:
    """What stands beside the tensors of a checkpoint: `config`, `classes`, ...; `card` in an exported one.

    Raises:
        InputError: the file is missing, damaged, or no checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(json.loads(file.metadata()["wsol"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable model ({error}); run the stage that makes it, or export it again"
        ) from error


def read_card(path: Path) -> ModelCard:
    """The card of an exported file.

    Raises:
        InputError: the file is missing, damaged, of another version, or a checkpoint that was not exported.
    """
    card = read_metadata(path).get("card")
    if not isinstance(card, dict):
        raise InputError(
            f"{path}: not an exported model; write one with `wsol export model --method METHOD --out FILE.safetensors`"
        )
    found = card.get("version", 1)
    if found != FORMAT:
        raise InputError(f"{path}: an exported model of format {found}, not {FORMAT}; export it again from its network")
    try:
        return ModelCard.model_validate(card)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, ModelCard, 'card')}; export it again") from error
