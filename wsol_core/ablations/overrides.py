"""What a row of an ablation changes: dotted keys, from a table's file to the words of `dvc exp run`."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from wsol_core.configuration.presets import merge
from wsol_core.core.errors import InputError

MISSING = object()
VARIABLE = re.compile(r"\$\{([\w.-]+)\}")

Overrides = dict[str, Any]
"""Dotted key -> value; None deletes the key."""


def apply(params: Mapping[str, Any], overrides: Overrides, values: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters with a row's changes, one after another.

    A mapping changes the keys inside it, None deletes, and a default takes the place of what is deleted. A list of
    names where entries stand by name keeps these entries alone, and adds those that are missing.

    Args:
        params: in use.
        overrides: of the row. `${NAME}` is one of `values`, or what stands in `params` under that dotted key: a whole
            block maybe, whose copy later overrides change.
        values: the user's.

    Raises:
        InputError: a name is neither a value nor a parameter.

    Example:
        >>> apply({"cam": {"levels": [-1], "fusion": "add"}}, {"new": "${cam}", "new.fusion": None}, {})
        {'cam': {'levels': [-1], 'fusion': 'add'}, 'new': {'levels': [-1]}}
    """
    new = dict(params)
    for key, value in overrides.items():
        patch = _resolved(value, params, values)
        old = _at(new, key)
        if isinstance(patch, list) and isinstance(old, Mapping):
            patch = dict.fromkeys(old) | {name: {} for name in patch}
        for parent in reversed(key.split(".")):
            patch = {parent: patch}
        new = merge(new, patch)
    return new


def _resolved(value: Any, params: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """A value with what stands for each `${NAME}` in it."""
    if isinstance(value, list):
        return [_resolved(each, params, values) for each in value]
    if isinstance(value, Mapping):
        return {key: _resolved(each, params, values) for key, each in value.items()}
    match = VARIABLE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    found = values.get(match[1], _at(params, match[1]))
    if found is MISSING:
        raise InputError(f"what is {match[1]!r}? It is no parameter; give --value {match[1]}=...")
    return found


def _at(params: Any, name: str) -> Any:
    for key in name.split("."):
        if not isinstance(params, Mapping) or key not in params:
            return MISSING
        params = params[key]
    return params


def words(old: Mapping[str, Any], new: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[str]:
    """What makes `new` of `old`, as words after `-S` of `dvc exp run`, in Hydra's grammar.

    `++key=value` changes or adds, `~key` deletes. Where entries stood and none is left, an empty list does: Hydra would
    merge an empty mapping with them, and DVC 3.67 writes one in a way that nobody can read.
    """
    for key in dict.fromkeys((*old, *new)):
        before, after, dotted = old.get(key, MISSING), new.get(key, MISSING), ".".join((*place, key))
        if before == after:
            continue
        if isinstance(after, Mapping) and after:
            yield from words(before if isinstance(before, Mapping) else {}, after, (*place, key))
            continue
        emptied = after == {} and isinstance(before, Mapping)
        if after is MISSING or emptied:
            yield f"~{dotted}"
        if after is not MISSING:
            yield f"++{dotted}={_value([] if emptied else after)}"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def description(overrides: Overrides) -> str:
    """The overrides as one line for a reader."""
    written = (f"~{key}" if value is None else f"{key}={_value(value)}" for key, value in overrides.items())
    return " ".join(written).replace('"', "")


def leaves(content: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything inside nested mappings; an empty mapping is a value."""
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*place, key))
        else:
            yield ".".join((*place, key)), value
