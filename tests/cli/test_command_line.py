"""What all commands of `wsol` have in common: exit codes, plain text in a pipe, completion."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.commands import run
from tests.external.test_evaluate import box_map
from wsol_core.cli.app import app
from wsol_core.core.scratch import MARKER
from wsol_core.core.tables import print_table

COMMANDS = (
    "use", "results", "dag", "ablate", "clean", "doctor", "exempt", "inspect", "predict", "export boxes",
    "export masks", "export model", "evaluate localization", "evaluate detection", "evaluate segmentation",
)  # fmt: skip
DRAWN = "┃│┏╇"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    (tmp_path / "presets").mkdir()
    (tmp_path / "ablations").mkdir()
    for name in ("presets/demo.yaml", "presets/folder.yaml", "ablations/spol.yaml"):
        Path(name).write_text("preset: demo\n")
    Path("params.yaml").write_text("preset: demo\nnetworks: {}\n")
    return tmp_path


def call(words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, words.split(), env=environment, prog_name="wsol")


def test_all_commands_are_looked_at() -> None:
    named = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert named - {"repro"} | {"evaluate", "export"} == {words.split()[0] for words in COMMANDS}


def test_repro_says_what_it_does_and_leaves_options_to_dvc() -> None:
    done = call("repro --help")
    assert done.exit_code == 0
    assert "Example: wsol repro localize@cam" in done.stdout
    words = [sys.executable, "-c", "from wsol_core.cli.app import app; app()", "repro", "--no-such-option"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode not in (0, 1)
    assert "unrecognized arguments: --no-such-option" in ended.stderr


@pytest.mark.parametrize("words", COMMANDS)
def test_help_has_an_example_and_a_wrong_option_is_2(words: str) -> None:
    done = call(f"{words} --help")
    assert done.exit_code == 0
    assert f"Example: wsol {words}" in " ".join(done.stdout.split())
    wrong = call(f"{words} --no-such-option")
    assert wrong.exit_code == 2
    assert wrong.stdout == ""
    assert "--no-such-option" in wrong.stderr


BAD = (
    "use nothing",
    "results",
    "dag",
    "ablate no-such-table",
    "exempt",
    "doctor --quick",
    "inspect",
    "predict no-such-image --method foreground --out found",
    "export boxes no-such-method --out boxes.json",
    "evaluate localization --maps m --ground-truth g",
    "evaluate detection --ground-truth g",
    "evaluate segmentation --ground-truth g",
)


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_1_and_a_line(words: str) -> None:
    """`doctor` lists everything that is wrong, a line each; the others stop at the first."""
    Path("params.yaml").unlink()
    done = call(words)
    assert done.exit_code == 1
    lines = (done.stdout if words.startswith("doctor") else done.stderr).splitlines()
    assert len(lines) == 1 or words.startswith("doctor")
    assert lines
    assert all(line.startswith("error: ") for line in lines)


def test_formats_exclude_each_other() -> None:
    assert call("results --json --markdown").exit_code == 2


def test_results_without_annotations_are_a_sentence_or_empty_json() -> None:
    Path("results/demo/localization").mkdir(parents=True)
    Path("results/demo/localization/ddt.json").write_text("{}")
    for words in ("results", "results --markdown"):
        assert call(words).stdout.startswith("demo: the data set has no annotations")
    assert json.loads(call("results --json").stdout) == {"localization": {"ddt": {}}}


def test_tables_in_a_pipe_are_lines_with_tabs() -> None:
    Path("results/demo/localization").mkdir(parents=True)
    Path("results/demo/localization/ddt.json").write_text('{"test": {"gt_known": 0.5}}')
    title, header, row = call("results").stdout.splitlines()
    assert title.startswith("demo: ")
    assert header.split("\t")[:4] == ["method", "split", "GT-known", "GT-known, threshold from DDT's boxes"]
    assert row.split("\t")[:4] == ["ddt", "test", "-", "50.0"]


def test_a_terminal_gets_a_drawing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    print_table("t", ("a", "b"), [("1", "2")], ("b",))
    assert capsys.readouterr().out == "t\na\tb\n1\t2\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table("t", ("a", "b"), [("1", "2")], ("b",))
    assert any(sign in capsys.readouterr().out for sign in DRAWN)


def test_evaluate_in_a_pipe_has_no_drawing(project: Path) -> None:
    (project / "maps").mkdir()
    np.save(project / "maps/x.npy", box_map((10, 10, 60, 60)))
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50]}]
    images = [{"id": 1, "file_name": "x.jpg", "width": 100, "height": 100}]
    truth = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    Path("truth.json").write_text(json.dumps(truth))
    done = call("evaluate localization --maps maps --ground-truth truth.json --threshold 0.5")
    assert done.exit_code == 0
    assert not any(sign in done.stdout for sign in DRAWN)
    assert any(line.startswith("gt_known\t100.00 %") for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("words", "found"), [("wsol use f", "folder"), ("wsol ablate s", "spol"), ("wsol do", "doctor")]
)
def test_the_shell_completes(words: str, found: str) -> None:
    place = str(len(words.split()) - 1)
    done = call("", _WSOL_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place, _TYPER_COMPLETE_TESTING="1")
    assert done.stdout.split() == [found]


def test_clean_removes_what_stopped_runs_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_SCRATCH", str(tmp_path / "scratch"))
    assert run("clean").stdout == "nothing to remove\n"
    left = tmp_path / "scratch" / f"train-a-{'0' * 32}"
    left.mkdir(parents=True)
    (left / MARKER).touch()
    (tmp_path / "scratch/mine").mkdir()
    assert run("clean").stdout == f"removed {left}\n"
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["mine"]
