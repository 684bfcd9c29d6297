"""The runs of an ablation's rows as DVC experiments, and their figures as CSV (`results/ablations/PRESET/TABLE.csv`).

Rows that change the same parameters, and differ in the method that is evaluated alone, are one run. It is named
TABLE-ROW-SEED among the experiments after the first of its rows, TABLE-SEED where it is the whole table.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from wsol_core.ablations.definition import Row, Table
from wsol_core.ablations.experiments import git, log_of, read_result, run_experiment
from wsol_core.ablations.overrides import Overrides, apply, description, words
from wsol_core.configuration.expand import expand
from wsol_core.configuration.parameters import typed
from wsol_core.configuration.presets import edits
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_csv
from wsol_core.core.params import PARAMS, preset
from wsol_core.core.texts import read_yaml

RESULTS = Path("results/ablations")
CODE = ("dvc.yaml", "stages", "wsol_core")
KEYS = ("row", "seed", "overrides", "commit", "split")
RUN = ("experiment", "seconds")
"""Columns that older files lack: the experiment's name, and the seconds that it took."""


class Run(NamedTuple):
    """Rows of a table that one experiment serves."""

    table: Table
    rows: tuple[Row, ...]
    seed: int

    @property
    def name(self) -> str:
        """Of the experiment."""
        whole = len(self.rows) == len(self.table.rows) > 1
        return "-".join([self.table.name, *([] if whole else [self.rows[0].name]), str(self.seed)])

    @property
    def row_names(self) -> str:
        """Of its rows, for a reader."""
        return ", ".join(row.name for row in self.rows)


def path_of(table: Table) -> Path:
    """The CSV file of a table's figures."""
    return RESULTS / table.preset / f"{table.name}.csv"


def read_rows(path: Path, table: Table) -> pd.DataFrame:
    """The CSV file of a table, columns `KEYS`, `RUN`, figures; empty where there is none, NaN what older rows lack.

    Raises:
        InputError: it is damaged.
    """
    columns = [*KEYS, *RUN, *table.figures]
    if not path.exists():
        return pd.DataFrame(columns=columns)
    try:
        found = pd.read_csv(path, dtype={"overrides": str, "commit": str, "experiment": str})
        found[[*KEYS, table.figures[0]]]  # what any version of the table has
        return found.reindex(columns=columns)
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table of ablations; restore or delete it") from error


def missing_runs(table: Table, rows: Sequence[Row], seeds: Sequence[int]) -> list[Run]:
    """The runs that the CSV lacks, seed by seed; a row whose overrides have changed counts as missing."""
    old = read_rows(path_of(table), table)
    done = set(zip(old["row"], old["seed"], old["overrides"], strict=True))
    found: dict[tuple[int, str], list[Row]] = {}
    for seed in seeds:
        for row in rows:
            if (row.name, seed, description(table.overrides(row))) not in done:
                found.setdefault((seed, description(table.changes(row))), []).append(row)
    return [Run(table, tuple(own), seed) for (seed, _), own in found.items()]


def run_all(
    runs: Sequence[Run], values: Mapping[str, Any], environment: Mapping[str, str], say: Callable[[str], None]
) -> int:
    """Run one after another, and rewrite the CSV after each. A run that fails is told in one line; the others go on.

    Args:
        runs: of one table.
        values: the user's for `${NAME}`.
        environment: of the stages, beside that of this process.
        say: takes a line on each run and row.

    Returns:
        How many runs failed.

    Raises:
        InputError: before any run, code is not committed, the preset is another or its parameters are edited.
    """
    failed = 0
    for number, run in enumerate(runs, 1):
        table, place = run.table, f"seed {run.seed} ({number} of {len(runs)})"
        _refuse_edits(table.preset)
        say(f"{table.name} {run.row_names}, {place}: runs; {log_of(run.name)}")
        try:
            found = _run(run, values, environment)
        except InputError as error:
            failed += 1
            say(f"{table.name} {run.row_names}, {place}: failed: {error}")
            continue
        for row in found:
            _replace(table, row)
            say(f"{table.name} {row['row'].iloc[0]}, {place}: {_summary(table, row)}")
    return failed


def _refuse_edits(in_use: str) -> None:
    """Make sure that figures are those of the commit and of the preset."""
    changed = git("status", "--porcelain", "--", *CODE).splitlines()
    if changed:
        raise InputError(f"{changed[0][3:]}: not committed; commit first, so that figures can be traced to their code")
    if preset() != in_use:
        raise InputError(f"params.yaml is now preset {preset()}; run `wsol use {in_use}` first")
    edited = edits(PARAMS, Path())
    if edited:
        raise InputError(f"params.yaml: {edited[0]}; run `wsol use {in_use}` first, or make it a preset")


def _replace(table: Table, found: pd.DataFrame) -> None:
    """Put the lines of one row and seed into the CSV, in place of older ones."""
    old = read_rows(path_of(table), table)
    old = old[(old["row"] != found["row"].iloc[0]) | (old["seed"] != found["seed"].iloc[0])]
    rows = pd.concat([old, found]) if len(old) else found
    write_csv(path_of(table), rows.sort_values(["row", "seed", "split"]))


def _summary(table: Table, found: pd.DataFrame) -> str:
    main = table.columns()[0]
    percents = zip(found["split"], 100 * found[main.figure], strict=True)
    return ", ".join(f"{main.title} {percent:.1f} on {split}" for split, percent in percents)


def _run(run: Run, values: Mapping[str, Any], environment: Mapping[str, str]) -> list[pd.DataFrame]:
    """The figures of each row, a line per split, columns as `read_rows` has them."""
    table, start = run.table, time.monotonic()
    commit = git("rev-parse", "HEAD")[:10]
    current = read_yaml(PARAMS)
    changed = changed_params(current, {"seed": run.seed} | table.overrides(*run.rows), values)
    targets = list(dict.fromkeys(target for row in run.rows for target in table.targets(row)))
    reference = run_experiment(run.name, list(words(current, changed)), targets, environment)
    keys = {"seed": run.seed, "commit": commit, "experiment": run.name, "seconds": round(time.monotonic() - start)}
    return [_figures(table, row, reference, keys) for row in run.rows]


def _figures(table: Table, row: Row, reference: str, keys: Mapping[str, Any]) -> pd.DataFrame:
    figures = table.read_figures(row, lambda path: read_result(reference, f"results/{table.preset}/{path}"))
    if not figures:
        raise InputError("no figures: the data set has no annotations, or the method nothing to hold against them")
    own = {"row": row.name, "overrides": description(table.overrides(row)), **keys}
    lines = [measured | own | {"split": split} for split, measured in figures.items()]
    found = pd.DataFrame(lines, columns=[*KEYS, *RUN, *table.figures])
    return found.astype(dict.fromkeys(table.figures, float))


def changed_params(params: Mapping[str, Any], overrides: Overrides, values: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters with a row's changes, defaults written out, as `wsol use` would write them.

    Raises:
        InputError: a key is unknown or wrong (the message names it, and the nearest right one), or what stands for a
            `${NAME}` is not known.
    """
    content: dict[str, Any] = yaml.safe_load(expand(typed(apply(params, overrides, values))))
    return content
