"""`docs/results.md`: every ablation table, ours beside the paper's, between markers; text around them is by hand."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from wsol_core.ablations.definition import PaperFigure, Row, Table
from wsol_core.ablations.runs import RESULTS, read_rows
from wsol_core.files import atomic_path

DOCS = Path("docs/results.md")
SPLIT = "test"
HEADER = ("row", "seeds", "paper GT-known", "GT-known", "at best of split", "threshold")
TOP_HEADER = ("paper Top-1", "Top-1", "paper Top-5", "Top-5")


def update_docs(tables: dict[str, Table], project: Path = Path()) -> None:
    """Rewrite each table between `<!-- ablation:TABLE -->` and `<!-- /ablation:TABLE -->`; a new one goes to the end.

    Raises:
        InputError: a CSV file is damaged.
    """
    path = project / DOCS
    text = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    for table in tables.values():
        text = _with_block(text, table.name, section(table, project))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _with_block(text: str, name: str, content: str) -> str:
    opening, closing = f"<!-- ablation:{name} -->", f"<!-- /ablation:{name} -->"
    old = re.search(rf"{re.escape(opening)}.*?{re.escape(closing)}", text, re.DOTALL)
    before, after = (text[: old.start()], text[old.end() :]) if old else (f"{text}\n", "\n")
    return f"{before}{opening}\n{content}\n{closing}{after}"


def section(table: Table, project: Path = Path()) -> str:
    """Title, source, command, and a Markdown table for each preset with figures."""
    lines = [f"### {table.title}", "", table.source, "", f"`wsol use {table.preset}`, `wsol ablate {table.name}`", ""]
    found = sorted((project / RESULTS).glob(f"*/{table.name}.csv"))
    if not found:
        return "\n".join([*lines, "Not run yet."])
    for path in found:
        figures = read_rows(path)
        figures = figures[figures["split"] == SPLIT]
        lines += [_caption(path.parent.name, figures), "", *_markdown(table, figures), ""]
    return "\n".join(lines[:-1])


def _caption(preset: str, figures: pd.DataFrame) -> str:
    commits = ", ".join(sorted(figures["commit"].unique()))
    return f"Preset {preset}, code of {commits}; the best centred box has {_over_seeds(figures[:1], 'centre_box')}."


def _markdown(table: Table, figures: pd.DataFrame) -> Iterator[str]:
    header = HEADER + (TOP_HEADER if table.classifier else ())
    yield f"| {' | '.join(header)} |"
    yield f"| {' | '.join(['---', '---', *['---:'] * (len(header) - 2)])} |"
    for row in table.rows:
        cells = _cells(table, row, figures[figures["row"] == row.name])
        yield f"| {' | '.join(cells)} |"


def _cells(table: Table, row: Row, found: pd.DataFrame) -> list[str]:
    seeds = ", ".join(str(seed) for seed in sorted(found["seed"])) or "-"
    cells = [row.name, seeds, _paper(row, "gt_known"), _over_seeds(found, "gt_known")]
    cells += [_over_seeds(found, "gt_known_oracle"), _over_seeds(found, "threshold", "{:.2f}".format)]
    if table.classifier:
        cells += [_paper(row, "top1_loc"), _over_seeds(found, "top1_loc")]
        cells += [_paper(row, "top5_loc"), _over_seeds(found, "top5_loc")]
    return cells


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _over_seeds(found: pd.DataFrame, name: str, show: Callable[[float], str] = _percent) -> str:
    """The mean over seeds with the lowest and the highest; of a single seed the figure with its bootstrap interval."""
    values = found[name].dropna()
    if values.empty:
        return "-"
    bounds = (values.min(), values.max())
    if len(values) == 1 and f"{name}_low" in found:
        bounds = (found[f"{name}_low"].iloc[0], found[f"{name}_high"].iloc[0])
    elif len(values) == 1:
        return show(values.iloc[0])
    return f"{show(values.mean())} ({show(bounds[0])} to {show(bounds[1])})"


def _paper(row: Row, name: PaperFigure) -> str:
    figure = row.paper.get(name)
    return "-" if figure is None else f"{figure:.2f}"
