import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.commands import error
from wsol_core.cli.app import app
from wsol_core.cli.results import write_pages
from wsol_core.configuration.expand import expand
from wsol_core.configuration.presets import preset_parameters

ROOT = Path(__file__).parents[2]
PARAMS = expand(preset_parameters("demo", ROOT))
SEGMENTATION = "preset: demo\nnetworks: {segmentation-cam: {method: spol, network: segmentation}, segmentation-x: {}}\n"
FOUND = {
    "gt_known": 0.9126, "gt_known_low": 0.88, "gt_known_high": 0.935, "gt_known_fullsup": 0.92, "gt_known_oracle": 0.93,
    "centre_box": 0.5, "threshold": 0.35, "mean_iou": 0.8, "max_box_acc_v2": 0.66, "px_ap": 0.71,
}  # fmt: skip
NAMES = ("gt_known", "gt_known_fullsup", "gt_known_oracle", "centre_box", "threshold")
SEVEN = {name: FOUND[name] for name in NAMES} | {"top1_loc": None, "top5_loc": None, "calibrated_by": None}
TOP = {"top1_loc": 0.725, "top5_loc": 0.875}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "presets").mkdir()
    Path("params.yaml").write_text(PARAMS)
    shutil.copy(ROOT / "presets/demo.yaml", "presets")
    Path("presets/tiny.yaml").write_text("seed: 5\n")
    save("demo", "ddt", {"test": FOUND, "train-fullsup": {"gt_known": 0.25}})
    save("demo", "segmentation-cam", {"test": FOUND | {"gt_known": 1.0}})
    save("demo", "segmentation-foreground", {"test": FOUND})
    return tmp_path


def save(preset: str, method: str, figures: object) -> None:
    path = Path("results", preset, "localization", f"{method}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures))


def run(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def classify(name: str, figures: object) -> None:
    path = Path("results/demo/classification", f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures))


def test_json_holds_seven_figures_and_the_plain_segmentation() -> None:
    Path("params.yaml").write_text(SEGMENTATION)
    first = {"test": SEVEN | {"gt_known": 1.0}}
    assert json.loads(run("results", "--json")) == {
        "localization": {
            "ddt": {"test": SEVEN, "train-fullsup": dict.fromkeys(SEVEN) | {"gt_known": 0.25}},
            "segmentation": first,
            "segmentation-cam": first,
            "segmentation-foreground": {"test": SEVEN},
        }
    }


@pytest.mark.parametrize("networks", ["{}", "{cam: {network: cam}}", "{segmentation-fam: {network: segmentation}}"])
def test_json_has_no_plain_segmentation_where_the_first_network_has_none(networks: str) -> None:
    Path("params.yaml").write_text(f"preset: demo\nnetworks: {networks}\n")
    assert "segmentation" not in json.loads(run("results", "--json"))["localization"]


def test_tables_are_in_percent_with_the_interval_the_test_split_first() -> None:
    save("demo", "fam", {"test": FOUND | {"calibrated_by": "labels"}})
    lines = run("results", "--markdown").splitlines()
    assert lines[0].startswith("| method | split | GT-known | GT-known, threshold from DDT's boxes | Top-1 |")
    assert lines[2] == "| ddt | test | - | 91.3 (88.0 to 93.5) | - | - | 92.0 | 93.0 | 50.0 | 0.35 | 66.0 | 71.0 |"
    assert lines[3] == "| fam | test | 91.3 (88.0 to 93.5) | - | - | - | 92.0 | 93.0 | 50.0 | 0.35 | 66.0 | 71.0 |"
    assert lines[6] == "| ddt | train-fullsup | - | 25.0 | - | - | - | - | - | - | - | - |"
    assert len(lines) == 7
    table = run("results")
    assert "demo" in table
    assert "91.3 (88.0 to 93.5)" in table


def test_top_k_is_that_with_the_first_classifier() -> None:
    classify("b", {"test": {"methods": {"ddt": dict.fromkeys(TOP, 0), "segmentation-cam": dict.fromkeys(TOP, 0)}}})
    classify("a", {"test": {"methods": {"ddt": TOP | {"top1_loc_low": 0.6}}, "top1_cls": 0.9}, "train-fullsup": {}})
    lines = run("results", "--markdown").splitlines()
    assert lines[2].startswith("| ddt | test | - | 91.3 (88.0 to 93.5) | 72.5 | 87.5 | 92.0 |")
    assert lines[3].startswith("| segmentation-cam | test | - | 100.0 (88.0 to 93.5) | - | - |")
    assert lines[5].startswith("| ddt | train-fullsup | - | 25.0 | - | - |")
    assert json.loads(run("results", "--json"))["localization"]["ddt"]["test"] == SEVEN | TOP
    Path("results/demo/classification/a.json").write_text("[")
    assert "a.json: not JSON" in error("results")


def test_intervals_of_older_results_are_read() -> None:
    save("demo", "ddt", {"test": {"gt_known": 0.9, "gt_known_interval": [0.85, 0.95]}})
    assert "| ddt | test | - | 90.0 (85.0 to 95.0) |" in run("results", "--markdown")


def test_results_are_those_of_the_preset_in_use() -> None:
    run("use", "tiny")
    assert "no results of preset 'tiny' yet" in error("results")
    save("tiny", "ddt", {"test": {"gt_known": 0.1}})
    assert list(json.loads(run("results", "--json"))["localization"]) == ["ddt"]


def test_without_annotations_results_say_so() -> None:
    for method in ("ddt", "segmentation-cam", "segmentation-foreground"):
        save("demo", method, {})
    assert run("results").startswith("demo: the data set has no annotations")


def test_damaged_metrics_are_named() -> None:
    Path("results/demo/localization/ddt.json").write_text("{")
    said = error("results")
    assert "ddt.json: not JSON" in said
    assert "run `make repro` again" in said


@pytest.mark.parametrize("text", ["", "a: [", "preset: ../x"])
def test_bad_parameters_are_one_line(text: str) -> None:
    Path("params.yaml").write_text(text)
    assert "params.yaml" in error("results")


def test_the_pages_of_presets_with_results_are_rewritten() -> None:
    save("tiny", "ddt", {"test": {"gt_known": 0.1}})
    pages = Path("docs/results")
    pages.mkdir(parents=True)
    block = "# A\n<!-- results:{0} -->\nold {0}\n<!-- /results:{0} -->\nkept\n"
    for name in ("demo", "cub"):
        (pages / f"{name}.md").write_text(block.format(name))
    assert "demo, tiny" in run("results", "--write")
    text = (pages / "demo.md").read_text()
    assert "| ddt | test | - | 91.3 (88.0 to 93.5) |" in text
    assert (text.count("kept"), text.count("old demo")) == (1, 0)
    assert "| ddt | test | - | 10.0 |" in (pages / "tiny.md").read_text()
    assert (pages / "cub.md").read_text() == block.format("cub")
    write_pages()
    assert (pages / "demo.md").read_text() == text


def test_a_block_of_a_page_must_be_closed() -> None:
    text = "<!-- results:demo -->\nold\n<!-- /results:tiny -->\n"
    Path("docs/results").mkdir(parents=True)
    Path("docs/results/demo.md").write_text(text)
    assert "has no `<!-- /results:demo -->` after it" in error("results", "--write")
    assert Path("docs/results/demo.md").read_text() == text


def test_ways_to_write_exclude_each_other() -> None:
    assert CliRunner().invoke(app, ["results", "--json", "--write"]).exit_code == 2


def test_use_tells_what_is_dropped_and_goes_back() -> None:
    Path("params.yaml").write_text(PARAMS.replace("\nseed: 0", "\nseed: 9"))
    done = CliRunner().invoke(app, ["use", "tiny"])
    assert done.stderr == "dropped seed: 9 (preset: 0)\n"
    assert "seed: 5" in Path("params.yaml").read_text()
    run("use", "demo")
    assert Path("params.yaml").read_text() == PARAMS


def test_use_of_an_unknown_preset_or_a_root_for_nothing_is_one_line(project: Path) -> None:
    assert "did you mean 'tiny'" in error("use", "tinny")
    assert "leave out --root" in error("use", "tiny", "--root", str(project))


def test_root_is_remembered_for_the_named_set(project: Path) -> None:
    sets = "data: {localization: {name: photos, source: data/localization/files.parquet, reader: folder}}\n"
    Path("presets/folder.yaml").write_text(sets)
    assert "--root PATH" in error("use", "folder")
    assert "not a folder" in error("use", "folder", "--root", str(project / "nowhere"))
    assert Path("params.yaml").read_text() == PARAMS
    run("use", "folder", "--set", "localization", "--root", str(project))
    assert "preset: folder" in Path("params.yaml").read_text()
    assert "photos" in Path("config/wsol/roots.yaml").read_text()


def test_start_up_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pandas", "h5py", "cv2", "dvc", "pydantic")
    code = f"import sys, wsol_core.cli.app; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
