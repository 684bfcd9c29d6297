"""The project files that a stage imports, transitively: what DVC must watch beside the data.

`python -m tests.stage_imports --write` rewrites the `.py` entries under `deps:` of every stage in `dvc.yaml`.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PACKAGES = ("stages", "wsol_core")


def stage_imports(module: str, root: Path = Path()) -> list[str]:
    """The files of `module` and of everything of `PACKAGES` that it imports, sorted, relative to `root`."""
    found: set[Path] = set()
    waiting = _files(module, root)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in imported_names(path, root) for file in _files(name, root)]
    return sorted(path.relative_to(root).as_posix() for path in found)


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
    """The file of a module and the `__init__.py` of each package on the way; names behind the module are ignored."""
    first, *rest = name.split(".")
    files: list[Path] = []
    if first not in PACKAGES:
        return files
    place = root / first
    for part in [*rest, ""]:
        if (place / "__init__.py").is_file():
            files.append(place / "__init__.py")
        elif place.with_suffix(".py").is_file():
            return [*files, place.with_suffix(".py")]
        else:
            return files
        place /= part
    return files


def definition(stage: dict[str, Any]) -> dict[str, Any]:
    """What a stage does: below `do` where it stands under `foreach`."""
    content: dict[str, Any] = stage.get("do", stage)
    return content


def modules(stage: dict[str, Any]) -> list[str]:
    """The stage modules that a stage's command runs."""
    return re.findall(r"-m (stages\.\w+)", str(definition(stage)["cmd"]))


def expected_deps(stage: dict[str, Any], root: Path = Path()) -> list[str]:
    """The `.py` files that a stage must list."""
    return sorted({file for module in modules(stage) for file in stage_imports(module, root)})


def rewrite(text: str, root: Path = Path()) -> str:
    """The text of `dvc.yaml` with the right `.py` entries, behind each stage's data; no other line changes."""
    content = yaml.safe_load(text)
    lines = text.splitlines()
    tree = _children(yaml.compose(text, yaml.SafeLoader))
    for name, node in reversed(_children(tree["stages"]).items()):
        stage = _children(node)
        body = _children(stage.get("do", node))
        files = expected_deps(content["stages"][name], root)
        if "deps" not in body:
            behind, indent = body["cmd"].end_mark.line + 1, " " * _column(stage.get("do", node))
            lines[behind:behind] = [f"{indent}deps:", *(f"{indent}  - {path}" for path in files)]
            continue
        entries = [item.start_mark.line for item in body["deps"].value]
        if body["deps"].flow_style or not entries:
            raise SystemExit(f"dvc.yaml: stage {name!r} needs its deps one a line")
        kept = [lines[line] for line in entries if not lines[line].endswith(".py")]
        indent = " " * _column(body["deps"])
        lines[entries[0] : entries[-1] + 1] = kept + [f"{indent}- {path}" for path in files]
    return "\n".join(lines) + "\n"


def _children(node: Any) -> dict[str, Any]:
    return {key.value: value for key, value in node.value}


def _column(node: yaml.Node) -> int:
    return int(node.start_mark.column)


if __name__ == "__main__":
    pipeline = Path("dvc.yaml")
    old = pipeline.read_text(encoding="utf-8")
    new = rewrite(old)
    if "--write" in sys.argv[1:]:
        pipeline.write_text(new, encoding="utf-8")
    print(f"{pipeline}: {'as it should be' if new == old else 'dependencies changed'}")
