"""One file that predicts without the workspace: a checkpoint, and in its metadata a card that says how it is used.

It stays a checkpoint like any other: stages read it too. Its `config` and versions are those of the training; the card
stands beside them as `card`, in the one JSON text that the metadata is.
"""

import json
from pathlib import Path

from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path
from wsol_core.core.params import Block
from wsol_core.engine.inference import InferenceParams
from wsol_core.localization.localize import LocalizeParams


class ModelCard(Block):
    """How a trained network becomes boxes."""

    made_by: str = "wsol export"
    """tells an exported file"""
    method: str
    """under whose name it was evaluated"""
    kind: str
    """of network, see `prediction.networks`"""
    classes: tuple[str, ...]
    """names of the classes that it was trained on"""
    threshold: float = Field(ge=0, lt=1)
    """of the maps; calibrated without ground truth, or chosen by hand"""
    localize: LocalizeParams
    """how maps become boxes"""
    inference: InferenceParams = InferenceParams()
    """views that maps are averaged over"""


def write_model(source: Path, card: ModelCard, path: Path) -> None:
    """Write the checkpoint `source` with a card to `path`.

    Raises:
        InputError: `source` is no checkpoint.
    """
    try:
        with safe_open(source, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            content = json.loads(file.metadata()["wsol"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: not a readable checkpoint ({error}); run the stage that makes it") from error
    text = json.dumps(content | {"card": card.model_dump(mode="json")}, sort_keys=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {"wsol": text}))


def read_card(path: Path) -> ModelCard:
    """The card of an exported file.

    Raises:
        InputError: the file is missing, damaged, of another version, or a checkpoint that was not exported.
    """
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads(file.metadata()["wsol"])
        return ModelCard.model_validate(content["card"])
    except KeyError as error:
        raise InputError(
            f"{path}: not an exported model; write one with `wsol export model --method METHOD --out FILE.safetensors`"
        ) from error
    except (OSError, SafetensorError, TypeError, ValueError, ValidationError) as error:
        raise InputError(f"{path}: not a readable model ({error}); export it again") from error
