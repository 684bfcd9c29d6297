"""Presets: partial YAML files that `wsol use NAME` merges into the demo's parameters.

`presets/demo.yaml` is `params.yaml` as committed, whole and with its comments. Every other preset is a patch on it, so
what was in use before leaves no trace: `use A; use B` equals `use B`, and `use demo` goes back.
"""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from wsol_core.core.errors import InputError, nearest
from wsol_core.core.files import atomic_path
from wsol_core.data.roots import find_root, remember_root

DEMO = "demo"
Place = tuple[str, ...]
Splice = tuple[int, int, str]
"""Start and end of a part of a text, and what replaces it."""
OPEN: set[Place] = {
    ("cam",), ("classifier",), ("oracle",), ("psol",), ("transferred",), ("import_maps",), ("calibrate", "constants"),
    ("fam",), ("bc",), ("backprop",), ("bcct",), ("bcct_joint",), ("phase_one",), ("phase_two",), ("two_phase",),
    ("heat_maps",), ("saliency",), ("sec",), ("selective_search",), ("proposal_files",), ("map_proposals",),
    ("detectors",), ("oracle_objectness",), ("descriptions",), ("linear_detectors",),
}  # fmt: skip
"""Dictionaries whose keys are names that the user chooses."""


def apply_preset(params_text: str, preset: Mapping[str, Any]) -> str:
    """Merge `preset` into the YAML text of a parameter file; comments, order and layout stay.

    RFC 7396 (JSON merge patch): mappings merge, `null` deletes a key, everything else replaces. Unlike there, a key
    that the file lacks is refused, except inside `data.SET` and `gaussian.overrides`, which need not hold every key,
    and directly inside `OPEN`. A deleted key takes the comment lines right above it along.

    Raises:
        InputError: a key is unknown; the message names the nearest right one.
    """
    text = params_text if params_text.endswith("\n") else params_text + "\n"
    _refuse_unknown(yaml.safe_load(text), preset, ())
    tree = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(tree, yaml.MappingNode)
    for start, end, new in sorted(_splices(text, tree, preset), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def use(name: str, root: Path | None = None, data_set: str = "localization", project: Path = Path()) -> list[str]:
    """Write the parameters of preset `name` to `params.yaml`, whatever stood there before.

    Args:
        name: a file of `presets/`, without `.yaml`.
        root: the folder of the preset's data set, remembered for this user under the data set's name.
        data_set: which of the preset's data sets `root` is for: a key of the block `data`.
        project: the project's root.

    Returns:
        The values edited by hand that are dropped, a line for each.

    Raises:
        InputError: the preset is unknown or does not fit the demo's parameters, or the root of a data set outside the
            project is not known; `params.yaml` stays as it was.
    """
    text = preset_text(name, project)
    outside = {key: block for key, block in yaml.safe_load(text)["data"].items() if _is_outside(block)}
    if root is not None:
        if data_set not in outside:
            raise InputError(f"preset {name!r} has no {data_set!r} data set outside the project; leave out --root")
        remember_root(outside[data_set]["name"], root)
    for key, block in outside.items():
        try:
            find_root(block["name"])
        except InputError as error:
            raise InputError(f"{error} (here: `wsol use {name} --set {key} --root PATH`)") from error
    params = project / "params.yaml"
    dropped = edits(params, project)
    with atomic_path(params) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return dropped


def _is_outside(data_set: Mapping[str, Any]) -> bool:
    """Whether the images lie outside the project: the source is then the list that `scan` makes of them."""
    return str(data_set.get("source")).endswith(".parquet")


def preset_text(name: str, project: Path = Path()) -> str:
    """The whole parameter file of a preset: the demo's text, patched.

    Raises:
        InputError: the preset is unknown, or does not fit.
    """
    folder = project / "presets"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(f"no preset {name!r}{nearest(name, known)} (there are: {', '.join(known) or 'none here'})")
    demo = (folder / f"{DEMO}.yaml").read_text(encoding="utf-8")
    if name == DEMO:
        return demo
    try:
        patch = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")) or {}
        if not isinstance(patch, dict):
            raise InputError("not a part of the parameters, `key: value` by line")
        return apply_preset(demo, patch | {"preset": name})
    except (InputError, yaml.YAMLError) as error:
        raise InputError(f"{folder / name}.yaml: {error}") from error


def _refuse_unknown(content: Mapping[str, Any], patch: Mapping[str, Any], place: Place) -> None:
    for key, value in patch.items():
        if key not in content:
            if _is_open(place):
                continue
            raise InputError(f"unknown key {'.'.join((*place, str(key)))!r}{nearest(key, content)}")
        if isinstance(value, Mapping) and isinstance(content[key], Mapping):
            _refuse_unknown(content[key], value, (*place, key))


def _is_open(place: Place) -> bool:
    return place in OPEN or place[:2] == ("gaussian", "overrides") or (place[:1] == ("data",) and len(place) >= 2)


def _splices(text: str, node: yaml.MappingNode, patch: Mapping[str, Any]) -> Iterator[Splice]:
    """What makes the block mapping `node` of `text` the merged one; it must keep at least one key."""
    pairs = {key.value: (key, value) for key, value in node.value}
    added = {key: _merged(None, value) for key, value in patch.items() if key not in pairs and value is not None}
    for name in patch.keys() & pairs.keys():
        key, value = pairs[name]
        old, new = yaml.SafeLoader("").construct_document(value), patch[name]
        if new is None:
            yield _line_start(text, key), _next_line(text, value), ""
        elif isinstance(new, Mapping) and isinstance(old, dict) and not value.flow_style and _merged(old, new):
            yield from _splices(text, value, new)
        else:
            after_colon = text.index(":", key.end_mark.index) + 1
            end, merged = max(after_colon, _end(text, value)), _merged(old, new)
            if _is_nested(merged):
                below = _next_line(text, value)
                yield after_colon, end, ""
                yield below, below, textwrap.indent(_dump(merged), " " * (key.start_mark.column + 2))
            else:
                yield after_colon, end, f" {_flow(merged)}"
    if added:
        end = _next_line(text, node)
        new = "".join(_entry(key, value) for key, value in added.items())
        yield end, end, textwrap.indent(new, " " * node.value[0][0].start_mark.column)


def _merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    kept = {key: value for key, value in old.items() if key not in patch} if isinstance(old, dict) else {}
    given = old if isinstance(old, dict) else {}
    return kept | {key: _merged(given.get(key), value) for key, value in patch.items() if value is not None}


def _entry(key: str, value: Any) -> str:
    """A new key: a line, or a block where its value is nested twice."""
    return _dump({key: value}) if _is_nested(value) else f"{key}: {_flow(value)}\n"


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(inner, Mapping) for inner in value.values())


class _Dumper(yaml.SafeDumper):
    """Writes what stands twice twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _dump(value: Any, flow: bool | None = None) -> str:
    """YAML; where `flow` is None, a line for each innermost mapping and a block around them."""
    return str(yaml.dump(value, Dumper=_Dumper, default_flow_style=flow, sort_keys=False, width=float("inf")))


def _flow(value: Any) -> str:
    return _dump(value, flow=True).removesuffix("...\n").strip()


def _end(text: str, node: yaml.Node) -> int:
    """Where the last character of `node` stands, plus one; a block's own end mark lies behind the comments after it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    return node.start_mark.index + len(text[node.start_mark.index : node.end_mark.index].rstrip())


def _next_line(text: str, node: yaml.Node) -> int:
    return text.index("\n", _end(text, node)) + 1


def _line_start(text: str, key: yaml.Node) -> int:
    """The start of the key's line, or of the first of the comment lines right above it."""
    start = key.start_mark.index - key.start_mark.column
    while start:
        above = text.rindex("\n", 0, start - 1) + 1 if "\n" in text[: start - 1] else 0
        if not text[above:start].startswith(" " * key.start_mark.column + "#"):
            break
        start = above
    return start


def edits(params: Path, project: Path) -> list[str]:
    """How the parameter file differs from the preset that it names, a line for each value."""
    if not params.exists():
        return []
    try:
        now = yaml.safe_load(params.read_text(encoding="utf-8"))
        old = dict(_leaves(yaml.safe_load(preset_text(str(now["preset"]), project))))
        new = dict(_leaves(now))
    except (InputError, yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError):
        return [f"all of {params.name}, which is not one of the presets' files"]
    return [
        f"{'.'.join(place)}: {new.get(place, 'deleted')} (preset: {old.get(place, 'none')})"
        for place in {**old, **new}
        if place not in old or place not in new or old[place] != new[place]
    ]


def _leaves(content: Mapping[str, Any], place: Place = ()) -> Iterator[tuple[Place, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*place, str(key)))
        else:
            yield (*place, str(key)), value
