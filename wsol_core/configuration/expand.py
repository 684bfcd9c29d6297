"""Parameters written out: every value that can be tried with `-S`, each with its comment."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from wsol_core.configuration.parameters import Parameters
from wsol_core.core.params import Block

HEADER = """\
# Every parameter of the pipeline, written by `wsol use {preset}` from presets/; the next `wsol use` drops what is
# changed here by hand, and says so. `dvc exp run -S key=value` tries a value. Device, number of processes and the place
# of a data set outside the project are no parameters.
"""
WIDTH = 120
INDENT = 2
NONE: frozenset[str] = frozenset()
Comment = tuple[str, str, str]
"""Top-level key, field and text: a comment stands once in each part of the file."""


def expand(parameters: Parameters) -> str:
    """The text of `params.yaml` that holds every parameter that has an effect.

    Blocks are nested, values and lists stand on a line. A field's docstring is its comment where it first occurs below
    a top-level key; a later block of values alone that need no comment stands on one line.
    """
    lines = HEADER.format(preset=parameters.preset).splitlines()
    shown: set[Comment] = set()
    apart = True
    for key, value in _fields(parameters):
        nested = isinstance(value, Block) or (isinstance(value, Mapping) and bool(value))
        lines += [""] if nested or apart else []
        lines += _commented(key, "" if nested else _flow(value), _description(parameters, key), 0)
        lines += _inside(value, key, INDENT, shown) if nested else []
        apart = nested
    return "\n".join(lines) + "\n"


def _inside(value: Any, top: str, indent: int, shown: set[Comment], idle: frozenset[str] = NONE) -> Iterator[str]:
    """The lines of a block, or of a dictionary of blocks or values; `idle` are fields that are left out."""
    if not isinstance(value, Block):
        for name, entry in value.items():
            yield from _entry(str(name), entry, "", top, indent, shown, NONE)
        return
    for key, each in _ordered(value, idle):
        comment = (top, key, _description(value, key))
        new = comment not in shown
        shown.add(comment)
        yield from _entry(key, each, comment[2] if new else "", top, indent, shown, _below(key, value, idle))


def _entry(
    key: str, value: Any, comment: str, top: str, indent: int, shown: set[Comment], idle: frozenset[str]
) -> Iterator[str]:
    if not isinstance(value, Block):
        yield from _commented(key, _flow(value), comment, indent)
        return
    content = dict(_fields(value, idle))
    line = f"{' ' * indent}{key}: {_flow(content)}"
    if len(line) <= WIDTH and not comment and _is_plain(value, content, top, shown):
        yield line
        return
    yield from _commented(key, "", comment, indent)
    yield from _inside(value, top, indent + INDENT, shown, idle)


def _is_plain(block: Block, content: Mapping[str, Any], top: str, shown: set[Comment]) -> bool:
    """Whether all is values whose comments have stood before."""
    return all(
        not isinstance(value, Block) and (top, key, _description(block, key)) in shown for key, value in content.items()
    )


def _fields(block: Block, idle: frozenset[str] = NONE) -> Iterable[tuple[str, Any]]:
    """The fields that have an effect, beside those that the block around it calls idle."""
    without = idle | block.idle_fields()
    return ((key, getattr(block, key)) for key in type(block).model_fields if key not in without)


def _below(key: str, block: Block, idle: frozenset[str]) -> frozenset[str]:
    """The idle fields of the block under `key`."""
    start = f"{key}."
    return frozenset(name.removeprefix(start) for name in idle | block.idle_fields() if name.startswith(start))


def _ordered(block: Block, idle: frozenset[str]) -> list[tuple[str, Any]]:
    """Values before nested blocks; the training, a field of the base class, last."""
    return sorted(_fields(block, idle), key=lambda field: (isinstance(field[1], Block), field[0] == "training"))


def _description(block: Block, key: str) -> str:
    return " ".join((type(block).model_fields[key].description or "").split())


def _commented(key: str, value: str, comment: str, indent: int) -> Iterator[str]:
    """A key with the comment behind it, or above it where there is no room."""
    margin = " " * indent
    line = f"{margin}{key}: {value}".rstrip()
    if comment and len(line) + len(comment) + 4 > WIDTH:
        yield from textwrap.wrap(
            comment, WIDTH, initial_indent=f"{margin}# ", subsequent_indent=f"{margin}# ", break_on_hyphens=False
        )
        comment = ""
    yield f"{line}  # {comment}" if comment else line


class _Dumper(yaml.SafeDumper):
    """Writes what stands twice twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _flow(value: Any) -> str:
    """A value on one line."""
    plain = _plain(value)
    text = yaml.dump(plain, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=float("inf"))
    return str(text).removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    """What YAML can hold, which has no tuples."""
    if isinstance(value, Block):
        return _plain(dict(_fields(value)))
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value
