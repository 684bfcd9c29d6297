"""Text files of users: lists, JSON and YAML, in UTF-8 with or without a byte order mark; every fault is one line."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from wsol_core.core.errors import InputError

SAFE_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it was built in, ten times as fast."""
MAX_NESTING = 500
"""Levels of YAML: libyaml's composer calls itself, and some ten thousand levels end the process."""
MAX_VALUES = 1_000_000
"""Values of a YAML file with its aliases written out: nine lines of aliases can stand for a billion."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(path: Path, name: object = None) -> str:
    """The text of a file.

    Args:
        path: the file.
        name: what messages call it; the path where None.

    Raises:
        InputError: it is missing, no regular file, or not UTF-8.
    """
    called = path if name is None else name
    try:
        if not path.is_file():
            raise InputError(f"{called}: missing, or not a regular file")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{called}: not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except ValueError as error:  # a name that no file can have
        raise InputError(f"{called}: missing") from error


def read_json(path: Path, name: object = None) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: it is missing, not UTF-8 or not JSON, too deeply nested, or holds half a surrogate pair.
    """
    text = read_text(path, name)
    called = path if name is None else name
    try:
        content = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{called}: holds half a surrogate pair, {error.object[error.start]!r}, no text") from error
    except RecursionError as error:
        raise InputError(f"{called}: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{called}: not JSON ({error})") from error
    return content


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, by the safe loader.

    Raises:
        InputError: it is missing, not UTF-8 or not YAML, too deeply nested, or its aliases unfold without bound.
    """
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, name: object) -> Any:
    """The same of a text that messages call `name`."""
    try:
        _refuse_unbounded(text, name)
        return yaml.load(text, SAFE_LOADER)
    except (yaml.YAMLError, ValueError, AttributeError, LookupError) as error:  # but for the first, by constructors
        raise InputError(f"{name}: not valid YAML ({error})") from error


def _refuse_unbounded(text: str, name: object) -> None:
    """Refuse what is nested too deeply or, with aliases written out, holds too many values: event by event."""
    aliased, longest = "*" in text, max(map(len, text.splitlines()), default=0)
    if not aliased and text.count("[") + text.count("{") + longest <= MAX_NESTING:
        return  # a block level takes a column, a flow level a brace
    values = 0.0
    opened: list[tuple[str | None, float]] = []
    sizes: dict[str | None, float] = {}
    for event in yaml.parse(text, SAFE_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, values))
            sizes[event.anchor] = float("inf")  # until it ends, so for an alias of itself
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            sizes[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = 1
            values += 1
        elif isinstance(event, yaml.AliasEvent):
            values += sizes.get(event.anchor, 0)  # the loader names one that stands for nothing
        if len(opened) > MAX_NESTING:
            raise InputError(f"{name}: nested more than {MAX_NESTING} levels deep")
        if aliased and values > MAX_VALUES:
            raise InputError(f"{name}: its aliases stand for more than {MAX_VALUES} values; write them out")
