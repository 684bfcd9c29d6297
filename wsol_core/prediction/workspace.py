"""A method's trained network in the workspace: its kind, its checkpoint, its classes and its threshold."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from wsol_core.core.errors import InputError, nearest
from wsol_core.core.params import PARAMS, load
from wsol_core.data.index import read_index
from wsol_core.engine.inference import InferenceParams
from wsol_core.localization.localize import LocalizeParams, read_threshold
from wsol_core.prediction.model_file import ModelCard

BLOCKS = {
    "transferred": "foreground", "oracle": "foreground", "psol": "psol", "cam": "cam", "fam": "fam", "bc": "bc",
    "bcct": "bcct", "bcct_joint": "bcct_joint", "phase_one": "phase_one", "phase_two": "phase_two", "sec": "sec",
}  # fmt: skip
"""Blocks of `params.yaml` whose keys are names of networks, and the kind of these."""


class Trained(NamedTuple):
    """What the workspace calls a method: the checkpoint `data/models/CHECKPOINT.safetensors`."""

    kind: str
    checkpoint: str
    set: str = "localization"


def trained_methods(params: dict[str, Any]) -> dict[str, Trained]:
    """By name, every method of `params.yaml` that a network alone gives; `segmentation` is the first source's."""
    return dict(_methods(params))


def _methods(params: dict[str, Any]) -> Iterator[tuple[str, Trained]]:
    if params.get("foreground"):
        yield "foreground", Trained("foreground", "foreground")
    sources = (params.get("segmentation") or {}).get("sources") or []
    for name, source in [("segmentation", source) for source in sources[:1]] + [
        (f"segmentation-{source}", source) for source in sources
    ]:
        yield name, Trained("segmentation", f"segmentation-{source}")
    for block, kind in BLOCKS.items():
        for name, entry in (params.get(block) or {}).items():
            folder = "detection" if kind == "sec" else (entry or {}).get("set", "localization")
            yield name, Trained(kind, name, folder)
            if kind in ("bcct", "bcct_joint"):
                yield f"{name}-branch", Trained(f"{kind}-branch", name, folder)


def find_method(method: str, threshold: float | None = None) -> tuple[Path, ModelCard]:
    """The checkpoint of a method of the workspace, the current folder, and how it becomes boxes.

    Args:
        method: its name.
        threshold: instead of the calibrated one.

    Raises:
        InputError: there is no such method, or it is not trained, or no threshold is known.
    """
    known = trained_methods(_params())
    if method not in known:
        near = nearest(method, known)
        raise InputError(
            f"{method!r} is no method that a trained network alone gives{near}; there are {', '.join(known)}"
        )
    kind, name, folder = known[method]
    path = Path(f"data/models/{name}.safetensors")
    if not path.is_file():
        raise InputError(f"{path}: missing, so {method!r} is not trained yet; run `dvc repro`, or `dvc pull`")
    calibrated = method if method != "segmentation" else name
    card = ModelCard(
        method=calibrated,
        kind=kind,
        classes=read_index(Path("data", folder, "index.parquet")).classes,
        threshold=_calibrated(calibrated) if threshold is None else 0.0,
        localize=load(LocalizeParams, "localize"),
        inference=load(InferenceParams, "inference"),
    )
    return path, with_threshold(card, threshold)


def _calibrated(method: str) -> float:
    path = Path(f"data/localization/thresholds/{method}.json")
    if not path.is_file():
        raise InputError(f"{path}: missing; run `dvc repro calibrate@{method}`, or give --threshold")
    return read_threshold(path)


def with_threshold(card: ModelCard, threshold: float | None) -> ModelCard:
    """The card with another threshold, if one is given.

    Raises:
        InputError: it is not in [0, 1).
    """
    if threshold is None:
        return card
    if not 0 <= threshold < 1:
        raise InputError(f"threshold {threshold:g}: must lie in [0, 1)")
    return card.model_copy(update={"threshold": threshold})


def _params() -> dict[str, Any]:
    try:
        content = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{PARAMS}: missing; run from the project's root, or give an exported model (--model FILE)"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{PARAMS}: not valid YAML ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{PARAMS}: holds no parameters")
    return content
