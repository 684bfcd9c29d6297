"""Tables as definitions, their rows as DVC experiments in a small project, and the document."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from wsol_core.ablations.command import assignment
from wsol_core.ablations.definition import Row, Table
from wsol_core.ablations.document import update_docs
from wsol_core.ablations.overrides import apply, description, words
from wsol_core.ablations.runs import KEYS, RESULTS, RUN, changed_params, read_rows
from wsol_core.ablations.tables import MEASURES, DetectionTable, LocalizationTable, pick, read_tables
from wsol_core.cli.app import app
from wsol_core.configuration.expand import expand
from wsol_core.configuration.parameters import typed
from wsol_core.configuration.presets import merge, preset_parameters
from wsol_core.core.errors import InputError

ROOT = Path(__file__).parents[2]
COLUMNS = (*KEYS, *RUN, *LocalizationTable.figures)
TABLE = """\
title: Fusion
source: A paper, Table 2.
preset: demo
method: mff
classifier: lite
params: {networks.mff: {attention: false}}
rows:
  - {name: multiply, paper: {gt_known: 88.3, top1_loc: 70.0}}
  - {name: broken, params: {networks.mff.training.epochs: 13}}
  - name: other
    method: plain
    params:
      networks.plain: {method: spol, network: cam, fusion: "${networks.mff.fusion}", levels: ["${level}"]}
      networks.plain.training: "${networks.mff.training}"
      methods.plain: "${methods.ddt}"
"""
TRAINING = {"epochs": 2, "lr_backbone": 0.1, "lr_head": 0.1}
ENTRIES = {
    "preset": "demo",
    "methods": {"ddt": {"calibrated_by": "otsu", "calibrated_on": "data/localization/index.parquet"},
                "mff": {"calibrated_by": "otsu", "calibrated_on": "data/localization/index.parquet"}},
    "networks": {
        "mff": {"method": "spol", "network": "cam", "levels": [-2, -1], "training": TRAINING},
        "wide": {"method": "sec", "network": "sec", "set": "detection", "width": 8, "training": TRAINING},
    },
    "cues": {"seeds": {"maps": "one", "saliency": "one"}},
    "heat_maps": {"merged": "one two merged"},
    "segments": {"wide": {"network": "wide"}},
    "transfer": {}, "gaussian_labels": {}, "detectors": {}, "detections": [], "class_scores": [], "objectness": {},
}  # fmt: skip
SMALL = yaml.safe_load((ROOT / "presets/demo.yaml").read_text()) | ENTRIES
PARAMS = expand(typed(SMALL))
PIPELINE = """\
stages:
  evaluate_localization:
    foreach: ${methods}
    do:
      cmd: python -m stages.evaluate localization ${key}
      params: [networks, methods, seed, preset]
      deps: [stages/evaluate.py]
      metrics:
        - results/${preset}/localization/${key}.json:
            cache: false
  evaluate_classification:
    foreach: [lite]
    do:
      cmd: python -m stages.evaluate classification ${item}
      params: [methods, seed, preset]
      deps: [stages/evaluate.py]
      metrics:
        - results/${preset}/classification/${item}.json:
            cache: false
  evaluate_heat_maps:
    foreach: ${heat_maps}
    do:
      cmd: python -m stages.evaluate heat_maps ${key} ${item}
      params: [preset, cues, networks]
      metrics:
        - results/${preset}/heat_maps/${key}.json:
            cache: false
  evaluate_segmentation:
    foreach: ${segments}
    do:
      cmd: python -m stages.evaluate segmentation ${key}
      params: [preset, cues, networks]
      metrics:
        - results/${preset}/segmentation/${key}.json:
            cache: false
"""
STAGE = """\
import json, os, pathlib, sys, yaml
params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
kind, name, *stores = sys.argv[1:]
if params["networks"]["mff"]["training"]["epochs"] == 13:
    sys.exit("error: networks.mff.training: no luck")
assert pathlib.Path(os.environ["WSOL_SCRATCH"]).is_absolute()
levels = params["networks"].get("plain", {"levels": [-5]})["levels"]
figure = params["seed"] / 100 - levels[0] / 10
own = {"top1_loc": 0.25, "top1_loc_low": 0.2, "top1_loc_high": 0.3, "top5_loc": 0.5}
if kind == "localization":
    assert params["networks"]["mff"]["attention"] is False and name in params["methods"]
    found = {"gt_known": figure, "gt_known_interval": [figure - 0.1, figure + 0.1], "gt_known_oracle": 0.9,
             "centre_box": 0.4, "threshold": 0.25, "gt_known_fullsup": 0.8}
elif kind == "classification":
    found = {"methods": {method: own for method in params["methods"]}}
elif kind == "heat_maps":
    assert params["cues"] == [] and "wide" not in params["networks"]
    found = {"stores": {store: {"saliency_ap": 0.34, "point_map": 0.5} for store in stores},
             "peak_distance": {" to ".join(stores): {"pixels": 12.4, "diagonals": 0.125, "pairs": 3}}}
else:
    assert params["networks"]["narrow"] == params["networks"]["wide"] | {"losses": ["seed"]}
    assert list(params["segments"]) == ["narrow"] and params["segments"]["narrow"]["network"] == "narrow"
    found = {"miou": 0.4, "miou_low": 0.35, "miou_high": 0.45}
path = pathlib.Path("results", params["preset"], kind, name + ".json")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps({"test": found}))
"""
PHASES = """\
title: Phases
source: A paper, 5.2.
preset: demo
measure: heat_maps
method: merged
peaks_from: one
params: {cues: null, networks.wide: null}
rows:
  - {name: first, method: one, paper: {saliency_ap: 32.5}}
  - {name: both, paper: {saliency_ap: 37.7, peak_pixels: 69}}
"""
CUES = """\
title: Cues
source: A paper, Table 1.
preset: demo
measure: segmentation
method: wide
rows:
  - name: two-phases
    method: narrow
    params:
      networks.narrow: "${networks.wide}"
      networks.narrow.losses: [seed]
      segments.narrow.network: narrow
    paper: {miou: 53.1}
"""


def git(*command: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    return subprocess.run(["git", *identity, *command], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a pipeline that takes no time."""
    folder = tmp_path_factory.mktemp("template")
    files = {
        "params.yaml": PARAMS, "presets/demo.yaml": yaml.safe_dump(SMALL), "presets/small.yaml": "seed: 3\n",
        "dvc.yaml": PIPELINE,
        "stages/__init__.py": "", "stages/evaluate.py": STAGE, "ablations/fusion.yaml": TABLE,
        ".gitignore": "logs/\n__pycache__/\n", ".dvc/config": "[core]\n    analytics = false\n",
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSOL_LAUNCH", "python")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "start")
    return tmp_path


def ablate(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["ablate", *arguments, "--yes"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def output_of(place: str, time: str, summary: str) -> str:
    log = f"logs/ablations/{place.replace(' ', '-')}-0.log"
    return (
        f"{place}: seed 0\n1 run: {time}\n{place}, seed 0 (1 of 1): runs; {log}\n{place}, seed 0 (1 of 1): {summary}\n"
    )


def runs(table: str) -> pd.DataFrame:
    return read_rows(RESULTS / "demo" / f"{table}.csv", read_tables()[table])


def test_rows_run_fail_and_go_on(project: Path) -> None:
    code, output = ablate("fusion", "--value", "level=-3")
    assert code == 1
    assert "fusion multiply, seed 0 (1 of 3): GT-known 50.0 on test" in output
    assert "fusion broken, seed 0 (2 of 3): failed: error: networks.mff.training: no luck" in output
    assert "3 runs: unknown; about 2 stages a run\n" in output
    table = runs("fusion")
    assert tuple(table.columns) == COLUMNS
    assert table["row"].tolist() == ["multiply", "other"]
    assert table["gt_known"].tolist() == [0.5, pytest.approx(0.3)]
    assert table["gt_known_low"].tolist() == [0.4, pytest.approx(0.2)]
    assert table["top1_loc"].tolist() == [0.25, 0.25]
    assert table["commit"].tolist() == [git("rev-parse", "HEAD")[:10]] * 2
    assert table["overrides"][1] == (
        "methods=[plain] networks.mff.attention=false networks.plain.method=spol networks.plain.network=cam "
        "networks.plain.fusion=${networks.mff.fusion} networks.plain.levels=[${level}] "
        "networks.plain.training=${networks.mff.training} methods.plain=${methods.ddt}"
    )
    assert (project / "params.yaml").read_text() == PARAMS
    assert "| multiply | 0 | 88.30 | 50.0 (40.0 to 60.0) |" in (project / "docs/results/demo.md").read_text()

    git("commit", "--quiet", "--allow-empty", "--message", "next")
    first = (project / RESULTS / "demo" / "fusion.csv").read_text()
    code, output = ablate("fusion", "--rows", "other,multiply", "--seeds", "0,2")
    assert code == 1
    assert "other, seed 2 (1 of 2): failed: what is 'level'?" in output
    assert "multiply, seed 2 (2 of 2): GT-known 52.0" in output
    rest = runs("fusion")
    assert rest[["row", "seed"]].values.tolist() == [["multiply", 0], ["multiply", 2], ["other", 0]]
    assert set(first.splitlines()) < set((project / RESULTS / "demo" / "fusion.csv").read_text().splitlines())
    assert ablate("fusion", "--rows", "multiply") == (0, "nothing is missing\n")


def test_heat_maps_and_segmentations_are_tables_too(project: Path) -> None:
    Path("ablations/phases.yaml").write_text(PHASES)
    Path("ablations/cues.yaml").write_text(CUES)
    code, output = ablate("phases", "cues", "--rows", "both")
    assert (code, output) == (1, "error: no row 'both' (there are: two-phases)\n")
    assert ablate("phases", "--rows", "both") == (
        0,
        output_of("phases both", "unknown; about 1 stage a run", "saliency AP 34.0 on test"),
    )
    assert ablate("cues") == (0, output_of("cues two-phases", "unknown", "mIoU 40.0 on test"))
    assert runs("phases").drop(columns=["commit", "seconds"]).to_dict("records")[0] == {
        "row": "both", "seed": 0, "overrides": "heat_maps.merged=one merged ~cues ~networks.wide", "split": "test",
        "experiment": "phases-both-0",
        "saliency_ap": 0.34, "saliency_ap_boxes": pytest.approx(float("nan"), nan_ok=True), "point_map": 0.5,
        "point_map_centre": pytest.approx(float("nan"), nan_ok=True), "peak_pixels": 12.4, "peak_diagonals": 0.125,
    }  # fmt: skip
    assert runs("cues")["overrides"].tolist() == [
        "segments=[narrow] networks.narrow=${networks.wide} networks.narrow.losses=[seed] "
        "segments.narrow.network=narrow",
    ]
    text = (project / "docs/results/demo.md").read_text()
    assert "\n".join([
        "| row | seeds | paper saliency AP | saliency AP | paper point mAP | point mAP | paper peaks apart "
        "| peaks apart |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| first | - | 32.50 | - | - | - | - | - |",
        "| both | 0 | 37.70 | 34.0 | - | 50.0 | 69 | 12 |",
        "<!-- /ablation:phases -->",
    ]) in text  # fmt: skip
    assert "| two-phases | 0 | 53.10 | 40.0 (35.0 to 45.0) |\n" in text
    assert f"Preset demo, code of {git('rev-parse', 'HEAD')[:10]}.\n" in text


def test_nothing_runs_before_the_cost_is_known_and_agreed_to(project: Path) -> None:
    say = ["fusion multiply: seeds 0, 2", "fusion other: seeds 0, 2", "4 runs: unknown; about 2 stages a run"]
    arguments = ("ablate", "fusion", "--rows", "multiply,other", "--seeds", "0,2")
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.output.splitlines()) == (0, [*say, "nothing runs yet: `--yes` starts it"])
    assert not any((project / name).exists() for name in ("logs", "results", "docs"))
    path = project / RESULTS / "demo" / "fusion.csv"
    path.parent.mkdir(parents=True)
    old = dict.fromkeys(COLUMNS, 0.1) | {"overrides": "old", "split": "test", "seed": 0}
    seconds = [("multiply", 100.0), ("multiply", 140.0), ("broken", 240.0), ("other", float("nan"))]
    pd.DataFrame([old | {"row": row, "seconds": each} for row, each in seconds]).to_csv(path, index=False)
    done = CliRunner().invoke(app, arguments)
    assert done.output.splitlines()[2] == "4 runs: about 9 min"  # 2 x 120 s of the row, 2 x 160 s of the table


def test_a_table_for_another_preset_is_refused(project: Path) -> None:
    (project / "params.yaml").write_text(PARAMS.replace("preset: demo", "preset: small"))
    message = "fusion is meant for preset demo, and params.yaml is preset small; run `wsol use demo` first"
    assert ablate("fusion") == (1, f"error: {message}\n")


@pytest.mark.usefixtures("project")
def test_rows_that_differ_in_the_method_alone_are_one_run() -> None:
    rows = "rows: [{name: a}, {name: b, method: ddt}]\nseeds: [0, 1]\n"
    Path("ablations/both.yaml").write_text(TABLE.split("rows:")[0] + rows)
    code, output = ablate("both", "--seeds", "1")
    assert code == 0
    assert output.startswith(
        "both a, b: seed 1\n1 run: unknown; about 3 stages a run\nboth a, b, seed 1 (1 of 1): runs; "
    )
    assert output.endswith(
        "both a, seed 1 (1 of 1): GT-known 51.0 on test\nboth b, seed 1 (1 of 1): GT-known 51.0 on test\n"
    )
    table = runs("both")
    assert table["experiment"].tolist() == ["both-1", "both-1"]
    assert table["overrides"].tolist() == [f"methods=[{name}] networks.mff.attention=false" for name in ("mff", "ddt")]
    assert table["seconds"].gt(0).all()
    assert ablate("both", "--seeds", "1", "--rows", "b") == (0, "nothing is missing\n")


@pytest.mark.usefixtures("project")
def test_row_with_other_overrides_replaces_the_old_one() -> None:
    path = RESULTS / "demo" / "fusion.csv"
    path.parent.mkdir(parents=True)
    old = dict.fromkeys(COLUMNS, 0.1) | {"row": "multiply", "seed": 0, "overrides": "old", "split": "test"}
    pd.DataFrame([old, old | {"row": "gone"}]).to_csv(path, index=False)
    assert ablate("fusion", "--rows", "multiply")[0] == 0
    git("commit", "--quiet", "--allow-empty", "--message", "next")
    pd.DataFrame([old, old | {"row": "gone"}]).to_csv(path, index=False)
    assert ablate("fusion", "--rows", "multiply")[0] == 0
    assert runs("fusion")[["row", "gt_known"]].values.tolist() == [["gone", 0.1], ["multiply", 0.5]]


def test_without_a_table_all_are_listed(project: Path) -> None:
    code, output = ablate()
    assert code == 0
    assert output.split() == ["fusion", "demo", "0", "of", "3", "rows", "Fusion"]
    (project / "params.yaml").write_text(PARAMS.replace("preset: demo", "preset: small"))
    assert ablate("--all") == (1, "error: no table is meant for preset 'small'; `wsol ablate` lists them\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fusoin"], "no table 'fusoin'; did you mean 'fusion'?"),
        (["fusion", "--rows", "multply"], "no row 'multply'; did you mean 'multiply'?"),
        (["fusion", "--seeds", "0,-1"], "--seeds 0,-1: not whole numbers"),
        (["fusion", "--value", "level"], "--value level: not NAME=VALUE"),
        (["fusion", "--value", "level=[1"], "--value level=[1: not a value of YAML"),
    ],
)
@pytest.mark.usefixtures("project")
def test_bad_words_are_one_line(arguments: list[str], message: str) -> None:
    code, output = ablate(*arguments)
    assert code == 1
    assert output.startswith(f"error: {message}")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("stages/evaluate.py", "changed", "stages/evaluate.py: not committed"),
        ("stages/new.py", "new", "stages/new.py: not committed"),
        (
            "params.yaml",
            PARAMS.replace("fusion: multiply", "fusion: add"),
            "networks.mff.fusion: add (preset: multiply); run `wsol use demo`",
        ),
        (f"{RESULTS}/demo/fusion.csv", "row,seed\n", "fusion.csv: not a table of ablations"),
    ],
)
def test_what_is_not_committed_or_edited_is_refused(project: Path, name: str, text: str, message: str) -> None:
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).write_text(text)
    code, output = ablate("fusion")
    assert code == 1
    assert message in output
    assert not (project / "logs").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title: Fusion\n", ""), "title: Field required"),
        (("paper: {gt_known", "paper: {gtknown"), "multiply: no figure 'gtknown' of papers; did you mean 'gt_known'?"),
        (("classifier: lite", "measure: boxes"), "no measure 'boxes'"),
        (("classifier: lite", "measure: heat_maps"), "row multiply: no figure 'gt_known'"),
        (("title: Fusion", "title: Fusion\nmeasure: segmentation"), "classifier: Extra inputs"),
        (("name: other", "name: multiply"), "two rows of one name"),
        (("name: other", "name: a b"), "rows.2.name"),
        ((TABLE, "- a\n"), "not a table"),
        ((TABLE, "a: [\n"), "not valid YAML"),
    ],
)
def test_bad_definition_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations" / "fusion.yaml").write_text(TABLE.replace(*change))
    with pytest.raises(InputError, match=r"fusion\.yaml: ") as caught:
        read_tables(tmp_path)
    assert message in str(caught.value)


def table_of(measure: str, method: str, *rows: Row, **others: Any) -> Table:
    content = {"name": "t", "title": "", "source": "", "preset": "", "measure": measure, "method": method, "rows": rows}
    return MEASURES[measure].model_validate(content | others)


ROW = Row(name="a")


@pytest.mark.parametrize(
    ("table", "target", "overrides"),
    [
        (table_of("localization", "m", ROW), "evaluate_localization@m", {"methods": ["m"]}),
        (table_of("heat_maps", "m", ROW), "evaluate_heat_maps@m", {"heat_maps.m": "m"}),
        (table_of("heat_maps", "m", ROW, peaks_from="one"), "evaluate_heat_maps@m", {"heat_maps.m": "one m"}),
        (table_of("heat_maps", "one", ROW, peaks_from="one"), "evaluate_heat_maps@one", {"heat_maps.one": "one"}),
        (table_of("segmentation", "m", ROW), "evaluate_segmentation@m", {"segments": ["m"]}),
    ],
)
def test_what_is_measured_decides_on_target_and_entry(table: Table, target: str, overrides: dict[str, Any]) -> None:
    assert table.targets(ROW) == [target]
    assert table.overrides(ROW) == overrides


def test_heat_maps_of_a_method_beside_others() -> None:
    own = {"saliency_ap": None, "saliency_ap_boxes": 0.5, "point_map": 0.7}
    found = {
        "test": {"stores": {"one": {}, "two": own}, "peak_distance": {"one to two": {"pixels": 9.0, "diagonals": 0.1}}},
        "train-fullsup": {"stores": {"one": {}}, "peak_distance": {}},
    }
    files = {"heat_maps/two.json": found}
    far = own | {"peak_pixels": 9.0, "peak_diagonals": 0.1}
    assert table_of("heat_maps", "two", ROW, peaks_from="one").read_figures(ROW, files.__getitem__) == {"test": far}
    alone = table_of("heat_maps", "two", ROW)
    assert alone.read_figures(ROW, files.__getitem__)["test"]["peak_pixels"] is None
    assert "peaks apart" not in [column.title for column in alone.columns()]


def test_overrides_leaf_by_leaf() -> None:
    row = Row(name="a", params={"cam.mff": {"levels": [-2, -1], "training": {"epochs": 1}}, "cam.mff.fusion": "add"})
    table = table_of("localization", "mff", row, params={"cam.mff.fusion": "sum"})
    found = table.overrides(row)
    expected = {"methods": ["mff"], "cam.mff.fusion": "add", "cam.mff.levels": [-2, -1], "cam.mff.training.epochs": 1}
    assert found == expected
    old = {"methods": ["ddt"], "cam": {"mff": {"fusion": "sum"}}, "crf": {}, "d": {"e": {"f": 1}}, "g": None, "h": {}}
    new = apply(old, found | {"crf": None, "a": True, "b": 1e-5, "c": {}, "d": [], "g": {"i": None, "j": 2}}, {})
    assert list(words(old, new)) == [
        '++methods=["mff"]', '++cam.mff.fusion="add"', "++cam.mff.levels=[-2,-1]", "++cam.mff.training.epochs=1",
        "~crf", "~d", "++d=[]", "++g.j=2", "++a=true", "++b=1e-05", "++c={}",
    ]  # fmt: skip
    assert description({"a.b": ["x", "y"], "c": None}) == "a.b=[x,y] ~c"


def test_a_list_of_names_keeps_these_entries_alone() -> None:
    params = {"methods": {"a": {"by": 1}, "b": {"by": 2}}, "names": ["a", "b"]}
    assert apply(params, {"methods": ["b", "c"], "names": ["b"]}, {}) == {
        "methods": {"b": {"by": 2}, "c": {}}, "names": ["b"],
    }  # fmt: skip
    assert apply(params, {"methods": []}, {})["methods"] == {}


def test_a_block_of_a_copied_one_can_be_deleted() -> None:
    params = {"net": {"filter": {"threshold": 0.2, "exempt": ["a"]}, "filters": 1}}
    copied = {"new": "${net}", "new.filter": None}
    assert apply(params, copied, {})["new"] == {"filters": 1}
    found = apply(params, copied | {"new.filter.threshold": 0.5}, {})
    assert found == params | {"new": {"filters": 1, "filter": {"threshold": 0.5}}}


def test_names_stand_for_values_and_blocks() -> None:
    params = {"foreground": {"level": -1, "training": {"epochs": 2, "rates": [1, 2]}}, "start": "parameter"}
    overrides: dict[str, Any] = {
        "a": "${foreground}", "a.training.epochs": 0, "b": ["${foreground.level}", 3], "c": "${start}", "d": "x ${e}",
    }  # fmt: skip
    assert apply(params, overrides, {"start": "value"}) == params | {
        "a": {"level": -1, "training": {"epochs": 0, "rates": [1, 2]}}, "b": [-1, 3], "c": "value", "d": "x ${e}",
    }  # fmt: skip
    assert apply(params, {"c": "${start}"}, {})["c"] == "parameter"
    assert apply(params, {"start": None, "foreground.levels": None}, {}) == {"foreground": params["foreground"]}
    with pytest.raises(InputError, match=r"what is 'foreground\.training\.epoch'"):
        apply(params, {"c": "${foreground.training.epoch}"}, {})


def test_unknown_key_is_refused_with_the_nearest_and_defaults_are_written_out() -> None:
    params = yaml.safe_load(PARAMS)
    new = {"networks.new": "${networks.mff}", "networks.new.levels": [-1], "networks.mff.fusion": "add", "seed": 2}
    found = changed_params(params, new, {})
    mff = params["networks"]["mff"]
    assert found == merge(params, {"seed": 2, "networks": {"new": mff | {"levels": [-1]}, "mff": {"fusion": "add"}}})
    assert found["networks"]["new"]["learns_from"] == "data/localization/index.parquet"
    assert changed_params(params, {"networks.mff.fusion": None}, {}) == params
    with pytest.raises(InputError, match=r"networks\.mff\.fusoin.*did you mean 'fusion'"):
        changed_params(params, {"networks.mff.fusoin": "add"}, {})


def test_value_is_yaml_and_the_path_of_what_exists_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights").touch()
    given = {text: assignment(text) for text in ("a=weights", "a=nowhere", "a=-3", "a=x=1", "a=[1, 2]")}
    assert [value for _, value in given.values()] == [str(tmp_path / "weights"), "nowhere", -3, "x=1", [1, 2]]


def test_pick_keeps_the_users_order() -> None:
    assert pick({"a": 1, "b": 2}, ["b", "a"], "row") == [2, 1]


def test_document_shows_ours_beside_the_papers(tmp_path: Path) -> None:
    table = LocalizationTable(**{"name": "fusion"} | yaml.safe_load(TABLE))
    document = tmp_path / "docs" / "results" / "demo.md"
    document.parent.mkdir(parents=True)
    document.write_text("# By hand\n<!-- ablation:fusion -->\nold\n<!-- /ablation:fusion -->\nkept\n")
    update_docs({"fusion": table, "second": table.model_copy(update={"name": "second"})}, tmp_path)
    text = document.read_text()
    assert text.startswith("# By hand\n<!-- ablation:fusion -->\n### Fusion\n\nA paper, Table 2.\n")
    assert text.count("Not run yet.") == 2
    assert "<!-- /ablation:fusion -->\nkept\n\n<!-- ablation:second -->\n" in text
    figures = [
        ("multiply", 0, "test", 0.8),
        ("multiply", 1, "test", 0.9),
        ("other", 0, "test", 0.7),
        ("other", 0, "train", 0),
    ]
    rows = [
        dict.fromkeys(COLUMNS, float("nan"))
        | {"row": row, "seed": seed, "split": split, "gt_known": figure, "gt_known_low": 0.65, "gt_known_high": 0.75,
           "gt_known_oracle": 0.95, "centre_box": 0.4, "threshold": 0.25, "commit": "abc"}
        for row, seed, split, figure in figures
    ]  # fmt: skip
    (tmp_path / RESULTS / "cub").mkdir(parents=True)
    pd.DataFrame(rows).to_csv(tmp_path / RESULTS / "cub" / "fusion.csv", index=False)
    update_docs({"fusion": table}, tmp_path)
    lines = document.read_text().splitlines()
    assert "Preset cub, code of abc; the best centred box has 40.0." in lines
    header = "| row | seeds | paper GT-known | GT-known | at best of split | threshold |"
    at = lines.index(f"{header} paper Top-1 | Top-1 | paper Top-5 | Top-5 |")
    multiply, broken, other = (line.strip("| ").split(" | ") for line in lines[at + 2 : at + 5])
    assert multiply[:4] == ["multiply", "0, 1", "88.30", "85.0 ± 7.1"]
    assert multiply[4:] == ["95.0", "0.25", "70.00", "-", "-", "-"]
    assert broken == ["broken", *["-"] * 9]
    assert other[:6] == ["other", "0", "-", "70.0 (65.0 to 75.0)", "95.0", "0.25"]
    before = document.read_bytes()
    update_docs({"fusion": table}, tmp_path)
    assert document.read_bytes() == before


# The project's own tables

TABLES = read_tables(ROOT)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_table_fits_its_preset_and_stands_on_its_page(name: str) -> None:
    table = TABLES[name]
    assert f"<!-- ablation:{name} -->" in (ROOT / "docs" / "results" / f"{table.preset}.md").read_text()
    params = yaml.safe_load(expand(preset_parameters(table.preset, ROOT)))
    for row in table.rows:
        found = changed_params(params, table.overrides(row), {"start": "somewhere", "vgg16": "none"})
        if table.measure == "localization":
            assert list(found["methods"]) == [table.method_of(row)]
        if table.measure in ("segmentation", "detection"):
            key = {"segmentation": "segments", "detection": "detections"}[table.measure]
            assert list(found[key]) == [table.method_of(row)]


def test_spol_table_2_holds_the_papers_figures() -> None:
    figures = {row.name: row.paper["gt_known"] for row in TABLES["spol-table-2"].rows}
    assert len(figures) == 10
    assert figures["fuse-1"] == 55.76
    assert max(figures, key=lambda name: figures[name]) == "multiply-3"
    assert figures["multiply-3"] == 88.30


def test_a_detection_table_has_corloc_of_the_training_images() -> None:
    table = DetectionTable.model_validate({
        "name": "detectors", "measure": "detection", "title": "Detectors", "source": "A paper.", "preset": "demo",
        "method": "oicr", "rows": [{"name": "mist", "method": "mist", "paper": {"ap_voc07": 55.2}}],
    })  # fmt: skip
    found = {
        "train-weaksup": {"ap_voc07": 0.5, "corloc": 0.6, "corloc_low": 0.55, "corloc_high": 0.65},
        "test": {"ap_voc07": 0.4, "corloc": 0.7, "best_proposal_ap_voc07": 0.1},
    }
    contents = {"detection/mist.json": found, "detection/oicr.json": {}}
    figures = table.read_figures(table.rows[0], contents.__getitem__)
    assert figures["test"]["ap_voc07"] == 0.4
    assert [figures["test"][name] for name in ("corloc", "corloc_low", "whole_image_corloc")] == [0.6, 0.55, None]
    assert found["test"]["corloc"] == 0.7
    assert table.targets(table.rows[0]) == ["evaluate_detection@mist"]
    assert table.overrides(table.rows[0]) == {"detections": ["mist"]}
    assert table.read_figures(Row(name="plain"), contents.__getitem__) == {}


def test_wsfl_table_3_holds_the_papers_figures() -> None:
    rows = TABLES["wsfl-table-3"].rows
    figures = {row.name: row.paper.get("ap_voc07") for row in rows}
    assert [figures[f"oicr{row}"] for row in ("", "-wsfl", "-lr-gt", "-hr-gt")] == [46.9, 48.3, 48.6, 50.2]
    assert [figures[f"mist{row}"] for row in ("", "-wsfl", "-lr-gt", "-hr-gt")] == [55.2, 55.7, 56.5, 56.8]
    assert {row.name for row in rows if not row.paper} == {"oicr-spol", "mist-spol", "oicr-cub"}
    methods = {row.name: row.method or "oicr" for row in rows}
    assert all(("oracle" in method) == ("gt" in name) for name, method in methods.items())
    assert all(name.split("-")[0] in method for name, method in methods.items())
