"""The rules that keep results true, read off `dvc.yaml`, the parameters and the source files."""

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.stage_imports import definition, expected_deps, imported_names, modules, rewrite, stage_imports
from wsol_core.configuration.presets import preset_text

ROOT = Path(__file__).parents[1]
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
SOURCES = sorted(path for folder in ("wsol_core", "stages") for path in (ROOT / folder).rglob("*.py"))
GROUND_TRUTH = ("annotations.parquet", "masks")
TORCH_FREE = (
    "scan", "prepare", "render_demo", "pseudo_masks", "calibrate", "localize", "evaluate_localization", "proposals",
    "score_proposals", "report", "import_maps", "evaluate_classification",
    "oracle_masks", "oracle_objectness", "refine_maps", "evaluate_segmentation", "evaluate_heat_maps",
    "two_phase_maps", "seeds", "segments",
    "selective_search", "proposal_files", "map_proposals", "evaluate_proposals", "evaluate_detection",
)  # fmt: skip
PURE = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *(ROOT / "wsol_core" / "metrics").glob("*.py"),
        *(ROOT / "wsol_core" / f"{name}.py" for name in ("boxes", "regions", "gaussian", "pseudo_masks")),
    ]
)
PURE_MAY_IMPORT = {"boxes", "errors", "params", "files", "maps", "regions"}


class Stage(NamedTuple):
    """A stage as DVC resolves it: paths relative to the project."""

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
    return first == second or first.startswith(f"{second}/") or second.startswith(f"{first}/")


def reached(stage: Stage, stages: list[Stage]) -> set[str]:
    """Every artifact on a path of the DAG that leads to `stage`."""
    found: set[str] = set()
    waiting = list(stage.deps)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [dep for other in stages if any(overlap(path, out) for out in other.outs) for dep in other.deps]
    return found


def may_see_ground_truth(name: str) -> bool:
    return name.startswith(("evaluate_", "report")) or "oracle" in name


def shows_ground_truth(path: str) -> bool:
    """Whether an artifact is, holds or lies in the annotations or masks of a set `data/SET`."""
    parts = Path(path).parts
    if parts[:1] != ("data",) or parts[1:2] in [("demo",), ("rendered",), ("models",)]:
        return False
    return len(parts) <= 2 or parts[2] in GROUND_TRUTH


def leaks(stages: list[Stage]) -> list[str]:
    """`stage <- artifact` for each stage other than evaluation that the ground truth reaches."""
    return [
        f"{stage.name} <- {path}"
        for stage in stages
        if not may_see_ground_truth(stage.name)
        for path in sorted(reached(stage, stages))
        if shows_ground_truth(path)
    ]


def outs_with(pipeline: dict[str, Any], flag: str, value: bool) -> list[str]:
    return [
        f"{name}: {path}"
        for name, stage in pipeline["stages"].items()
        for entry in definition(stage).get("outs", [])
        if isinstance(entry, dict)
        for path, flags in entry.items()
        if flags.get(flag) is value
    ]


def keys(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield str(key)
            yield from keys(value)


def library_imports(path: Path) -> set[str]:
    """The dotted names below `wsol_core` that a file imports, without the names inside a module."""
    own = path.relative_to(ROOT).as_posix()
    files = {file for name in imported_names(path, ROOT) for file in stage_files(name)}
    return {file.removeprefix("wsol_core/").removesuffix(".py") for file in files - {own}}


def stage_files(name: str) -> list[str]:
    """The module that a dotted name stands for, if it is one of the library's."""
    parts = name.split(".")
    for length in (len(parts), len(parts) - 1):
        path = Path(*parts[:length]).with_suffix(".py") if length else Path()
        if parts[0] == "wsol_core" and (ROOT / path).is_file():
            return [path.as_posix()]
    return []


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "dvc.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pipeline(text: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(text)
    return content


# The project's own pipeline


def test_each_stage_lists_exactly_the_files_that_it_imports(pipeline: dict[str, Any]) -> None:
    for name, stage in pipeline["stages"].items():
        listed = sorted(str(dep) for dep in definition(stage).get("deps", []) if str(dep).endswith(".py"))
        assert listed == expected_deps(stage, ROOT), f"{name}: run `make deps`"


def test_each_stage_runs_as_a_module_that_exists(pipeline: dict[str, Any]) -> None:
    for name, stage in pipeline["stages"].items():
        assert modules(stage), f"{name}: its command runs no `-m stages.X`"
        for module in modules(stage):
            assert (ROOT / "stages" / f"{module.split('.')[1]}.py").is_file()


@pytest.mark.parametrize("preset", PRESETS)
def test_ground_truth_reaches_evaluation_alone(preset: str, text: str, tmp_path: Path) -> None:
    stages = resolve(text, preset_text(preset, ROOT), tmp_path / "project")
    assert any("annotations.parquet" in path for stage in stages for path in stage.outs)
    assert not leaks(stages)


def test_only_prepare_and_evaluation_name_the_annotations(pipeline: dict[str, Any]) -> None:
    for name, stage in pipeline["stages"].items():
        sources = [(ROOT / "stages" / f"{module.split('.')[1]}.py").read_text() for module in modules(stage)]
        if any("annotations.parquet" in source for source in sources):
            assert may_see_ground_truth(name) or name == "prepare"


def test_no_out_persists_or_leaves_the_run_cache(pipeline: dict[str, Any]) -> None:
    assert outs_with(pipeline, "persist", True) == []
    assert outs_with(pipeline, "cache", False) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_no_parameter_has_a_name_that_the_run_cache_leaves_out(preset: str) -> None:
    assert not {"size", "nfiles"} & set(keys(yaml.safe_load(preset_text(preset, ROOT))))


def test_light_stages_import_no_torch() -> None:
    names = [f"stages.{name}" for name in TORCH_FREE]
    code = f"import importlib, sys\nfor name in {names}:\n importlib.import_module(name)\n"
    code += " assert 'torch' not in sys.modules, name"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# The source files


def test_stages_do_not_import_each_other_and_nothing_imports_them() -> None:
    for path in SOURCES:
        assert not [name for name in imported_names(path, ROOT) if name.split(".")[0] == "stages"], path


def test_package_files_hold_a_docstring_at_most() -> None:
    """Every stage depends on them; DVC warns of empty ones."""
    files = [path for path in SOURCES if path.name == "__init__.py"]
    assert files
    assert [path for path in files if len(ast.parse(path.read_text()).body) > 1] == []
    assert [path for path in files if ast.get_docstring(ast.parse(path.read_text())) is None] == []


def test_no_module_is_named_for_being_nothing_in_particular() -> None:
    assert [path for path in SOURCES if path.stem in {"utils", "helpers", "common", "misc"}] == []


def test_no_import_hides_from_the_walk() -> None:
    hidden = ("import_module", "__import__", "run_path", "run_module")
    assert [path for path in SOURCES if any(word in path.read_text(encoding="utf-8") for word in hidden)] == []


@pytest.mark.parametrize("path", PURE)
def test_pure_functions_stand_on_little(path: str) -> None:
    neighbours = {name for name in library_imports(ROOT / path) if name.startswith("metrics/")}
    assert library_imports(ROOT / path) - neighbours <= PURE_MAY_IMPORT


def test_methods_do_not_import_each_other() -> None:
    for path in (ROOT / "wsol_core" / "methods").glob("*.py"):
        assert not [name for name in library_imports(path) if name.startswith("methods/")], path


# The rules' own instruments, on made-up projects


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(
        tmp_path,
        {
            "stages/__init__.py": "",
            "stages/a.py": "import numpy, wsol_core.deep.inner\nfrom wsol_core.one import thing\n",
            "stages/b.py": "def late():\n    from wsol_core import two\n",
            "wsol_core/__init__.py": "",
            "wsol_core/one.py": "from .deep import inner\nfrom . import two\nfrom wsol_core.deep.missing import x\n",
            "wsol_core/two.py": "from wsol_core.one import thing\n",
            "wsol_core/unused.py": "",
            "wsol_core/deep/__init__.py": "",
            "wsol_core/deep/inner.py": "",
        },
    )
    return tmp_path


def test_walk_follows_every_form_of_import_and_cycles(project: Path) -> None:
    library = [f"wsol_core/{name}.py" for name in ("__init__", "deep/__init__", "deep/inner", "one", "two")]
    assert stage_imports("stages.a", project) == ["stages/__init__.py", "stages/a.py", *library]
    assert stage_imports("stages.b", project) == ["stages/__init__.py", "stages/b.py", *library]


def test_rewrite_changes_nothing_but_code_dependencies(project: Path) -> None:
    text = textwrap.dedent("""\
        # kept
        stages:
          a@one:  # kept
            cmd: ${WSOL_LAUNCH:-python} -m stages.a
            deps:
              - stages/a.py
              - data/x.parquet  # kept
            outs:
              - y

          many:
            foreach: [p, q]
            do:
              cmd: python -m stages.b ${item}
              outs: [z]
              deps:
              - data/${item}
              - wsol_core/unused.py
        """)
    new = rewrite(text, project)
    stages = yaml.safe_load(new)["stages"]
    assert stages["a@one"]["deps"] == ["data/x.parquet", *stage_imports("stages.a", project)]
    assert stages["many"]["do"]["deps"] == ["data/${item}", *stage_imports("stages.b", project)]
    assert [line for line in new.splitlines() if not line.endswith(".py")] == [
        line for line in text.splitlines() if not line.endswith(".py")
    ]
    assert rewrite(new, project) == new


def test_rewrite_gives_deps_to_a_stage_without(project: Path) -> None:
    text = "stages:\n  a:\n    foreach: [x]\n    do:\n      cmd: python -m stages.a\n      outs: [x]\n"
    stage = yaml.safe_load(rewrite(text, project))["stages"]["a"]["do"]
    assert stage["deps"] == stage_imports("stages.a", project)
    assert list(stage) == ["cmd", "deps", "outs"]


def test_rewrite_refuses_deps_on_one_line(project: Path) -> None:
    with pytest.raises(SystemExit, match="'a' needs its deps one a line"):
        rewrite("stages: {a: {cmd: python -m stages.a, deps: [x]}}\n", project)


SAMPLE = """
stages:
  prepare:
    foreach: ${sets}
    do:
      cmd: python -m stages.prepare ${item}
      deps: ['data/rendered/${item}']
      outs: ['data/${item}/index.parquet', 'data/${item}/annotations.parquet', 'data/${item}/masks']
  evaluate_x:
    matrix: {method: [p, q]}
    cmd: python -m stages.evaluate_x ${item.method}
    deps: [data/one/annotations.parquet, 'data/one/maps/${item.method}.h5']
    metrics: ['results/${item.method}.json': {cache: false}]
  train_x:
    cmd: python -m stages.train_x
    deps: [DEP]
    params: [seed]
    outs: [data/models/x]
"""


@pytest.mark.parametrize(
    ("dep", "leaking"),
    [
        ("data/one/index.parquet", None),
        ("data/rendered/one", None),
        ("data/one/annotations.parquet", "data/one/annotations.parquet"),
        ("data/one/masks/a.png", "data/one/masks/a.png"),
        ("data/two", "data/two"),
        ("results/q.json", "data/one/annotations.parquet"),
        ("results", "data/one/annotations.parquet"),
    ],
)
def test_leaks_are_found_direct_by_folder_and_through_stages(dep: str, leaking: str | None, tmp_path: Path) -> None:
    stages = resolve(SAMPLE.replace("DEP", dep), "sets: [one, two]\nseed: 0\n", tmp_path / "project")
    assert len(stages) == 5
    assert leaks(stages) == ([f"train_x <- {leaking}"] if leaking else [])


def test_flags_of_outs_are_seen() -> None:
    outs: list[Any] = ["a", {"b": {"persist": True}}, {"c": {"cache": False}}]
    pipeline = {"stages": {"plain": {"outs": outs[:2]}, "many": {"foreach": [1], "do": {"outs": outs[2:]}}}}
    assert outs_with(pipeline, "persist", True) == ["plain: b"]
    assert outs_with(pipeline, "cache", False) == ["many: c"]
