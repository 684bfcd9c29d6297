"""Where a data set lives on this machine. A place is not a parameter: moving a folder invalidates no result."""

import os
import re
from pathlib import Path

import yaml

from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path
from wsol_core.core.texts import read_yaml


def registry() -> Path:
    """The per-user file that maps data set names to their roots (`XDG_CONFIG_HOME` moves it)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "wsol" / "roots.yaml"


def find_root(name: str) -> Path:
    """The root folder of data set `name`: `WSOL_ROOT_<NAME>`, else the registry.

    Raises:
        InputError: the root is not known, or is not a folder.
    """
    variable = f"WSOL_ROOT_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"
    place = os.environ.get(variable) or _read().get(name)
    if place is None:
        raise InputError(f"where is data set {name!r}? Run `wsol use PRESET --root PATH`, or set {variable}")
    root = Path(place).expanduser()
    if not root.is_dir():
        raise InputError(f"{root}: the root of data set {name!r} is not a folder; run `wsol use PRESET --root PATH`")
    return root.resolve()


def remember_root(name: str, root: Path) -> None:
    """Write `root` into the registry under `name`.

    Raises:
        InputError: `root` is not a folder.
    """
    if not root.is_dir():
        raise InputError(f"{root}: not a folder")
    roots = _read() | {name: str(root.resolve())}
    with atomic_path(registry()) as temporary:
        temporary.write_text(yaml.safe_dump(roots, sort_keys=True), encoding="utf-8")


def _read() -> dict[str, str]:
    if not registry().exists():
        return {}
    try:
        content = read_yaml(registry())
    except InputError as error:
        raise InputError(f"{error}; mend or delete it") from error
    if not isinstance(content or {}, dict):
        raise InputError(f"{registry()}: not a list of `name: folder` lines; mend or delete it")
    return {str(name): str(place) for name, place in (content or {}).items()}
