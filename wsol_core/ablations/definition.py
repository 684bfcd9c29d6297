"""Ablations: a table of a paper as a file `ablations/TABLE.yaml`, each of its rows a change of parameters."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError

from wsol_core.errors import InputError, nearest
from wsol_core.params import Block
from wsol_core.presets import apply_preset

FOLDER = Path("ablations")
MISSING = object()
VARIABLE = re.compile(r"\$\{([\w.-]+)\}")

T = TypeVar("T")
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
PaperFigure = Literal["gt_known", "top1_loc", "top5_loc"]
Overrides = dict[str, Any]
"""Dotted key -> value; None deletes the key."""


class Row(Block):
    """One row of a table."""

    name: Name
    """of the row"""
    params: Overrides = Field(default={})
    """what it changes: dotted keys; a mapping changes the keys inside it, null deletes; `${NAME}`: see `filled`"""
    method: str | None = None
    """whose figures are read; none for the table's"""
    paper: dict[PaperFigure, float] = Field(default={})
    """the paper's figures, percent"""


class Table(Block):
    """A table and how it is made."""

    name: Name
    """that of the file"""
    title: str
    """one line"""
    source: str
    """paper, table, its data set and backbone, and what differs here"""
    preset: str
    """the preset that the rows are meant for"""
    method: str
    """whose figures are read"""
    classifier: str | None = None
    """classifier for Top-1 and Top-5; none for GT-known alone"""
    params: Overrides = Field(default={})
    """what all rows change"""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """of the runs, where the user names none"""
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    """in the paper's order"""

    def rows_by_name(self) -> dict[str, Row]:
        """In the same order."""
        return {row.name: row for row in self.rows}

    def method_of(self, row: Row) -> str:
        """Whose figures the row shows."""
        return row.method or self.method

    def targets(self, row: Row) -> list[str]:
        """The DVC stages that the row needs."""
        classified = [f"evaluate_classification@{self.classifier}"] if self.classifier else []
        return [f"evaluate_localization@{self.method_of(row)}", *classified]

    def overrides(self, row: Row) -> Overrides:
        """What the row changes, leaf by leaf; no other method is evaluated."""
        return {"methods": [self.method_of(row)]} | dict(_leaves(self.params)) | dict(_leaves(row.params))


def read_tables(project: Path = Path()) -> dict[str, Table]:
    """The tables of `ablations/`, by name.

    Raises:
        InputError: a file is not a table.
    """
    return {path.stem: _read(path) for path in sorted((project / FOLDER).glob("*.yaml"), key=lambda path: path.stem)}


def pick(known: Mapping[str, T], names: Sequence[str], kind: str) -> list[T]:
    """The values of `names`.

    Raises:
        InputError: a name is unknown; the message names the nearest.
    """
    for name in names:
        if name not in known:
            raise InputError(f"no {kind} {name!r}{nearest(name, known)} (there are: {', '.join(known)})")
    return [known[name] for name in names]


def filled(overrides: Overrides, params: Mapping[str, Any], values: Mapping[str, Any]) -> Overrides:
    """`overrides` with what `${NAME}` stands for, leaf by leaf, less deletions of what is not there.

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

    leaves = dict(_leaves({key: value(old) for key, old in overrides.items()}))
    return {key: each for key, each in leaves.items() if each is not None or _at(params, key) is not MISSING}


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
    """The words after `-S` of `dvc exp run`, in Hydra's grammar: `++key=value` changes or adds, `~key` deletes."""
    return [f"~{key}" if each is None else f"++{key}={_value(each)}" for key, each in overrides.items()]


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def description(overrides: Overrides) -> str:
    """The overrides as one line for a reader."""
    return " ".join(words(overrides)).replace("++", "").replace('"', "")


def _leaves(content: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*place, key))
        else:
            yield ".".join((*place, key)), value


def _read(path: Path) -> Table:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        table = Table.model_validate({"name": path.stem} | content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise InputError(f"{path}: not a table of `key: value` lines ({error})") from error
    names = [row.name for row in table.rows]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two rows of one name")
    return table
