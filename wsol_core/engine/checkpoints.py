"""Trained weights as safetensors, with what is needed to build the network again in the file's metadata."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path
from wsol_core.core.params import Block

P = TypeVar("P", bound=Block)


class Checkpoint(NamedTuple):
    """What a file of trained weights holds."""

    tensors: dict[str, Tensor]
    """by their names in the network"""
    config: dict[str, Any]
    """the parameters that it was trained with"""
    classes: tuple[str, ...]
    """names of the classes that it tells apart; empty where it knows none"""


def save_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    classes: Sequence[str] = (),
    precision: str = "32-true",
) -> None:
    """Write a `Checkpoint`; its metadata also holds the precision that ran and the versions of torch and timm.

    Raises:
        OSError: it could not be written (a full disk).
    """
    versions = {name: version(name) for name in ("torch", "timm")}
    about = {"config": config, "classes": list(classes), "precision": precision, "versions": versions}
    metadata = json.dumps(about, sort_keys=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(contiguous, temporary, {"wsol": metadata})
        except SafetensorError as error:
            raise OSError(f"{path}: not written ({error})") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: the file is missing, damaged, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads(file.metadata()["wsol"])
            return Checkpoint(tensors, dict(about["config"]), tuple(about["classes"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({error}); run the stage that makes it again") from error


def restore(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put `tensors` into `model`.

    Raises:
        InputError: a tensor is missing, unknown, or of another shape; the first is named.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors or name not in own:
            where = "lacks" if name not in tensors else "has an unknown"
            raise InputError(f"{path}: {where} tensor {name!r}; it belongs to another network: train it again")
        if own[name].shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)}, the network needs {tuple(own[name].shape)}"
            raise InputError(f"{path}: tensor {name!r} is {shapes}; train it again")
    model.load_state_dict(dict(tensors))


def _without_weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose backbones, also that of the features, load no weights."""
    bare = {"backbone": config["backbone"] | {"weights": "none"}} if config.get("backbone") else {}
    features = {"features": _without_weights(config["features"])} if config.get("features") else {}
    return {**config, **bare, **features}


def checkpoint_params(path: Path, found: Checkpoint, params_type: type[P]) -> P:
    """The parameters of a checkpoint, with a backbone that loads no weights.

    Raises:
        InputError: they are of another version.
    """
    try:
        return params_type.model_validate(_without_weights(found.config))
    except (ValidationError, TypeError) as error:
        raise InputError(f"{path}: its parameters are not of this version; train it again") from error
