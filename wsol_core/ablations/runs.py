"""The runs of an ablation's rows as DVC experiments, and their figures as CSV (`results/ablations/PRESET/TABLE.csv`).

A run has its own copy of the project (`dvc exp run --temp`), so that the workspace stays as it is and can be worked in
and committed meanwhile; DVC's cache is shared. It is named TABLE-ROW-SEED among the experiments. Its output goes to
`logs/ablations`, its checkpoints to the workspace's scratch folder, so that a killed training goes on.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import yaml

from wsol_core.ablations.definition import Row, Table
from wsol_core.ablations.overrides import Overrides, apply, description, words
from wsol_core.configuration.expand import expand
from wsol_core.configuration.parameters import typed
from wsol_core.configuration.presets import edits
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_csv
from wsol_core.core.params import PARAMS, preset
from wsol_core.core.texts import read_yaml

RESULTS = Path("results/ablations")
LOGS = Path("logs/ablations")
CODE = ("dvc.yaml", "stages", "wsol_core")
KEYS = ("row", "seed", "overrides", "commit", "split")


def read_rows(path: Path, table: Table) -> pd.DataFrame:
    """The CSV file of a table, columns `KEYS` and its figures; empty where there is none, NaN what older rows lack.

    Raises:
        InputError: it is damaged.
    """
    columns = [*KEYS, *table.figures]
    if not path.exists():
        return pd.DataFrame(columns=columns)
    try:
        found = pd.read_csv(path, dtype={"overrides": str, "commit": str})
        found[[*KEYS, table.figures[0]]]  # what any version of the table has
        return found.reindex(columns=columns)
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table of ablations; restore or delete it") from error


def _refuse_edits(in_use: str) -> None:
    """Make sure that figures are those of the commit and of the preset."""
    changed = _git("status", "--porcelain", "--", *CODE).splitlines()
    if changed:
        raise InputError(f"{changed[0][3:]}: not committed; commit first, so that figures can be traced to their code")
    if preset() != in_use:
        raise InputError(f"params.yaml is now preset {preset()}; run `wsol use {in_use}` first")
    edited = edits(PARAMS, Path())
    if edited:
        raise InputError(f"params.yaml: {edited[0]}; run `wsol use {in_use}` first, or make it a preset")


def run_missing(
    table: Table,
    rows: Sequence[Row],
    seeds: Sequence[int],
    in_use: str,
    values: Mapping[str, Any],
    say: Callable[[str], None],
) -> int:
    """Run the rows that the CSV lacks, seed by seed, and rewrite the CSV after each.

    A row whose overrides have changed counts as missing. A row that fails is told in one line; the others go on.

    Args:
        table: of the rows.
        rows: of the table.
        seeds: a run each.
        in_use: the preset.
        values: the user's for `${NAME}`.
        say: takes a line when a run starts, and one when its figures are in the CSV.

    Returns:
        How many runs failed.

    Raises:
        InputError: before any run, code is not committed, the preset is another or its parameters are edited.
    """
    path = RESULTS / in_use / f"{table.name}.csv"
    done = {tuple(key) for key in read_rows(path, table)[["row", "seed", "overrides"]].itertuples(index=False)}
    runs = [(row, seed, description(table.overrides(row))) for seed in seeds for row in rows]
    todo = [(row, seed) for row, seed, overrides in runs if (row.name, seed, overrides) not in done]
    failed = 0
    for number, (row, seed) in enumerate(todo, 1):
        place = f"{table.name} {row.name}, seed {seed} ({number} of {len(todo)})"
        _refuse_edits(in_use)
        say(f"{place}: runs; {_log(table, row, seed)}")
        try:
            found = _run(table, row, seed, in_use, values)
        except InputError as error:
            failed += 1
            say(f"{place}: failed: {error}")
            continue
        _replace(path, table, found)
        say(f"{place}: {_summary(table, found)}")
    return failed


def _replace(path: Path, table: Table, found: pd.DataFrame) -> None:
    """Put the rows of one run into the CSV, in place of older ones."""
    old = read_rows(path, table)
    old = old[(old["row"] != found["row"].iloc[0]) | (old["seed"] != found["seed"].iloc[0])]
    rows = pd.concat([old, found]) if len(old) else found
    write_csv(path, rows.sort_values(["row", "seed", "split"]))


def _summary(table: Table, found: pd.DataFrame) -> str:
    main = table.columns()[0]
    percents = zip(found["split"], 100 * found[main.figure], strict=True)
    return ", ".join(f"{main.title} {percent:.1f} on {split}" for split, percent in percents)


def _run(table: Table, row: Row, seed: int, in_use: str, values: Mapping[str, Any]) -> pd.DataFrame:
    """The figures of one row, a line per split, columns as `read_rows` has them."""
    overrides = table.overrides(row)
    commit = _git("rev-parse", "HEAD")[:10]
    current = read_yaml(PARAMS)
    changed = changed_params(current, {"seed": seed} | overrides, values)
    reference = _experiment(list(words(current, changed)), table.targets(row), _log(table, row, seed))
    figures = table.read_figures(row, lambda path: _read_json(reference, f"results/{in_use}/{path}"))
    if not figures:
        raise InputError("no figures: the data set has no annotations, or the method nothing to hold against them")
    keys = {"row": row.name, "seed": seed, "overrides": description(overrides), "commit": commit}
    lines = [measured | keys | {"split": split} for split, measured in figures.items()]
    found = pd.DataFrame(lines, columns=[*KEYS, *table.figures])
    return found.astype(dict.fromkeys(table.figures, float))


def changed_params(params: Mapping[str, Any], overrides: Overrides, values: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters with a row's changes, defaults written out, as `wsol use` would write them.

    Raises:
        InputError: a key is unknown or wrong (the message names it, and the nearest right one), or what stands for a
            `${NAME}` is not known.
    """
    content: dict[str, Any] = yaml.safe_load(expand(typed(apply(params, overrides, values))))
    return content


def _log(table: Table, row: Row, seed: int) -> Path:
    """Where the output of a run goes; its stem is the experiment's name."""
    return LOGS / f"{table.name}-{row.name}-{seed}.log"


def _experiment(changes: Sequence[str], targets: Sequence[str], log: Path) -> str:
    """Run the experiment named as `log`; returns the Git reference of its result."""
    name = log.stem
    settings = [word for each in changes for word in ("-S", each)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        if _references(name):
            _dvc(file, "exp", "remove", name)
        older = _references(name)
        code = _dvc(file, "exp", "run", "--temp", "--name", name, *settings, *targets)
    made = _references(name) - older
    if code or not made:
        raise InputError(_complaint(log.read_text(encoding="utf-8")))
    return made.pop()


def _complaint(output: str) -> str:
    """The first line on an error: the stage's own, else DVC's, else any."""
    lines = [line for start in ("error:", "ERROR:", "") for line in output.splitlines() if line.startswith(start)]
    return next((line for line in lines if line.strip()), "DVC made no experiment")


def _dvc(log: TextIO, *command: str) -> int:
    """DVC's exit code; what it starts finds this Python and the workspace's scratch folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    scratch = str(Path(os.environ.get("WSOL_SCRATCH", ".wsol")).resolve())
    environment = {**os.environ, "PATH": path, "WSOL_SCRATCH": scratch}
    command = (sys.executable, "-m", "dvc", *command)
    return subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def _git(*command: str) -> str:
    done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"git {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _references(name: str) -> set[str]:
    """The Git references of an experiment's results: one for each commit that it started from."""
    return set(_git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").split())


def _read_json(reference: str, path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_git("show", f"{reference}:{path}"))
    return content
