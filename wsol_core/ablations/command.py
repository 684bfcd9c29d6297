"""What `wsol ablate` does: its words, the runs, and the tables in CSV and in `docs/results`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wsol_core.ablations.cost import cost
from wsol_core.ablations.definition import Table
from wsol_core.ablations.document import update_docs
from wsol_core.ablations.pairs import write_pairs
from wsol_core.ablations.runs import missing_runs, path_of, read_rows, run_all
from wsol_core.ablations.tables import LocalizationTable, pick, read_tables
from wsol_core.core.errors import InputError
from wsol_core.core.params import preset
from wsol_core.core.texts import parse_yaml
from wsol_core.core.warm_process import warm_process


def lines() -> list[str]:
    """A line for each table: name, preset that it is meant for, rows that are done, title."""
    found = []
    for table in read_tables().values():
        done = len({row.name for row in table.rows} & set(read_rows(path_of(table), table)["row"]))
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


def run(
    tables: Sequence[Table], seeds: str, rows: str, values: Sequence[str], start: bool, say: Callable[[str], None]
) -> int:
    """Say what is missing of tables and what it costs, and run it if it may start; pages are rewritten after each row.

    Args:
        tables: in the order that they run.
        seeds: numbers, commas between; empty for each table's own.
        rows: names, commas between; empty for all.
        values: `NAME=VALUE` each, for `${NAME}` in tables.
        start: whether it may.
        say: takes a line on each run.

    Returns:
        How many runs failed.

    Raises:
        InputError: a row, seed or value cannot be, a table is meant for another preset, code is not committed, or
            parameters are edited.
    """
    names, numbers, given = _split(rows), _numbers(seeds), dict(assignment(each) for each in values)
    chosen = [pick(table.rows_by_name(), names, "row") if names else list(table.rows) for table in tables]
    for table in tables:
        if table.preset != preset():
            use = f"params.yaml is preset {preset()}; run `wsol use {table.preset}` first"
            raise InputError(f"{table.name} is meant for preset {table.preset}, and {use}")
    missing = [missing_runs(table, own, numbers or table.seeds) for table, own in zip(tables, chosen, strict=True)]
    runs = [run for own in missing for run in own]
    for line in cost(runs) if runs else ["nothing is missing"]:
        say(line)
    if not start:
        if runs:
            say("nothing runs yet: `--yes` starts it")
        return 0

    def tell(line: str) -> None:
        update_docs(read_tables())
        say(line)

    failed = 0
    with warm_process() as environment:
        for table, own in zip(tables, missing, strict=True):
            failed += run_all(own, given, environment, tell)
            if isinstance(table, LocalizationTable) and table.pairs:
                write_pairs(table, say)
    update_docs(read_tables())
    return failed


def _split(names: str) -> list[str]:
    return list(dict.fromkeys(name for name in names.split(",") if name))


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
