"""The stages that these parameters make, as DVC resolves them; inputs that nothing makes; who else is at work."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from wsol_core.core.errors import InputError, nearest
from wsol_core.doctor.finding import Finding

ASSETS = "data/demo"
CODE = ("stages", "wsol_core")


@dataclass(frozen=True)
class Stage:
    """One resolved stage.

    Attributes:
        name: `maps`.
        item: what stands behind `@`, or "".
        blocks: parameters that it declares.
        deps: files that it reads, without code.
        outs: files that it writes.
    """

    name: str
    item: str
    blocks: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def address(self) -> str:
        """As DVC calls it."""
        return f"{self.name}@{self.item}" if self.item else self.name


@dataclass(frozen=True)
class Pipeline:
    """All stages, in the order of dvc.yaml, and where DVC keeps things.

    Attributes:
        stages: resolved.
        cache: folder of the artifacts.
        copies: whether artifacts lie in the workspace as copies, so that they take their space twice.
        running: the commands of other processes that hold DVC's lock here.
    """

    stages: tuple[Stage, ...]
    cache: Path
    copies: bool
    running: tuple[str, ...]


def read_pipeline() -> Pipeline:
    """What DVC makes of dvc.yaml and params.yaml.

    Raises:
        InputError: this is no DVC project, a list or dictionary of the parameters is missing, or two stages write the
            same file.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    if not Path(".dvc").is_dir():
        raise InputError("no .dvc folder here; run from the project's root, in a git clone or after `dvc init`")
    try:
        repo = Repo(".")
        repo.index.check_graph()
        stages = tuple(_stage(each) for each in repo.index.stages)
    except DvcException as error:
        reason = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        raise InputError(f"{reason}; mend dvc.yaml or params.yaml") from error
    links = repo.config["cache"].get("type") or ["reflink", "copy"]
    cache = Path(repo.cache.local.path)
    return Pipeline(stages, cache, "copy" in links and "hardlink" not in links, tuple(_running(Path(repo.tmp_dir))))


def unmade_inputs(stages: Sequence[Stage], made: Sequence[str], heat_maps: Mapping[str, str]) -> list[Finding]:
    """The inputs that no stage makes: typing errors in names of methods, networks that are switched off.

    Args:
        stages: all of them.
        made: the files and folders that they make.
        heat_maps: by name, the networks whose maps are compared, spaces between.
    """
    readers: dict[str, list[str]] = {}
    for stage in stages:
        for dep in stage.deps:
            readers.setdefault(dep, []).append(stage.address)
    for name, stores in heat_maps.items():
        for store in stores.split() or [name]:
            readers.setdefault(f"data/detection/outputs/{store}/maps.h5", []).append(f"heat_maps.{name}")
    findings = []
    for dep, names in readers.items():
        if any(_holds(out, dep) or _holds(dep, out) for out in made):
            continue
        who = names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        if not Path(dep).exists():
            text = f"nothing makes {dep}, which {who} read{_hint(dep, made)}; mend the name, or add what makes it"
            findings.append(Finding("error", "params", text))
        elif dep.startswith("data/") and dep != ASSETS:
            text = f"nothing makes {dep} any more, which {who} read as an earlier run left it; add what makes it"
            findings.append(Finding("warning", "params", text))
    return findings


def _stage(found: Any) -> Stage:
    name, _, item = found.addressing.partition("@")
    params = [key for dep in found.deps for key in getattr(dep, "params", ())]
    files = [dep.def_path for dep in found.deps if not hasattr(dep, "params")]
    deps = [path for path in files if PurePosixPath(path).parts[0] not in CODE]
    return Stage(name, item, tuple(map(str, params)), tuple(deps), tuple(out.def_path for out in found.outs))


def _holds(folder: str, path: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)


def _hint(path: str, made: Sequence[str]) -> str:
    """The likeliest file in the same folder; of a network's output, the likeliest network."""
    place = PurePosixPath(path)
    if place.parent.parent.name == "outputs":
        networks = {each.parent.name for each in map(PurePosixPath, made) if each.parent.parent == place.parent.parent}
        if place.parent.name not in networks:
            return nearest(place.parent.name, networks)
    return nearest(place.stem, {each.stem for each in map(PurePosixPath, made) if each.parent == place.parent})


def _running(temporary: Path) -> Iterator[str]:
    """What living processes hold the lock on files here: `rwlock` names them by path."""
    content: dict[str, dict[str, Any]] = {}
    with suppress(OSError, ValueError):
        content = json.loads((temporary / "rwlock").read_text(encoding="utf-8"))
    holders = [holder for entry in content.values() for holder in (*entry.get("read", ()), entry.get("write"))]
    commands = {holder["pid"]: holder["cmd"] for holder in holders if holder}
    for pid, command in sorted(commands.items()):
        if pid != os.getpid() and _lives(pid):
            yield f"{command} (process {pid})"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
