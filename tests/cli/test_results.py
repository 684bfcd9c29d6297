"""Figures of heat maps and segmentations beside those of boxes: table, JSON, Markdown, pages."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wsol_core.cli.app import app
from wsol_core.cli.results import as_json, as_markdown, read_results, sections, write_pages
from wsol_core.core.errors import InputError

ONE = {
    "saliency_ap": 0.325,
    "saliency_ap_boxes": None,
    "saliency_pairs": 9,
    "point_map": 0.881,
    "point_map_centre": 0.5,
}
TWO = {"saliency_ap": None, "saliency_ap_boxes": 0.377, "point_map": None, "point_map_centre": None}
APART = {"pixels": 69.4, "diagonals": 0.1234, "pairs": 9}
AP = {"ap_voc07": 0.469, "ap_voc07_low": 0.44, "ap_voc07_high": 0.5, "ap_voc10": 0.48, "whole_image_ap_voc07": 0.05}
CORLOC = {"corloc": 0.6, "corloc_low": 0.58, "corloc_high": 0.625, "best_proposal_corloc": 0.3}
RECALL = {"recall_100": 0.793, "recall_2000": 0.95, "average_recall_100": 0.472, "objects": 647}
FILES: dict[str, Any] = {
    "localization/ddt": {
        "train-fullsup": {"gt_known": 0.8},
        "test": {"gt_known": 0.9, "calibrated_by": "pseudo_boxes"},
    },
    "localization/fam": {"test": {"gt_known": 0.7, "calibrated_by": "otsu"}},
    "heat_maps/phases": {"test": {"stores": {"one": ONE, "two": TWO}, "peak_distance": {"one to two": APART}}},
    "segmentation/sec": {
        "test": {"miou": 0.5312, "miou_low": 0.5, "miou_high": 0.6, "images": 3},
        "train-fullsup": {"miou": None},
    },
    "segmentation/empty": {},
    "detection/oicr": {"test": AP | CORLOC, "train-weaksup": {"ap_voc07": None}},
    "proposals/detection": {"fast": {"test": RECALL}, "regions": {"test": {"recall_100": None}}},
}
HEAT_MAPS = """\
| heat maps | split | store | saliency AP | against boxes | point mAP | of image centres |
| --- | --- | --- | ---: | ---: | ---: | ---: |
| phases | test | one | 32.5 | - | 88.1 | 50.0 |
| phases | test | two | - | 37.7 | - | - |

| heat maps | split | peaks | pixels | of the diagonal |
| --- | --- | --- | ---: | ---: |
| phases | test | one to two | 69 | 12.3 |"""
SEGMENTATION = """\
| method | split | mIoU |
| --- | --- | ---: |
| sec | test | 53.1 (50.0 to 60.0) |
| sec | train-fullsup | - |"""
DETECTION = """\
| detector | split | mAP | all points | whole image | best proposal | CorLoc | whole image | best proposal |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| oicr | test | 46.9 (44.0 to 50.0) | 48.0 | 5.0 | - | 60.0 (58.0 to 62.5) | - | 30.0 |
| oicr | train-weaksup | - | - | - | - | - | - | - |"""
RECALLS = """\
| detection | fast | test | 79.3 | - | - | 95.0 | 47.2 | - | - | - |
| detection | regions | test | - | - | - | - | - | - | - | - |"""


def save(project: Path, *names: str) -> None:
    for name in names:
        path = project / "results" / "demo" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(FILES[name]))


def test_a_markdown_table_for_each_kind(tmp_path: Path) -> None:
    save(tmp_path, *FILES)
    boxes, rest = as_markdown(read_results("demo", tmp_path)).split("\n\n", 1)
    lines = boxes.splitlines()
    assert lines[0].startswith("| method | split | GT-known | GT-known, threshold from DDT's boxes | Top-1 |")
    assert [line[:38] for line in lines[2:]] == [
        "| ddt | test | - | 90.0 | - | - | - | ",
        "| fam | test | 70.0 | - | - | - | - | ",
        "| ddt | train-fullsup | - | 80.0 | - |",
    ]
    assert rest.startswith(f"{HEAT_MAPS}\n\n{SEGMENTATION}\n\n{DETECTION}\n\n| set | proposals | split | recall 100 |")
    assert rest.endswith(RECALLS)


def test_a_kind_without_figures_has_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no results of preset 'demo' yet"):
        read_results("demo", tmp_path)
    save(tmp_path, "segmentation/empty")
    assert sections(read_results("demo", tmp_path)) == []
    save(tmp_path, "segmentation/sec")
    assert as_markdown(read_results("demo", tmp_path)) == SEGMENTATION


def test_json_holds_the_figures_of_the_tables(tmp_path: Path) -> None:
    save(tmp_path, *FILES)
    found = json.loads(as_json(read_results("demo", tmp_path), ""))
    assert list(found) == ["localization", "heat_maps", "segmentation", "detection", "proposals"]
    assert found["heat_maps"] == {"phases": {"test": {
        "stores": {"one": {key: ONE[key] for key in ONE if key != "saliency_pairs"}, "two": TWO},
        "peak_distance": {"one to two": APART},
    }}}  # fmt: skip
    assert found["segmentation"] == {"empty": {}, "sec": {"test": {"miou": 0.5312}, "train-fullsup": {"miou": None}}}
    oicr = found["detection"]["oicr"]
    assert {name: value for name, value in oicr["test"].items() if value is not None} == AP | CORLOC
    assert set(oicr["train-weaksup"].values()) == {None}
    assert found["proposals"]["detection"]["fast"]["test"]["recall_100"] == 0.793


@pytest.mark.parametrize("kind", ["localization", "heat_maps", "detection", "proposals", "classification"])
@pytest.mark.parametrize("content", [[], 1, None, "text", {"test": []}, {"test": 1}])
def test_figures_of_another_shape_are_one_line(tmp_path: Path, kind: str, content: Any) -> None:
    save(tmp_path, "segmentation/sec")
    path = tmp_path / f"results/demo/{kind}/bad.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"bad\.json: no figures by split; run `make repro` again$"):
        read_results("demo", tmp_path)


def test_the_page_of_a_preset_without_boxes(tmp_path: Path) -> None:
    save(tmp_path, "heat_maps/phases")
    page = tmp_path / "docs/results/demo.md"
    stores, peaks = HEAT_MAPS.split("\n\n")
    tables = f"## Figures\n\n### Heat maps, in percent\n\n{stores}\n\n### Distance of peaks\n\n{peaks}"
    assert write_pages(tmp_path) == ["demo"]
    assert page.read_text() == f"# demo\n\n<!-- results:demo -->\n{tables}\n<!-- /results:demo -->\n"
    page.write_text("by hand\n<!-- results:demo -->\nold\n<!-- /results:demo -->\n<!-- results:other -->\n")
    write_pages(tmp_path)
    expected = f"by hand\n<!-- results:demo -->\n{tables}\n<!-- /results:demo -->\n<!-- results:other -->\n"
    assert page.read_text() == expected


def test_the_terminal_shows_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("params.yaml").write_text("preset: demo\nnetworks: {}\n")
    save(tmp_path, *FILES)
    done = CliRunner().invoke(app, ["results"])
    assert done.exit_code == 0, done.stderr
    titles = (
        "share of images with IoU > 0.5, in percent",
        "heat maps, in percent",
        "distance of peaks",
        "segmentation",
        "detection, in percent",
        "recall of proposals",
    )
    places = [done.stdout.index(f"demo: {title}") for title in titles]
    assert places == sorted(places)
    assert all(figure in done.stdout for figure in ("90.0", "32.5", "69", "53.1", "79.3"))
