"""What is missing of tables, and about how long it will take, before anything runs."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from wsol_core.ablations.runs import Run, path_of, read_rows
from wsol_core.doctor.clock import clock
from wsol_core.doctor.pipeline import Stage, read_pipeline


def cost(runs: Sequence[Run]) -> Iterator[str]:
    """A line for the rows that run together, with their seeds, and one on the time of all runs.

    The time is that of the same rows at other seeds, else of the table's other rows, as their CSV has it.

    Raises:
        InputError: a CSV file is damaged, or this is no DVC project.
    """
    together: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        together.setdefault((run.table.name, run.row_names), []).append(run.seed)
    for (table, rows), seeds in together.items():
        yield f"{table} {rows}: seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    yield f"{len(runs)} run{'s' * (len(runs) > 1)}: {_time(runs)}"


def _time(runs: Sequence[Run]) -> str:
    known = {run.name: seconds for run in runs if (seconds := _seconds(run)) is not None}
    unknown = [run for run in runs if run.name not in known]
    if not unknown:
        return f"about {clock(sum(known.values()))}"
    stages = _stages(unknown)
    text = f"unknown; about {stages} stage{'s' * (stages > 1)} a run" if stages else "unknown"
    return f"about {clock(sum(known.values()))}, and of {len(unknown)} of them {text}" if known else text


def _seconds(run: Run) -> float | None:
    """Of one run, by the table's CSV; None where no run of the table has been timed."""
    timed = read_rows(path_of(run.table), run.table).dropna(subset=["seconds"])
    if timed.empty:
        return None
    own = timed[timed["row"].isin([row.name for row in run.rows])]
    return float((timed if own.empty else own)["seconds"].astype(float).mean())


def _stages(runs: Sequence[Run]) -> int:
    """The most stages that one of the runs needs of those that the preset has; 0 where it has none of the targets."""
    stages = read_pipeline().stages
    targets = [{target for row in run.rows for target in run.table.targets(row)} for run in runs]
    return max(needed(stages, each) for each in targets)


def needed(stages: Sequence[Stage], targets: set[str]) -> int:
    """How many stages DVC runs for `targets`: they and all that make what they read."""
    found = {stage for stage in stages if stage.address in targets}
    size = -1
    while size < len(found):
        size, read = len(found), [PurePosixPath(dep) for stage in found for dep in stage.deps]
        found |= {each for each in stages if any(_meet(PurePosixPath(out), dep) for out in each.outs for dep in read)}
    return size


def _meet(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
