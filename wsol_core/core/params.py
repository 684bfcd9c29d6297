"""Parameters: typed blocks of `params.yaml`, each loaded only by the stages that declare it to DVC."""

import os
import re
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from wsol_core.core.errors import InputError, nearest
from wsol_core.core.texts import parse_yaml, read_text

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")


class Block(BaseModel):
    """A frozen block of parameters that refuses unknown keys and what is not finite; texts like '1e-05' are numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def idle_fields(self) -> frozenset[str]:
        """Fields, also of nested blocks (`"training.resize"`), that say nothing beside the others' values."""
        return frozenset()


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
    name = content("preset")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"{PARAMS}: preset: {name!r} is not a name of letters, digits, '-', '_' and '.'")
    return name


def seed() -> int:
    """The seed of every random choice.

    Raises:
        InputError: it is missing or is not a whole number from 0 up.
    """
    number = content("seed")
    if type(number) is not int or number < 0:
        raise InputError(f"{PARAMS}: seed: {number!r} is not a whole number from 0 up")
    return number


def names(block: str) -> tuple[str, ...]:
    """The names in a dictionary of blocks, in order: `names("methods")` are the localization methods that run.

    Raises:
        InputError: it is missing or not a dictionary.
    """
    entries = content(block)
    if not isinstance(entries, dict):
        raise InputError(f"{PARAMS}: {block}: {entries!r} are not blocks by NAME")
    return tuple(map(str, entries))


def _read_yaml(path: Path) -> Any:
    if not path.exists():
        raise InputError(f"{path}: missing; run from the project's root")
    return _parse(read_text(path), str(path))


@lru_cache(maxsize=4)
def _parse(text: str, name: str) -> Any:
    """What a YAML text holds, parsed once: a stage asks for its parameters several times, and `dvc.yaml` is long."""
    return parse_yaml(text, name)


def explain(error: ValidationError, model: type[Block], block: str) -> str:
    """The first fault of a block that does not fit its model, in a line; unknown keys go first."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    *parents, key = [str(part) for part in first["loc"]] or [""]
    name = ".".join(filter(None, [block, *parents, key]))
    if first["type"] == "missing":
        return f"{name}: required, but missing"
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        return f"{name}: {message} (got {first['input']!r})" if name else message
    return f"{name}: unknown key{nearest(key, _fields(model, parents))}"


def _fields(model: type[Block], parents: list[str]) -> list[str]:
    """The keys of the block behind `parents`, through dictionaries of blocks and blocks that may be null."""
    annotation: Any = model
    for parent in parents:
        if isinstance(annotation, type) and issubclass(annotation, Block):
            field = annotation.model_fields.get(parent)
            annotation = field.annotation if field else None
        else:  # a dictionary: the name of an entry
            annotation = get_args(annotation)[-1] if get_args(annotation) else None
        while get_origin(annotation) in (Annotated, Union, UnionType):
            annotation = get_args(annotation)[0]
    return list(annotation.model_fields) if isinstance(annotation, type) and issubclass(annotation, Block) else []


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
