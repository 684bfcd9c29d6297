"""What a file of the project imports, transitively, read off its syntax tree."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOTS = ("stages", "wsol_core")


def closure(module: str, root: Path = Path()) -> set[str]:
    """The files of `module` and of everything of `ROOTS` that it imports, relative to `root`, package files left out.

    Package files (`__init__.py`) hold a docstring alone, see `test_package_files_hold_a_docstring_alone`.
    """
    found: set[Path] = set()
    waiting = _files(module, root)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in imported_names(path, root) for file in _files(name, root)]
    return {path.relative_to(root).as_posix() for path in found}


def imported_names(path: Path, root: Path) -> Iterator[str]:
    """Every dotted name that a file may import; `from a import b` gives `a.b`, whether or not `b` is a module."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _files(name: str, root: Path) -> list[Path]:
    """The file of a module; names behind the module are ignored."""
    parts = name.split(".")
    if parts[0] not in ROOTS:
        return []
    paths = [root.joinpath(*parts[:length]).with_suffix(".py") for length in range(len(parts), 0, -1)]
    return [path for path in paths if path.is_file()][:1]
