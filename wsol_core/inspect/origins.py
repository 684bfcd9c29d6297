"""Where a layer comes from: the stage that made it, its parameters and its age, by `dvc.lock` and the file's time."""

from pathlib import PurePosixPath
from typing import Any

from wsol_core.inspect import reading
from wsol_core.inspect.workspaces import Workspace

Origin = dict[str, Any]
"""`stage`, `command`, `params` and `made` (seconds since 1970), each None or empty where not known; `notes`."""


def origin(workspace: Workspace, path: str) -> Origin:
    """The origin of a file or folder. Notes say where `dvc.lock` no longer fits what lies in the workspace."""
    stages = _read(workspace, "dvc.lock").get("stages") or {}
    current = _read(workspace, "params.yaml")
    known: Origin = {"stage": None, "command": None, "params": {}, "made": workspace.time(path), "notes": []}
    for name, stage in stages.items():
        for output in stage.get("outs", ()):
            if PurePosixPath(path).is_relative_to(output["path"]):
                params = (stage.get("params") or {}).get("params.yaml", {})
                changed = sorted(key for key, value in params.items() if _value(current, key) != value)
                notes = [f"{key} has changed in params.yaml since" for key in changed]
                notes += _other_size(workspace, path, output)
                return known | {"stage": name, "command": stage.get("cmd"), "params": params, "notes": notes}
    return known | {"notes": ["dvc.lock names no stage that made it"]}


def _read(workspace: Workspace, name: str) -> dict[str, Any]:
    path = workspace.locate(name)
    return reading.document(path) if path else {}


def _value(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params


def _other_size(workspace: Workspace, path: str, output: dict[str, Any]) -> list[str]:
    """A file's length is looked at, not its content: stores have gigabytes."""
    file = workspace.locate(path) if path == output["path"] else None
    differs = file is not None and file.stat().st_size != output.get("size", file.stat().st_size)
    return ["the file is not the one that dvc.lock knows"] if differs else []
