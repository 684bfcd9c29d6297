"""The rules that keep results true, read off `dvc.yaml` as DVC resolves it under every preset."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline.graph import Stage, downstream, reached, resolve, upstream
from wsol_core.configuration.expand import expand
from wsol_core.configuration.presets import preset_parameters

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
PIPELINE = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
DEFINITIONS = {name: stage.get("do", stage) for name, stage in yaml.safe_load(PIPELINE)["stages"].items()}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Stage]]:
    """The stages of every preset."""
    folder = tmp_path_factory.mktemp("graphs")
    return {name: resolve(PIPELINE, text_of(name), folder / name) for name in PRESETS}


def text_of(preset: str) -> str:
    return expand(preset_parameters(preset, ROOT))


def may_see_ground_truth(name: str) -> bool:
    """Whether a stage is an evaluation, draws pictures, or is or follows an oracle, whose name says so."""
    return name.startswith(("evaluate_", "report")) or "oracle" in name


def shows_ground_truth(path: str) -> bool:
    """Whether an artifact is, holds or lies in the ground truth of a set `data/SET`."""
    parts = Path(path).parts
    if parts[:1] != ("data",) or parts[1:2] in [("demo",), ("rendered",), ("models",)]:
        return False
    return len(parts) <= 2 or parts[2] == "truth"


def leaks(stages: list[Stage]) -> list[str]:
    """`stage <- artifact` for each stage other than evaluation that the ground truth reaches."""
    return [
        f"{stage.name} <- {path}"
        for stage in stages
        if not may_see_ground_truth(stage.name)
        for path in sorted(reached(stage, stages))
        if shows_ground_truth(path)
    ]


def outs_with(definitions: dict[str, Any], flag: str, value: bool) -> list[str]:
    return [
        f"{name}: {path}"
        for name, definition in definitions.items()
        for entry in definition.get("outs", [])
        if isinstance(entry, dict)
        for path, flags in entry.items()
        if flags.get(flag) is value
    ]


def keys(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield str(key)
            yield from keys(value)


@pytest.mark.parametrize("preset", PRESETS)
def test_ground_truth_reaches_evaluation_alone(preset: str, graphs: dict[str, list[Stage]]) -> None:
    assert any("/truth" in path for stage in graphs[preset] for path in stage.outs)
    assert not leaks(graphs[preset])


@pytest.mark.parametrize("preset", PRESETS)
def test_thresholds_come_from_where_the_parameters_say(preset: str, graphs: dict[str, list[Stage]]) -> None:
    """DDT's boxes reach the boxes of its own chain alone: WSFL and whoever learns from its labels."""
    stages = {stage.name: stage for stage in graphs[preset]}
    for name, method in preset_parameters(preset, ROOT).methods.items():
        source = method.calibrated_by
        assert (method.calibrated_on.endswith("/index.parquet")) == (
            source in ("constant", "otsu", "otsu_root", "otsu_logit")
        ), name
        behind = upstream(stages[f"localize@{name}"], graphs[preset])
        if source != "pseudo_boxes" and name not in ("ddt", "ddt-agnostic") and "foreground" not in name:
            assert "ddt_boxes" not in behind, name


def test_methods_that_stand_without_ddt_do() -> None:
    found = preset_parameters("demo-all", ROOT).methods
    alone = [name for name, method in found.items() if method.calibrated_by != "pseudo_boxes"]
    assert {"cam", "segmentation-cam", "fam", "bc", "bcct"} <= set(alone)


def test_editing_a_reader_reruns_no_training(graphs: dict[str, list[Stage]]) -> None:
    """The index comes out the same: DVC stops at unchanged outputs, so direct dependencies count."""
    direct = {stage.name for stage in graphs["demo-all"] if "wsol_core/datasets" in stage.deps}
    assert direct
    assert not [name for name in direct if name.startswith(("train", "maps", "ddt", "transfer", "detect"))]


def test_editing_a_method_reruns_its_networks_and_what_follows(graphs: dict[str, list[Stage]]) -> None:
    rerun = downstream("wsol_core/methods/fam/network.py", graphs["demo-all"])
    trained = {name for name in rerun if name.startswith(("train@", "maps@"))}
    assert trained == {"train@fam", "maps@fam"}
    rerun = downstream("wsol_core/methods/wsfl/foreground.py", graphs["demo-all"])
    assert {"train@foreground", "maps@foreground", "train@segmentation-foreground", "calibrate@foreground"} <= rerun
    assert not rerun & {"ddt_boxes", "train@cam", "train@fam", "maps@cam", "selective_search@selective-search"}


def test_only_prepare_and_evaluation_name_the_ground_truth() -> None:
    for name, definition in DEFINITIONS.items():
        (module,) = re.findall(r"-m stages\.(\w+)", definition["cmd"])
        if re.search(r'"truth["/]|/truth', (ROOT / f"stages/{module}.py").read_text(encoding="utf-8")):
            assert may_see_ground_truth(name) or name == "prepare", name


def test_every_command_runs_a_script_that_exists() -> None:
    scripts = {module for each in DEFINITIONS.values() for module in re.findall(r"-m stages\.(\w+)", each["cmd"])}
    assert scripts == {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}


def test_no_out_persists_or_leaves_the_run_cache() -> None:
    assert outs_with(DEFINITIONS, "persist", True) == []
    assert outs_with(DEFINITIONS, "cache", False) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_no_parameter_has_a_name_that_the_run_cache_leaves_out(preset: str) -> None:
    assert not {"size", "nfiles"} & set(keys(yaml.safe_load(text_of(preset))))


# The rules' own instruments, on made-up pipelines

SAMPLE = """
stages:
  prepare:
    foreach: ${sets}
    do:
      cmd: python -m stages.prepare ${item}
      deps: ['data/rendered/${item}']
      outs: ['data/${item}/index.parquet', 'data/${item}/truth']
  evaluate_x:
    matrix: {method: [p, q]}
    cmd: python -m stages.evaluate_x ${item.method}
    deps: [data/one/truth, 'data/one/outputs/${item.method}/maps.h5']
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
        ("data/one/truth/annotations.parquet", "data/one/truth/annotations.parquet"),
        ("data/one/truth/masks/a.png", "data/one/truth/masks/a.png"),
        ("data/two", "data/two"),
        ("results/q.json", "data/one/truth"),
        ("results", "data/one/truth"),
    ],
)
def test_leaks_are_found_direct_by_folder_and_through_stages(dep: str, leaking: str | None, tmp_path: Path) -> None:
    stages = resolve(SAMPLE.replace("DEP", dep), "sets: [one, two]\nseed: 0\n", tmp_path / "project")
    assert len(stages) == 5
    assert leaks(stages) == ([f"train_x <- {leaking}"] if leaking else [])


def test_downstream_and_upstream_of_a_chain() -> None:
    stages = [Stage("a", ("x",), ("y",)), Stage("b", ("y/part",), ("z",)), Stage("c", ("other",), ("w",))]
    assert downstream("x", stages) == {"a", "b"}
    assert upstream(stages[1], stages) == {"a"}


def test_flags_of_outs_are_seen() -> None:
    outs: list[Any] = ["a", {"b": {"persist": True}}, {"c": {"cache": False}}]
    definitions = {"plain": {"outs": outs[:2]}, "many": {"outs": outs[2:]}}
    assert outs_with(definitions, "persist", True) == ["plain: b"]
    assert outs_with(definitions, "cache", False) == ["many: c"]
