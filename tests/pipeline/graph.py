"""A pipeline as DVC resolves it, and what reaches what."""

from pathlib import Path
from typing import NamedTuple


class Stage(NamedTuple):
    """A stage: paths relative to the project; parameters are left out."""

    name: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]


def resolve(pipeline: str, params: str, folder: Path) -> list[Stage]:
    """The stages that DVC makes of a pipeline and a parameter file, `foreach` and `matrix` unrolled."""
    from dvc.repo import Repo

    folder.mkdir()
    (folder / "dvc.yaml").write_text(pipeline, encoding="utf-8")
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    with Repo.init(str(folder), no_scm=True) as repo:
        return [
            Stage(
                stage.name,
                tuple(
                    Path(dep.fs_path).relative_to(folder).as_posix() for dep in stage.deps if not hasattr(dep, "params")
                ),
                tuple(Path(out.fs_path).relative_to(folder).as_posix() for out in stage.outs),
            )
            for stage in repo.index.stages
        ]


def overlap(first: str, second: str) -> bool:
    """Whether a path is, holds or lies in another."""
    return first == second or first.startswith(f"{second}/") or second.startswith(f"{first}/")


def upstream(stage: Stage, stages: list[Stage]) -> set[str]:
    """Names of the stages on a path that leads to `stage`."""
    return {
        other.name
        for other in stages
        if any(overlap(path, out) for path in reached(stage, stages) for out in other.outs)
    }


def downstream(path: str, stages: list[Stage]) -> set[str]:
    """Names of the stages that a changed file reruns: those that depend on it, and on their outputs."""
    found: set[str] = set()
    waiting = [path]
    while waiting:
        changed = waiting.pop()
        for stage in stages:
            if stage.name not in found and any(overlap(changed, dep) for dep in stage.deps):
                found.add(stage.name)
                waiting += stage.outs
    return found


def reached(stage: Stage, stages: list[Stage]) -> set[str]:
    """Every artifact on a path of the graph that leads to `stage`."""
    found: set[str] = set()
    waiting = list(stage.deps)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [dep for other in stages if any(overlap(path, out) for out in other.outs) for dep in other.deps]
    return found
