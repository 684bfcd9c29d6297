"""A trained network of the workspace: its checkpoint, its classes and its threshold."""

from pathlib import Path

from wsol_core.core.errors import InputError, nearest
from wsol_core.core.params import PARAMS, content, load
from wsol_core.engine.inference import InferenceParams
from wsol_core.engine.recipe import load_entry
from wsol_core.localization.localize import LocalizeParams, Threshold, check_chosen, read_calibration
from wsol_core.prediction.model_file import ModelCard, read_metadata


def find_method(method: str, threshold: float | None = None) -> tuple[Path, ModelCard]:
    """The checkpoint of a network of the workspace, the current folder, and how its maps become boxes.

    Args:
        method: a key of `networks:` in `params.yaml`.
        threshold: instead of the calibrated one.

    Raises:
        InputError: there is no such network, it is not trained or has no maps, or no threshold is known.
    """
    known = trained_methods()
    if method not in known:
        near = nearest(method, known)
        raise InputError(f"{method!r} is no network of {PARAMS}{near}; there are {', '.join(known)}")
    path = Path(f"data/models/{method}.safetensors")
    if not path.is_file():
        raise InputError(f"{path}: missing, so {method!r} is not trained yet; run `dvc repro`, or `dvc pull`")
    recipe, params = load_entry(method)
    recipe.look(params)
    localize = load(LocalizeParams, "localize")
    calibrated = _calibrated(method, None if threshold is None else Threshold(0.0, localize.scale))
    card = ModelCard(
        method=method,
        classes=read_metadata(path)["classes"],
        threshold=calibrated.value,
        scale=calibrated.scale,
        localize=localize,
        inference=load(InferenceParams, "inference"),
    )
    return path, with_threshold(card, threshold)


def trained_methods() -> list[str]:
    """The networks of `params.yaml`.

    Raises:
        InputError: the current folder is no workspace.
    """
    if not PARAMS.is_file():
        raise InputError(f"{PARAMS}: missing; run from the project's root, or give an exported model (--model FILE)")
    return list(content("networks") or {})


def with_threshold(card: ModelCard, threshold: float | None) -> ModelCard:
    """The card with another threshold of the same scale, if one is given.

    Raises:
        InputError: it is not in [0, 1).
    """
    if threshold is None:
        return card
    check_chosen(threshold)
    return card.model_copy(update={"threshold": threshold})


def _calibrated(method: str, otherwise: Threshold | None) -> Threshold:
    path = Path(f"data/localization/thresholds/{method}.json")
    if path.is_file():
        return read_calibration(path)
    if otherwise is None:
        raise InputError(f"{path}: missing; run `dvc repro calibrate@{method}`, or give --threshold")
    return otherwise
