"""Starting weights and trained ones: there, to be downloaded, made by other versions."""

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from torchvision import models

from wsol_core.backbones import efficientnet_lite
from wsol_core.backbones.create import TORCHVISION, BackboneParams
from wsol_core.backbones.timm_pyramid import ALIASES
from wsol_core.configuration.parameters import Parameters
from wsol_core.core.errors import InputError, nearest
from wsol_core.core.params import Block
from wsol_core.doctor.finding import Finding, tried

MODELS = Path("data/models")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def check_weights(params: Block) -> list[Finding]:
    """The backbones of the parameters: known by name, their weights there or in need of a download; a line for each."""
    findings = []
    wanted: dict[tuple[str, str], str] = {}
    for place, backbone in backbones(params):
        wanted.setdefault((backbone.name, backbone.weights), place)
    for (name, weights), place in wanted.items():
        missing, wrong = tried("weights", lambda: _missing(name, weights))  # noqa: B023
        findings += [Finding("error", "weights", f"{place}: {each.text}") for each in wrong]
        if missing:
            findings.append(Finding("warning", "weights", f"{place}: {missing}"))
    return findings


def backbones(content: object, place: str = "") -> Iterator[tuple[str, BackboneParams]]:
    """All backbones in parameters that have an effect, at any depth, each with its dotted key."""
    if isinstance(content, BackboneParams):
        yield place, content
        return
    fields = {}
    if isinstance(content, Block):
        idle = content.idle_fields()
        fields = {name: getattr(content, name) for name in type(content).model_fields if name not in idle}
    for name, value in (content if isinstance(content, Mapping) else fields).items():
        yield from backbones(value, f"{place}.{name}".removeprefix("."))


def check_extras(params: Parameters) -> list[Finding]:
    """The optional extra `crf`, where maps or segmentations are refined."""
    if not (params.refined or params.segments) or find_spec("pydensecrf"):
        return []
    text = "dense CRF is about three times faster with the optional extra: pip install -e '.[crf]'"
    return [Finding("warning", "machine", text)]


def check_versions() -> list[Finding]:
    """The trained networks that other versions of torch or timm made than the installed ones."""
    others: dict[str, list[str]] = {}
    for path in sorted(MODELS.glob("*.safetensors")):
        recorded = _recorded(path)
        changed = [f"{name} {old}" for name, old in sorted(recorded.items()) if old != _installed(name)]
        if changed:
            others.setdefault(", ".join(changed), []).append(path.stem)
    return [
        Finding("warning", "results", f"{', '.join(names)}: made with {made}, now {_now(made)}; new figures may differ,"
                " `dvc repro -f` makes all results again")
        for made, names in others.items()
    ]  # fmt: skip


def _missing(name: str, weights: str) -> str:
    """What has to be downloaded, or nothing.

    Raises:
        InputError: the name is unknown, or its weights cannot be had.
    """
    own = [*TORCHVISION, *efficientnet_lite.NAMES, *ALIASES]
    if name not in own and not timm.is_model(name):
        raise InputError(f"backbone {name!r} is unknown{nearest(name, [*own, *timm.list_models()])}")
    if weights == "none":
        return ""
    if weights != "imagenet":
        if not Path(weights).expanduser().is_file():
            raise InputError(f"{weights}: no such file; give the path to weights, 'imagenet' or 'none'")
        return ""
    if name in efficientnet_lite.NAMES:
        efficientnet_lite.package_weights(name)
        return ""
    if name in TORCHVISION:
        address = models.get_model_weights(name)["IMAGENET1K_V1"].url
        return "" if _in_hub(address) else f"{name}: the ImageNet weights will be downloaded from {address}"
    config: Any = timm.get_pretrained_cfg(ALIASES.get(name, name))
    if config is None or not (config.hf_hub_id or config.url):
        raise InputError(f"{name}: timm has no ImageNet weights of it; give a path or 'none'")
    if not config.hf_hub_id:
        return "" if _in_hub(config.url) else f"{name}: the ImageNet weights will be downloaded from {config.url}"
    if any(isinstance(try_to_load_from_cache(config.hf_hub_id, each), str) for each in HUB_FILES):
        return ""
    return f"{name}: the ImageNet weights will be downloaded from the hub ({config.hf_hub_id})"


def _in_hub(address: str) -> bool:
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(address).path).name).is_file()


def _recorded(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return dict(json.loads(file.metadata()["wsol"])["versions"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return {}


def _installed(name: str) -> str:
    return version(name)


def _now(made: str) -> str:
    return ", ".join(f"{name} {_installed(name)}" for name in (each.split()[0] for each in made.split(", ")))
