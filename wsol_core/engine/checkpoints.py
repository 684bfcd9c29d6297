"""Trained weights as safetensors, with what is needed to build the network again in the file's metadata."""

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path
from wsol_core.core.params import Block

P = TypeVar("P", bound=Block)
M = TypeVar("M", bound=nn.Module)


def save_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], precision: str = "32-true"
) -> None:
    """Write `tensors`; the metadata holds `config`, the precision that ran and the versions of torch and timm."""
    versions = {name: version(name) for name in ("torch", "timm")}
    metadata = json.dumps({"config": config, "precision": precision, "versions": versions}, sort_keys=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, {"wsol": metadata})


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the config.

    Raises:
        InputError: the file is missing, damaged, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            config = json.loads(file.metadata()["wsol"])["config"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({error}); run the stage that makes it again") from error
    return tensors, config


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


def rebuild(path: Path, params_type: type[P], build: Callable[[P], M]) -> tuple[M, P]:
    """The trained network of a checkpoint, and the parameters that it was trained with.

    Args:
        path: from `save_checkpoint`, with the parameters as config.
        params_type: of the parameters.
        build: makes the untrained network of these parameters; asked for it without pretrained weights.

    Raises:
        InputError: as `load_checkpoint` and `restore`, or the parameters are of another version.
    """
    tensors, config = load_checkpoint(path)
    try:
        bare = {"backbone": config["backbone"] | {"weights": "none"}} if "backbone" in config else {}
        params = params_type.model_validate(config | bare)
    except (ValidationError, TypeError) as error:
        raise InputError(f"{path}: its parameters are not of this version; train it again") from error
    model = build(params)
    restore(model, tensors, path)
    return model, params
