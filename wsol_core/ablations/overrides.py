"""What a row of an ablation changes: dotted keys, from a table's file to the words of `dvc exp run`."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from wsol_core.configuration.presets import apply_preset
from wsol_core.core.errors import InputError

MISSING = object()
VARIABLE = re.compile(r"\$\{([\w.-]+)\}")

Overrides = dict[str, Any]
"""Dotted key -> value; None deletes the key."""


def filled(overrides: Overrides, params: Mapping[str, Any], values: Mapping[str, Any]) -> Overrides:
    """`overrides` with what `${NAME}` stands for, leaf by leaf, less deletions of what is not there.

    Later ones count: a deletion takes back what stands inside its key before it, as of a copied block.

    Args:
        overrides: of a row.
        params: all parameters in use; `${a.b}` is what stands there, a whole block maybe.
        values: the user's, which come first.

    Raises:
        InputError: a name is neither a value nor a parameter.
    """

    def value(old: Any) -> Any:
        if isinstance(old, list):
            return [value(each) for each in old]
        match = VARIABLE.fullmatch(old) if isinstance(old, str) else None
        return _named(match[1], params, values) if match else old

    new: Overrides = {}
    for key, each in leaves({key: value(old) for key, old in overrides.items()}):
        inside = [known for known in new if each is None and known.startswith(f"{key}.")]
        for known in inside:
            del new[known]
        new[key] = each
    return {key: each for key, each in new.items() if each is not None or _at(params, key) is not MISSING}


def _named(name: str, params: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    found = values.get(name, _at(params, name))
    if found is MISSING:
        raise InputError(f"what is {name!r}? It is no parameter; give --value {name}=...")
    return found


def _at(params: Any, name: str) -> Any:
    for key in name.split("."):
        if not isinstance(params, Mapping) or key not in params:
            return MISSING
        params = params[key]
    return params


def refuse_unknown(params_text: str, overrides: Overrides) -> None:
    """Hold the keys against the parameters.

    Raises:
        InputError: a key is unknown; the message names the nearest.
    """
    patch: dict[str, Any] = {}
    for key, value in overrides.items():
        *parents, last = key.split(".")
        inner = patch
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    apply_preset(params_text, patch)


def words(overrides: Overrides) -> list[str]:
    """The words after `-S` of `dvc exp run`, in Hydra's grammar: `++key=value` changes or adds, `~key` deletes.

    An empty list takes the place of whatever stands there, a mapping too, which Hydra would merge: so a dictionary of
    entries makes no stage. (Its last entry must not be deleted: DVC 3.67 then writes YAML that nobody can read.)
    """
    return [word for key, value in overrides.items() for word in _words(key, value)]


def _words(key: str, value: Any) -> Iterator[str]:
    if value in (None, []):
        yield f"~{key}"
    if value is not None:
        yield f"++{key}={_value(value)}"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def description(overrides: Overrides) -> str:
    """The overrides as one line for a reader."""
    return " ".join(words(overrides)).replace("++", "").replace('"', "")


def leaves(content: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything inside nested mappings; an empty mapping is a value."""
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*place, key))
        else:
            yield ".".join((*place, key)), value
