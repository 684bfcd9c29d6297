"""What an evaluation of somebody's outputs found, and how it is written down."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from wsol_core.core.files import write_csv, write_json
from wsol_core.core.tables import print_table
from wsol_core.external.curve_picture import write_curves

DIGITS = 6


@dataclass(frozen=True)
class Outcome:
    """Everything that one evaluation found.

    Attributes:
        title: what was measured.
        figures: by key; shares in [0, 1], thresholds, or dictionaries of them; NaN or None where not to be had.
        counts: numbers of images and boxes.
        notes: why a figure is not to be had, or how it is to be read, by key.
        tables: written as CSV.
        curves: written as CSV and as a picture; the first column is the horizontal axis.
    """

    title: str
    figures: dict[str, Any]
    counts: dict[str, int]
    notes: dict[str, str] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    curves: dict[str, pd.DataFrame] = field(default_factory=dict)


def write_outcome(out: Path, outcome: Outcome) -> list[Path]:
    """Write `NAME.json`, `NAME.csv` (`figure`, `value`), `NAME-TABLE.csv` and `NAME-CURVE.png` beside one another.

    Floats are rounded to six digits; a figure that is not to be had is null, and `notes` says why.

    Returns:
        The files, in the order of writing.
    """
    figures = _plain(outcome.figures)
    write_json(out, {**figures, **outcome.counts, "notes": outcome.notes})
    rows = [*flat(figures), *outcome.counts.items()]
    tables = {"": pd.DataFrame(rows, columns=["figure", "value"], dtype=object)}
    tables |= {f"-{name}": table.round(DIGITS) for name, table in {**outcome.tables, **outcome.curves}.items()}
    written = [out]
    for suffix, table in tables.items():
        written.append(out.with_name(f"{out.stem}{suffix}.csv"))
        write_csv(written[-1], table)
    for name, curves in outcome.curves.items():
        written.append(out.with_name(f"{out.stem}-{name}.png"))
        write_curves(written[-1], curves, f"{outcome.title}: {name.replace('_', ' ')}")
    return written


def flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Figures by dotted key, lists and dictionaries taken apart."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield from flat({str(place): part for place, part in enumerate(value)}, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def print_outcome(outcome: Outcome) -> None:
    """Print the figures with their notes, and the counts, as a table; shares in percent."""
    rows = [
        (key, _shown(key, value), outcome.notes.get(key.split(".")[0], ""))
        for key, value in flat(_plain(outcome.figures))
    ]
    rows += [(key.replace("_", " "), str(count), "") for key, count in outcome.counts.items()]
    print_table(outcome.title, ("figure", "value", "note"), rows, ("value",))


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if "threshold" in key or "side" in key else f"{100 * value:.2f} %"


def _plain(value: Any) -> Any:
    """NaN as None, floats rounded, keys as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(float(value), DIGITS)
    return value
