"""What `wsol ablate` does: its words, the runs, and the tables in CSV and in `docs/results`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wsol_core.ablations.definition import Table
from wsol_core.ablations.document import update_docs
from wsol_core.ablations.runs import RESULTS, read_rows, run_missing
from wsol_core.ablations.tables import pick, read_tables
from wsol_core.core.errors import InputError
from wsol_core.core.params import preset
from wsol_core.core.texts import parse_yaml


def lines() -> list[str]:
    """A line for each table: name, preset that it is meant for, rows that are done with the preset in use, title."""
    found, current = [], preset()
    for table in read_tables().values():
        runs = read_rows(RESULTS / current / f"{table.name}.csv", table)
        done = len({row.name for row in table.rows} & set(runs["row"]))
        found.append(f"{table.name:24}{table.preset:15}{done:3} of {len(table.rows):2} rows  {table.title}")
    return found


def named_tables(names: Sequence[str]) -> list[Table]:
    """The tables of these names.

    Raises:
        InputError: there is no such table, or a file is not one.
    """
    return pick(read_tables(), names, "table")


def meant_tables() -> list[Table]:
    """The tables that are meant for the preset in use.

    Raises:
        InputError: there are none, or a file is not a table.
    """
    found = [table for table in read_tables().values() if table.preset == preset()]
    if not found:
        raise InputError(f"no table is meant for preset {preset()!r}; `wsol ablate` lists them")
    return found


def run(tables: Sequence[Table], seeds: str, rows: str, values: Sequence[str], say: Callable[[str], None]) -> int:
    """Run what is missing of tables and rewrite the pages after each row.

    Args:
        tables: in the order that they run.
        seeds: numbers, commas between; empty for each table's own.
        rows: names, commas between; empty for all.
        values: `NAME=VALUE` each, for `${NAME}` in tables.
        say: takes a line on each run.

    Returns:
        How many runs failed.

    Raises:
        InputError: a row, seed or value cannot be, code is not committed, or parameters are edited.
    """
    names, numbers, given = _split(rows), _numbers(seeds), dict(assignment(each) for each in values)
    chosen = [pick(table.rows_by_name(), names, "row") if names else list(table.rows) for table in tables]

    def tell(line: str) -> None:
        update_docs(read_tables())
        say(line)

    update_docs(read_tables())
    return sum(
        run_missing(table, own_rows, numbers or table.seeds, preset(), given, tell)
        for table, own_rows in zip(tables, chosen, strict=True)
    )


def _split(names: str) -> list[str]:
    return [name for name in names.split(",") if name]


def _numbers(seeds: str) -> list[int]:
    words = _split(seeds)
    if not all(word.isdecimal() for word in words):
        raise InputError(f"--seeds {seeds}: not whole numbers from 0 up with commas between, like 0,1,2")
    return [int(word) for word in words]


def assignment(text: str) -> tuple[str, Any]:
    """Name and value, as YAML has it; the path of what exists becomes absolute, as runs have folders of their own."""
    name, _, value = text.partition("=")
    if not value:
        raise InputError(f"--value {text}: not NAME=VALUE")
    if Path(value).exists():
        return name, str(Path(value).resolve())
    try:
        return name, parse_yaml(value, name)
    except InputError as error:
        raise InputError(f"--value {text}: not a value of YAML") from error
