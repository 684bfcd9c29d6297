"""The picture of the chain: of a small pipeline, and of the demo's."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsol_core.cli.app import app
from wsol_core.cli.dag import Node, build_graph, mermaid, tree
from wsol_core.configuration.expand import expand
from wsol_core.configuration.presets import preset_parameters
from wsol_core.doctor.pipeline import Stage

ROOT = Path(__file__).parents[2]
INDEX, BOXES = "data/localization/index.parquet", "data/localization/pseudo_boxes.parquet"
MAPS = "data/localization/outputs/{}/maps.h5"
STAGES = (
    Stage("prepare", "localization", (), (), (INDEX,)),
    Stage("train", "net", (), (INDEX, "data/localization/targets/t.h5"), ("data/models/net.safetensors",)),
    Stage("maps", "net", (), (INDEX, "data/models/net.safetensors"), ("data/localization/outputs/net",)),
    Stage("ddt_boxes", "", (), (INDEX,), (BOXES, "data/localization/outputs/ddt")),
    Stage("masks", "t", (), (BOXES,), ("data/localization/targets/t.h5",)),
    Stage("calibrate", "ddt", (), (MAPS.format("ddt"), BOXES), ("data/localization/thresholds/ddt.json",)),
    Stage("localize", "ddt", (), ("data/localization/thresholds/ddt.json",), ("data/localization/boxes/ddt.parquet",)),
    Stage("calibrate", "net", (), (MAPS.format("net"), BOXES), ("data/localization/thresholds/net.json",)),
    Stage("evaluate_localization", "net", (), ("data/localization/boxes",), ("results/net.json",)),
)


def test_stages_of_a_network_are_one_node_that_stands_below_what_it_needs() -> None:
    graph = build_graph(STAGES, {"net": "wsfl"})
    ddt, masks, net, boxes = (
        Node("ddt_boxes", ""), Node("masks", "t"), Node("network", "net"), Node("localize", ""),
    )  # fmt: skip
    assert graph.parents == {ddt: (), masks: (ddt,), net: (masks,), boxes: (ddt, net)}
    assert list(tree(graph)) == [
        "ddt_boxes",
        "  t [masks]",
        "    net [wsfl]",
        "      localize  <- ddt_boxes",
    ]


def test_mermaid_names_nodes_and_edges() -> None:
    assert mermaid(build_graph(STAGES, {"net": "wsfl"})).splitlines() == [
        "flowchart LR",
        '  n0["ddt_boxes"]',
        '  n1["t [masks]"]',
        '  n2["net [wsfl]"]',
        '  n3["localize"]',
        "  n0 --> n1",
        "  n1 --> n2",
        "  n0 --> n3",
        "  n2 --> n3",
    ]


def test_data_sets_and_evaluations_on_demand() -> None:
    lines = list(tree(build_graph(STAGES, {"net": "wsfl"}, everything=True)))
    assert lines[0] == "localization [prepare]"
    assert lines[-1].strip() == "evaluate_localization"


CHAIN = """\
frozen [features]
  ddt_boxes
    pseudo_masks
      foreground [wsfl]  <- frozen, frozen-detection
        gaussian-foreground [gaussian_labels]
          segmentation-foreground [spol]  <- frozen
            localize  <- ddt_boxes, norm, cam, foreground, segmentation-cam
        score_proposals  <- proposals
          oicr [detector]  <- proposals, lite0
  norm [norm]
  cam [spol]
    gaussian-cam [gaussian_labels]
      segmentation-cam [spol]  <- frozen
  classifier [classifier]
frozen-detection [features]
selective-search [selective_search]
  proposals
    lite0 [proposal_features]  <- frozen-detection
"""


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    Path("params.yaml").write_text(expand(preset_parameters("demo", ROOT)))


@pytest.mark.usefixtures("demo")
def test_the_chain_of_the_demo() -> None:
    done = CliRunner().invoke(app, ["dag"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == CHAIN.splitlines()
    done = CliRunner().invoke(app, ["dag", "--mermaid", "--all"])
    assert done.stdout.startswith("flowchart LR\n")
    assert all(part in done.stdout for part in ('["cam [spol]"]', '["evaluate_detection"]', '["detection [prepare]"]'))


def test_without_a_project_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("networks: {}\n")
    done = CliRunner().invoke(app, ["dag"])
    assert done.exit_code == 1
    assert "project's root" in done.output
