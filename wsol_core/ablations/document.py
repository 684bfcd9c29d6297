"""Every ablation table on the page of its preset, ours beside the paper's."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from wsol_core.ablations.definition import Column, Row, Table, Unit
from wsol_core.ablations.pages import rewrite
from wsol_core.ablations.runs import RESULTS, read_rows

SPLIT = "test"
FORMATS: dict[Unit, Callable[[float], str]] = {
    "percent": lambda share: f"{100 * share:.1f}",
    "share": "{:.2g}".format,
    "three": "{:.3f}".format,
    "pixels": "{:.0f}".format,
}


def update_docs(tables: dict[str, Table], project: Path = Path()) -> None:
    """Rewrite the block `ablation:TABLE` of each table on the page of the preset that it is meant for.

    Raises:
        InputError: a CSV file is damaged, or a block is opened and not closed.
    """
    for preset in dict.fromkeys(table.preset for table in tables.values()):
        own = (table for table in tables.values() if table.preset == preset)
        rewrite(preset, {f"ablation:{table.name}": section(table, project) for table in own}, project)


def section(table: Table, project: Path = Path()) -> str:
    """Title, source, command, and a Markdown table for each preset with figures."""
    lines = [f"### {table.title}", "", table.source, "", f"`wsol use {table.preset}`, `wsol ablate {table.name}`", ""]
    found = sorted((project / RESULTS).glob(f"*/{table.name}.csv"))
    if not found:
        return "\n".join([*lines, "Not run yet."])
    for path in found:
        figures = read_rows(path, table)
        lines += [_caption(path.parent.name, table, figures), "", *_markdown(table, figures), ""]
    return "\n".join(lines[:-1])


def _caption(preset: str, table: Table, figures: pd.DataFrame) -> str:
    figures = figures[figures["split"] == SPLIT]
    commits = ", ".join(sorted(figures["commit"].unique()))
    baseline = ""
    if table.baseline:
        says, name = table.baseline
        baseline = f"; {says} {_over_seeds(figures[:1], name)}"
    return f"Preset {preset}, code of {commits}{baseline}."


def _markdown(table: Table, figures: pd.DataFrame) -> Iterator[str]:
    columns = [
        column
        for column in table.columns()
        if column.in_paper or figures.loc[figures["split"] == column.split, column.figure].notna().any()
    ]
    titles = [
        title for column in columns for title in ([f"paper {column.title}"] if column.in_paper else []) + [column.title]
    ]
    yield f"| {' | '.join(['row', 'seeds', *titles])} |"
    yield f"| {' | '.join(['---', '---', *['---:'] * len(titles)])} |"
    for row in table.rows:
        cells = _cells(columns, row, figures[figures["row"] == row.name])
        yield f"| {' | '.join(cells)} |"


def _cells(columns: Sequence[Column], row: Row, found: pd.DataFrame) -> Iterator[str]:
    yield row.name
    yield ", ".join(str(seed) for seed in sorted(found["seed"].unique())) or "-"
    for column in columns:
        if column.in_paper:
            yield _paper(row, column)
        yield _over_seeds(found[found["split"] == column.split], column.figure, FORMATS[column.unit])


def _over_seeds(found: pd.DataFrame, name: str, show: Callable[[float], str] = FORMATS["percent"]) -> str:
    """The mean over seeds with the lowest and the highest; of a single seed the figure with its bootstrap interval.

    One number where it does not change with the seed, or has no interval.
    """
    values = found[name].dropna()
    if values.empty:
        return "-"
    bounds = (values.min(), values.max())
    if len(values) == 1 and f"{name}_low" in found:
        bounds = (found[f"{name}_low"].iloc[0], found[f"{name}_high"].iloc[0])
    elif bounds[0] == bounds[1]:
        return show(bounds[0])
    return f"{show(values.mean())} ({show(bounds[0])} to {show(bounds[1])})"


def _paper(row: Row, column: Column) -> str:
    """As the paper has it: percent with two digits, pixels whole."""
    figure = row.paper.get(column.figure)
    if figure is None:
        return "-"
    return f"{figure:.0f}" if column.unit == "pixels" else f"{figure:.2f}"
