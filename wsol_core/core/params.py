"""Parameters: typed blocks of `params.yaml`, each loaded only by the stages that declare it to DVC."""

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from wsol_core.core.errors import InputError, nearest

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
SAFE_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it was built in, ten times as fast."""


class Block(BaseModel):
    """A frozen block of parameters that refuses unknown keys; strings such as '1e-05' become numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


B = TypeVar("B", bound=Block)


def load(model: type[B], block: str) -> B:
    """Load one block (`"training.foreground"` reaches into nested ones) of `params.yaml` as `model`.

    Raises:
        InputError: the block or a key is missing, unknown or of the wrong type (the message names it and the nearest
            right one), or the running DVC stage (`DVC_STAGE`) does not declare the block.
    """
    found = content(block)
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise InputError(f"{PARAMS}: {explain(error, model, block)}") from error


def content(block: str) -> Any:
    """One block of `params.yaml` as it stands.

    Raises:
        InputError: it is missing (the nearest name is given), or the running stage does not declare it.
    """
    _refuse_undeclared(block)
    found: Any = _read_yaml(PARAMS)
    for key in block.split("."):
        if not isinstance(found, dict) or key not in found:
            raise InputError(f"{PARAMS}: no {block!r}{nearest(key, found if isinstance(found, dict) else ())}")
        found = found[key]
    return found


def preset() -> str:
    """The name of the preset in use, under which results are kept: `results/PRESET`.

    Raises:
        InputError: it is missing or is not a plain name.
    """
    name = _top_level("preset")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"{PARAMS}: preset: {name!r} is not a name of letters, digits, '-', '_' and '.'")
    return name


def seed() -> int:
    """The seed of every random choice.

    Raises:
        InputError: it is missing or is not a whole number from 0 up.
    """
    number = _top_level("seed")
    if type(number) is not int or number < 0:
        raise InputError(f"{PARAMS}: seed: {number!r} is not a whole number from 0 up")
    return number


def methods() -> tuple[str, ...]:
    """The localization methods that run, in order.

    Raises:
        InputError: they are missing or not a list of names.
    """
    return _names("methods")


def segments() -> tuple[str, ...]:
    """The methods whose label masks are compared, in order.

    Raises:
        InputError: they are missing or not a list of names.
    """
    return _names("segments")


def heat_maps() -> dict[str, tuple[str, ...]]:
    """By name, the map stores that are compared, in order; an entry that names none stands for the store of its name.

    Raises:
        InputError: they are missing or not names with a line of stores.
    """
    entries = _top_level("heat_maps")
    if not isinstance(entries, dict) or not all(isinstance(text, str) for pair in entries.items() for text in pair):
        raise InputError(f'{PARAMS}: heat_maps: {entries!r} is not a list of NAME: "STORE STORE ..."')
    return {name: tuple(stores.split()) or (name,) for name, stores in entries.items()}


def detectors() -> dict[str, dict[str, Any]]:
    """The blocks of detectors of both kinds by name, as they stand: for stages that show what they find.

    Raises:
        InputError: they are missing, not blocks by name, or of one name.
    """
    found: dict[str, dict[str, Any]] = {}
    for key in ("detectors", "linear_detectors"):
        blocks = _top_level(key)
        if not isinstance(blocks, dict) or not all(isinstance(block, dict) for block in blocks.values()):
            raise InputError(f"{PARAMS}: {key}: {blocks!r} are not blocks by NAME")
        twice = found.keys() & blocks
        if twice:
            raise InputError(f"{PARAMS}: {key}: {min(twice)!r} is in detectors too; rename it, or delete it there")
        found |= blocks
    return found


def _names(key: str) -> tuple[str, ...]:
    names = _top_level(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{PARAMS}: {key}: {names!r} is not a list of names")
    return tuple(names)


def _top_level(key: str) -> Any:
    _refuse_undeclared(key)
    content = _read_yaml(PARAMS)
    if not isinstance(content, dict) or key not in content:
        raise InputError(f"{PARAMS}: no {key!r}{nearest(key, content if isinstance(content, dict) else ())}")
    return content[key]


def _read_yaml(path: Path) -> Any:
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; run from the project's root") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({error})") from error


@lru_cache(maxsize=4)
def _parse(text: str) -> Any:
    """What a YAML text holds, parsed once: a stage asks for its parameters several times, and `dvc.yaml` is long."""
    return yaml.load(text, SAFE_LOADER)


def explain(error: ValidationError, model: type[Block], block: str) -> str:
    """The first fault of a block that does not fit its model, in a line; unknown keys go first."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    *parents, key = [str(part) for part in first["loc"]] or [""]
    name = ".".join([block, *parents, key]).rstrip(".")
    if first["type"] != "extra_forbidden":
        return f"{name}: {first['msg']} (got {first['input']!r})"
    for parent in parents:
        field = model.model_fields.get(parent)
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, Block):
            model = annotation
    return f"{name}: unknown key{nearest(key, model.model_fields)}"


def _refuse_undeclared(block: str) -> None:
    stage = os.environ.get("DVC_STAGE", "").split("@")[0].split(":")[-1]
    if not stage or not PIPELINE.exists():
        return
    definition = _read_yaml(PIPELINE)["stages"].get(stage, {})
    declared = [str(name) for name in definition.get("do", definition).get("params", [])]
    if not any(_covers(name, block) for name in declared):
        raise InputError(f"{PIPELINE}: stage {stage!r} reads {block!r} without declaring it under params")


def _covers(declared: str, block: str) -> bool:
    """Whether a declaration, in which `${item}` stands for any one key, is the block or one that holds it."""
    pattern = "[^.]+".join(re.escape(part) for part in re.split(r"\$\{[^}]*\}", declared))
    return re.match(rf"{pattern}(\.|$)", block) is not None
