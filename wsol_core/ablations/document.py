"""Every ablation table on the page of its preset, ours beside the paper's."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from wsol_core.ablations.definition import Column, Row, Table, Unit
from wsol_core.ablations.pages import rewrite
from wsol_core.ablations.pairs import read_pairs
from wsol_core.ablations.runs import RESULTS, read_rows

SPLIT = "test"
FORMATS: dict[Unit, Callable[[float], str]] = {
    "percent": lambda share: f"{100 * share:.1f}",
    "share": "{:.2g}".format,
    "three": "{:.3f}".format,
    "pixels": "{:.0f}".format,
}
ENDS = ("", "_low", "_high")


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
        lines += _compared(read_pairs(path.with_name(f"{table.name}-pairs.csv")))
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
    """The mean over seeds and their standard deviation; of a single seed the figure with its bootstrap interval.

    One number where it does not change with the seed, or has no interval.
    """
    found = found.dropna(subset=[name])
    values = found[name]
    if values.empty:
        return "-"
    bounds = [found[f"{name}{end}"].iloc[0] for end in ("_low", "_high") if f"{name}{end}" in found]
    if len(values) == 1 and bounds and not pd.isna(bounds).any():
        low, high = map(show, bounds)
        return f"{show(values.iloc[0])} ({low} to {high})"
    if values.min() == values.max():
        return show(values.iloc[0])
    return f"{show(values.mean())} ± {show(values.std())}"


def _compared(pairs: pd.DataFrame) -> list[str]:
    """A Markdown table of differences between rows, the sentence that explains it before; nothing without pairs."""
    if pairs.empty:
        return []
    says = (
        "Differences between two rows at the same seeds and on the same images, with 95 % bootstrap intervals over "
        "seeds and images; `all` is every split together."
    )
    lines = [says, "", "| rows | seeds | split | GT-known, points | mean IoU | by GT-known |"]
    lines.append("| --- | --- | --- | ---: | ---: | --- |")
    for pair in pairs.to_dict("records"):
        points = _signed([100 * pair[f"gt_known{end}"] for end in ENDS], "{:+.1f}")
        iou = _signed([pair[f"mean_iou{end}"] for end in ENDS], "{:+.3f}")
        verdict = _verdict(pair["gt_known_low"], pair["gt_known_high"])
        seeds = ", ".join(str(pair["seeds"]).split())
        names = f"{pair['first']} less {pair['second']}"
        lines.append(f"| {names} | {seeds} | {pair['split']} | {points} | {iou} | {verdict} |")
    return [*lines, ""]


def _signed(figures: Sequence[float], form: str) -> str:
    mean, low, high = map(form.format, figures)
    return f"{mean} ({low} to {high})"


def _verdict(low: float, high: float) -> str:
    """What the interval of GT-known says."""
    if low > 0:
        return "above"
    return "below" if high < 0 else "cannot be told apart"


def _paper(row: Row, column: Column) -> str:
    """As the paper has it: percent with two digits, pixels whole."""
    figure = row.paper.get(column.figure)
    if figure is None:
        return "-"
    return f"{figure:.0f}" if column.unit == "pixels" else f"{figure:.2f}"
