"""Which package may import which (docs/design.md), and that stages depend on what they import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.pipeline.imports import closure, imported_names

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("wsol_core", "stages") for path in (ROOT / folder).rglob("*.py"))
PACKAGES = sorted(path.parent.name for path in (ROOT / "wsol_core").glob("*/__init__.py"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
WITH_TORCH = {
    "features", "ddt_boxes", "gaussian_labels", "train", "maps", "transfer", "proposal_features", "train_detector",
    "detect",
}  # fmt: skip
METHODS = sorted(path.parent.name for path in ROOT.glob("wsol_core/methods/*/recipe.py"))
COMMANDS = {"prediction", "export", "inspect", "configuration", "doctor", "ablations", "cli"}


def allowed() -> dict[str, set[str]]:
    """The table of docs/design.md."""
    section = (ROOT / "docs/design.md").read_text(encoding="utf-8").split("## Packages")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| [^|]+\|([^|]*)\|$", section, re.MULTILINE)
    table = {name: {word.strip() for word in names.split(",") if word.strip()} for name, names in rows[1:]}
    words = {
        "everything": set(PACKAGES),
        "everything but the commands": set(PACKAGES) - COMMANDS,
        "everything but the other commands": (set(PACKAGES) - COMMANDS) | {"configuration"},
    }
    return {name: words.get(next(iter(names), ""), names) for name, names in table.items()}


def packages_of(path: Path) -> set[str]:
    """The packages that a file imports; of `methods` the method too."""
    names = [name.split(".") for name in imported_names(path, ROOT) if name.startswith("wsol_core.")]
    return {"/".join(parts[1:3]) if parts[1] == "methods" else parts[1] for parts in names}


def test_the_table_names_every_package() -> None:
    assert sorted(allowed()) == PACKAGES
    assert [path for path in (ROOT / "wsol_core").glob("*.py") if path.name != "__init__.py"] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_what_the_table_allows(package: str) -> None:
    for path in (ROOT / "wsol_core" / package).rglob("*.py"):
        own = "/".join(path.relative_to(ROOT / "wsol_core").parts[:2]) if package == "methods" else package
        found = {name if name == own else name.split("/")[0] for name in packages_of(path) - {own}}
        if package == "methods":
            assert "methods" not in found, f"{path}: a method imports another"
        assert found <= allowed()[package], path


def test_packages_import_each_other_without_a_circle() -> None:
    table = allowed()
    order: list[str] = []
    while rest := [name for name in table if name not in order]:
        free = [name for name in rest if table[name] - COMMANDS <= set(order) | {name} or name in COMMANDS]
        assert free, f"a circle among {rest}"
        order += free


@pytest.mark.parametrize("stage", STAGES)
def test_stages_depend_on_what_they_import(stage: str) -> None:
    """A stage over networks is looked at once for each method, whose folder its entry names."""
    definition = STAGES[stage].get("do", STAGES[stage])
    (module,) = re.findall(r"-m (stages\.\w+)", definition["cmd"])
    deps = [str(dep) for dep in definition["deps"] if str(dep).startswith(("stages/", "wsol_core/"))]
    methods = METHODS if any("${item.method}" in dep for dep in deps) else [""]
    used: set[str] = set()
    for method in methods:
        declared = [dep.replace("${item.method}", method) for dep in deps]
        files = closure(module, ROOT) | (closure(f"wsol_core.methods.{method}.recipe", ROOT) if method else set())
        missing = [file for file in files if not any(file == dep or file.startswith(f"{dep}/") for dep in declared)]
        assert not missing, f"{stage}: imports {missing}, which is not under its deps"
        used |= {dep for dep in deps if any(file.startswith(dep) for file in files)}
    assert [dep for dep in deps if dep not in used and "${" not in dep] == [], "depends on what it does not import"
    assert len(definition["deps"]) <= 12


@pytest.mark.parametrize(("with_torch", "unwanted"), [(False, "torch"), (True, "timm")])
def test_stages_import_no_more_than_they_need(with_torch: bool, unwanted: str) -> None:
    """Stages without networks import no torch; timm is for those alone whose backbone is one of its networks."""
    scripts = [name for name in STAGES if (ROOT / f"stages/{name}.py").is_file()]
    names = [f"stages.{name}" for name in scripts if (name in WITH_TORCH) == with_torch]
    code = f"import importlib, sys\nfor name in {names}:\n importlib.import_module(name)\n"
    code += f" assert {unwanted!r} not in sys.modules, name"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_stages_do_not_import_each_other_and_nothing_imports_them() -> None:
    for path in SOURCES:
        assert not [name for name in imported_names(path, ROOT) if name.split(".")[0] == "stages"], path


def test_package_files_hold_a_docstring_alone() -> None:
    """No stage depends on them."""
    files = [path for path in SOURCES if path.name == "__init__.py"]
    assert len(files) > len(PACKAGES)
    assert [path for path in files if len(ast.parse(path.read_text()).body) != 1] == []
    assert [path for path in files if ast.get_docstring(ast.parse(path.read_text())) is None] == []


def test_no_module_is_named_for_being_nothing_in_particular() -> None:
    assert [path for path in SOURCES if path.stem in {"utils", "helpers", "common", "misc"}] == []


def test_recipes_alone_are_imported_by_name() -> None:
    """And, in a process of its own that forks them, libraries and whole stages."""
    hidden = ("import_module", "__import__", "run_path", "run_module")
    found = {path.relative_to(ROOT).as_posix() for path in SOURCES if any(word in path.read_text() for word in hidden)}
    assert found == {"wsol_core/engine/recipe.py", "wsol_core/core/warm_process.py"}


def test_metrics_read_no_environment_and_start_no_threads() -> None:
    for path in (ROOT / "wsol_core/metrics").glob("*.py"):
        names = {name.split(".")[0] for name in imported_names(path, ROOT)}
        assert not names & {"os", "threading", "concurrent", "multiprocessing", "joblib"}, path


def test_one_place_reads_the_number_of_workers() -> None:
    found = [path for path in SOURCES if re.search(r"environ[^\n]*WSOL_WORKERS", path.read_text(encoding="utf-8"))]
    assert [path.relative_to(ROOT).as_posix() for path in found] == ["wsol_core/core/parallel.py"]


def test_scripts_are_thin_and_few() -> None:
    scripts = [path for path in (ROOT / "stages").glob("*.py") if path.name != "__init__.py"]
    assert len(scripts) <= 34
    assert {path.name: n for path in scripts if (n := len(path.read_text().splitlines())) > 40} == {}
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 700
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
