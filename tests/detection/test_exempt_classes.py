"""Classes that the foreground model never saw, by name."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.small_workspace import make_index
from wsol_core.cli.app import app
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.proposals.exempt_classes import proposed


@pytest.mark.parametrize(
    ("name", "others", "expected"),
    [
        ("bird", ["Bird"], "Bird"),
        ("bird", ["001.Sea_bird", "bird"], "001.Sea_bird"),
        ("potted-plant", ["cat", "plants"], "plants"),
        ("pottedplant", ["plant"], None),
        ("cat", ["caterpillar", "wildcat"], None),
        ("glass", ["glasses"], None),
        ("7", ["8"], None),
        ("cat", [], None),
    ],
)
def test_names_by_hand(name: str, others: list[str], expected: str | None) -> None:
    assert proposed([name], others) == {name: expected}


def test_command_prints_a_line_for_the_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    index = make_index()
    write_index(Path("data/localization/index.parquet"), index)
    missing = CliRunner().invoke(app, ["exempt"])
    assert missing.exit_code == 1
    assert "data/detection/index.parquet" in missing.stderr
    assert missing.stderr.count("\n") == 1
    classes = ("dog", "potted plant", "Büste")
    write_index(Path("data/detection/index.parquet"), ImageIndex(index.table, classes, "detection", "images"))
    done = CliRunner().invoke(app, ["exempt"])
    assert done.exit_code == 0
    assert done.stdout == 'exempt: ["potted plant", "Büste"]\n'
    assert "dog: known as dog" in done.stderr
