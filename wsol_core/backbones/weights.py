"""Weights from a file or by name, and their way into a network."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from wsol_core.core.errors import InputError

State = dict[str, Tensor]
_WRAPPERS = re.compile(r"^(?:(?:module|model|backbone|network|features)[._])+")


def read_weights(path: Path) -> State:
    """Read the tensors of a `.safetensors` or `.pth` file; of a `.pth`, also those under `state_dict` or `model`.

    Raises:
        InputError: the file is missing, damaged, holds pickled objects or no tensors, or has another suffix.
    """
    if path.suffix not in (".safetensors", ".pth"):
        raise InputError(f"weights {str(path)!r}: neither 'imagenet', 'none' nor a .safetensors or .pth file")
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path to weights, 'imagenet' or 'none'")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pth(path)
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise InputError(f"{path}: holds no tensors by name; give a state dict")
    return state


def _read_safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a readable .safetensors file ({error}); fetch or make it again") from error


def _read_pth(path: Path) -> Mapping[Any, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error of its own: zip, unpickling and end-of-file errors all occur
        raise InputError(f"{path}: damaged, or not plain tensors (objects are refused); save a state dict") from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    return content if isinstance(content, Mapping) else {}


def torchvision_imagenet(name: str) -> State:
    """Download (or take from the cache) torchvision's `IMAGENET1K_V1`, the weights that the papers start from."""
    return dict(models.get_model_weights(name)["IMAGENET1K_V1"].get_state_dict(progress=True, check_hash=True))


def download(fetch: Callable[[str], State], name: str) -> State:
    """Return `fetch(name)`.

    Raises:
        InputError: it failed; the hubs' clients each raise errors of their own.
    """
    try:
        return fetch(name)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name}: the ImageNet weights cannot be downloaded ({type(error).__name__}: {reason}); "
            "give weights as a path or 'none'"
        ) from error


def load_weights(network: nn.Module, state: State, source: str) -> None:
    """Copy `state` into `network`, cast to the network's dtype.

    Names agree when they do so without the wrappers' prefixes (`module.`, `backbone.`, ...) and with `_` for `.`, which
    is how timm flattens a network. A classifier's tensors may be left over, and `num_batches_tracked` may be missing.

    Raises:
        InputError: a tensor is missing, of another shape, or belongs to a deeper network of the same family.
    """
    own = network.state_dict()
    given = {_plain(name): value for name, value in state.items()}
    missing = [name for name in own if _plain(name) not in given and not name.endswith("num_batches_tracked")]
    _refuse(missing, len(own), "missing", source)
    matched = {name: given.get(_plain(name), value) for name, value in own.items()}
    _refuse(
        [
            f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}"
            for name, value in matched.items()
            if value.shape != own[name].shape
        ],
        len(own),
        "of another shape",
        source,
    )
    known, parents = {_plain(name) for name in own}, {_top(name) for name in own}
    _refuse([name for name in state if _plain(name) not in known and _top(name) in parents], len(own), "extra", source)
    network.load_state_dict(matched)


def _plain(name: str) -> str:
    return _WRAPPERS.sub("", name).replace(".", "_")


def _top(name: str) -> str:
    return _WRAPPERS.sub("", name).split(".")[0]


def _refuse(names: list[str], total: int, fault: str, source: str) -> None:
    if names:
        raise InputError(
            f"{source}: {len(names)} tensors {fault} for a network of {total}, the first {names[0]}; "
            "take weights of the same network"
        )
