"""The doctor's answer as text and JSON."""

import json
from collections.abc import Iterator

from wsol_core.doctor.clock import clock
from wsol_core.doctor.examination import Examination
from wsol_core.doctor.machine import GIB

ORDER = ("error", "warning", "note")
HEADER = ("stage", "formula", "time", "MB")


def as_json(examination: Examination) -> str:
    """Findings, stages with seconds, bytes and formula, and the total (null without an estimate)."""
    return json.dumps(examination.as_dict(), indent=2)


def lines(examination: Examination) -> Iterator[str]:
    """A line for each finding, the worst first."""
    for level in ORDER:
        yield from (str(finding) for finding in examination.findings if finding.level == level)


def rows(examination: Examination) -> list[tuple[str, ...]]:
    """A row for each stage, under `HEADER`."""
    return [(cost.stage, cost.formula, clock(cost.seconds), f"{cost.bytes / 1e6:.1f}") for cost in examination.costs]


def total(examination: Examination) -> str:
    """The whole pipeline in a line."""
    return (
        f"in all about {clock(examination.seconds)} from nothing (half to twice as long), and "
        f"{examination.bytes / GIB:.2f} GiB, twice where DVC copies"
    )
