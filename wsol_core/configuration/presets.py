"""Presets: partial YAML files that `wsol use NAME` merges onto the demo's and writes out whole as `params.yaml`.

What was in use before leaves no trace: `use A; use B` equals `use B`, and `use demo` goes back.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsol_core.configuration.expand import expand
from wsol_core.configuration.parameters import Parameters, typed
from wsol_core.core.errors import InputError, nearest
from wsol_core.core.files import atomic_path
from wsol_core.core.texts import parse_yaml, read_yaml
from wsol_core.data.roots import find_root, registry, remember_root

DEMO = "demo"
LOCK = "schema: '2.0'\nstages: {}\n"
"""DVC's record of what the stages made, with nothing in it."""
Place = tuple[str, ...]


def use(name: str, root: Path | None = None, data_set: str = "localization", project: Path = Path()) -> list[str]:
    """Write the parameters of preset `name` to `params.yaml`, whatever stood there before.

    Where another preset was in use, `dvc.lock` is emptied: DVC takes entries of stages that are no more for outputs
    that it has to check out.

    Args:
        name: a file of `presets/`, without `.yaml`.
        root: the folder of the preset's data set, remembered for this user under the data set's name.
        data_set: which of the preset's data sets `root` is for: a key of the block `data`.
        project: the project's root.

    Returns:
        What else happened, a line each: where the root was remembered, the values edited by hand that are dropped, the
        entries of `dvc.lock` that are dropped.

    Raises:
        InputError: the preset is unknown or wrong, or the root of a data set outside the project is not known;
            `params.yaml` stays as it was.
    """
    parameters = preset_parameters(name, project)
    outside = {key: block.name for key, block in parameters.data.items() if not block.folder}
    said: list[str] = []
    if root is not None:
        if data_set not in outside:
            raise InputError(f"preset {name!r} has no {data_set!r} data set outside the project; leave out --root")
        remember_root(outside[data_set], root)
        said.append(f"the root of data set {outside[data_set]!r} is remembered in {registry()}")
    for key, known in outside.items():
        try:
            find_root(known)
        except InputError as error:
            raise InputError(f"{error} (here: `wsol use {name} --set {key} --root PATH`)") from error
    params = project / "params.yaml"
    said += [f"dropped {line}" for line in edits(params, project)]
    before = _name_in(params)
    with atomic_path(params) as temporary:
        temporary.write_text(expand(parameters), encoding="utf-8")
    return said + (_emptied(project / "dvc.lock", before) if before not in ("", name) else [])


def preset_parameters(name: str, project: Path = Path()) -> Parameters:
    """The parameters of a preset: its file merged onto the demo's.

    Raises:
        InputError: the preset is unknown, or wrong.
    """
    folder = project / "presets"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(f"no preset {name!r}{nearest(name, known)} (there are: {', '.join(known) or 'none here'})")
    path = folder / f"{name}.yaml"
    content = _read(folder / f"{DEMO}.yaml")
    try:
        if name != DEMO:
            patch = _read(path)
            _refuse_idle_deletions(content, patch)
            content = merge(content, patch)
        return typed(content | {"preset": name})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396 (JSON merge patch): mappings merge, `None` deletes a key, everything else replaces.

    >>> merge({"a": {"b": 1, "c": 2}, "d": [3]}, {"a": {"b": None, "e": 4}, "d": [5]})
    {'a': {'c': 2, 'e': 4}, 'd': [5]}
    """
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            inner = merged.get(key)
            merged[key] = merge(inner if isinstance(inner, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def edits(params: Path, project: Path) -> list[str]:
    """How the parameter file differs from the preset that it names, a line for each value."""
    if not params.exists():
        return []
    try:
        now = _read(params)
        preset = parse_yaml(expand(preset_parameters(str(now["preset"]), project)), "preset")
    except (InputError, LookupError):
        return [f"all of {params.name}, which is not one of the presets' files"]
    if other := sorted(set(now) - set(preset)):
        return [f"all of {params.name}, which is of another version: it has a block {other[0]!r}"]
    old, new = dict(_leaves(preset)), dict(_leaves(now))
    return [
        f"{'.'.join(place)}: {new.get(place, 'deleted')} (preset: {old.get(place, 'none')})"
        for place in {**old, **new}
        if place not in old or place not in new or old[place] != new[place]
    ]


def _emptied(lock: Path, preset: str) -> list[str]:
    """Empty `dvc.lock`; what was in it, in a line."""
    if not lock.exists():
        return []
    try:
        stages = len(_read(lock).get("stages") or {})
    except InputError:
        stages = 0
    if not stages:
        return []
    with atomic_path(lock) as temporary:
        temporary.write_text(LOCK, encoding="utf-8")
    return [
        f"dvc.lock: {stages} stages of preset {preset!r} dropped; outputs stay in the cache, "
        "`git checkout dvc.lock` brings them back"
    ]


def _name_in(params: Path) -> str:
    """The preset that a parameter file names, or ""."""
    try:
        return str(_read(params).get("preset") or "")
    except InputError:
        return ""


def _refuse_idle_deletions(base: Mapping[str, Any], patch: Mapping[str, Any], place: Place = ()) -> None:
    for key, value in patch.items():
        if value is None and key not in base:
            raise InputError(f"{'.'.join((*place, key))}: null, but {DEMO} has no such key{nearest(key, base)}")
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            _refuse_idle_deletions(base[key], value, (*place, str(key)))


def _read(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a part of the parameters, `key: value` by line")
    return content


def _leaves(content: Mapping[str, Any], place: Place = ()) -> Iterator[tuple[Place, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*place, str(key)))
        else:
            yield (*place, str(key)), value
