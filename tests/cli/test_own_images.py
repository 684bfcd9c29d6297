"""A new user: photographs in a folder per class, no ground truth, to boxes; the commands of the README, in a copy."""

import json
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.pipeline.test_end_to_end import PROJECT, copy_project, run
from wsol_core.configuration.presets import merge
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import read_annotations, read_index
from wsol_core.datasets.demo import render_set
from wsol_core.datasets.scenes import DemoParams

CLASSES = ["bird", "fruit", "vehicle"]
SMALL = {
    "features": {"frozen": {"side": 224}},
    "pseudo_masks": {"resolution": 7},
    "networks": {
        "foreground": {"training": {"epochs": 12}},
        "segmentation-foreground": {"training": {"epochs": 4}},
    },
    "gaussian_labels": {"gaussian-foreground": {"resolution": 28}},
    "calibrate": {"step": 0.1},
    "localize": {"resolution": 112},
    "report": {"images": 3, "side": 80},
}
"""Sizes for the preset folder: two minutes instead of ten."""
METHODS = ("ddt", "foreground", "segmentation-foreground")


def take_photographs(folder: Path, scratch: Path) -> None:
    """60 photographs in a folder per class, and one file that is none."""
    demo = yaml.safe_load((PROJECT / "presets/demo.yaml").read_text())["demo"]
    demo["localization"] |= {"classes": CLASSES, "train_weaksup": 60, "train_fullsup": 0, "test": 0, "side": 128}
    render_set("localization", PROJECT / "data/demo", DemoParams.model_validate(demo), scratch)
    truth = json.loads((scratch / "train-weaksup.json").read_text())
    names = {each["id"]: each["file_name"] for each in truth["images"]}
    classes = {each["id"]: each["name"] for each in truth["categories"]}
    for each in truth["annotations"]:
        source = next(scratch.rglob(Path(names[each["image_id"]]).name))
        target = folder / classes[each["category_id"]] / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (folder / "bird/torn.jpg").write_bytes(b"\xff\xd8\xff torn")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine")
    take_photographs(folder / "photos", folder / "rendered")
    return folder / "photos"


@pytest.mark.slow
def test_sixty_photographs_to_boxes(photographs: Path, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project", "tiny")
    preset = project / "presets/folder.yaml"
    preset.write_text(yaml.safe_dump(merge(yaml.safe_load(preset.read_text()), SMALL)))
    work = partial(run, project, XDG_CONFIG_HOME=str(tmp_path / "config"))

    work("wsol", "use", "folder", "--root", str(photographs))
    doctor = work("wsol", "doctor", "--quick").stdout
    assert "3 classes" in doctor
    assert "no ground truth, so evaluation is skipped" in doctor
    assert "error:" not in doctor
    repro = work("dvc", "repro")
    work("wsol", "export", "boxes", "segmentation-foreground", "--format", "coco", "--out", "boxes.json")

    check_boxes(project)
    exported = json.loads((project / "boxes.json").read_text())
    assert len(exported["images"]) == 60
    assert {each["name"] for each in exported["categories"]} >= set(CLASSES)
    assert len(exported["annotations"]) >= 60
    assert "no annotations" in repro.stdout + repro.stderr
    assert work("wsol", "results").stdout.startswith("folder: the data set has no annotations")
    assert work("wsol", "results", "--markdown").stdout.startswith("folder: the data set has no")
    figures = json.loads(work("wsol", "results", "--json").stdout)["localization"]
    assert set(METHODS) <= figures.keys()
    assert not any(figures.values())


def check_boxes(project: Path) -> None:
    data = project / "data/localization"
    index = read_index(data / "index.parquet")
    assert len(index.table) == 60
    assert index.classes == tuple(CLASSES)
    assert read_annotations(data / "truth/annotations.parquet").empty
    assert "torn" in (data / "skipped.csv").read_text()
    ids = index.table["image_id"].tolist()
    sizes = index.table.set_index("image_id")
    for method in METHODS:
        with MapStore(data / f"outputs/{method}/maps.h5") as maps:
            assert maps.image_ids.tolist() == ids
        boxes = pd.read_parquet(data / f"boxes/{method}.parquet")
        assert boxes["image_id"].tolist() == ids
        assert (boxes["x0"] < boxes["x1"]).all()
        assert (boxes["x1"].to_numpy() <= sizes.loc[ids, "width"].to_numpy()).all()
    assert list((project / "results/folder/pictures").rglob("steps-*.jpg"))
