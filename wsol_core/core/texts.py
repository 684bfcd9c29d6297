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
        _refuse_deep(text, name)
        loader = SAFE_LOADER(text)
        node = loader.get_single_node()
        if "*" in text and _values(node, {}) > MAX_VALUES:
            raise InputError(f"{name}: its aliases stand for more than {MAX_VALUES} values; write them out")
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, AttributeError) as error:  # the last two by the loader's constructors
        raise InputError(f"{name}: not valid YAML ({error})") from error


def _refuse_deep(text: str, name: object) -> None:
    longest = max(map(len, text.splitlines()), default=0)
    if text.count("[") + text.count("{") + longest <= MAX_NESTING:  # a block level takes a column, a flow level a brace
        return
    depth = 0
    for event in yaml.parse(text, SAFE_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_NESTING:
            raise InputError(f"{name}: nested more than {MAX_NESTING} levels deep")


def _values(node: Any, known: dict[int, float]) -> float:
    """How many values a node stands for with aliases written out; each node is counted once."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # stands while it is counted, so for an alias of itself
        parts = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
