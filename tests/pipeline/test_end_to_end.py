"""The pipeline end to end through DVC, in copies of the project: the demo's chain with the preset tiny, and, in slow
tests, every method with tiny-all.

Stages start as forks of a process with torch in it (`warm_process`); a slow test runs them all with the real `python`.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from wsol_core.core.map_store import MapStore
from wsol_core.core.warm_process import warm_process
from wsol_core.data.index import SPLITS, read_index

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PATH = [str(BIN), os.environ["PATH"]]
METHODS = {"ddt", "ddt-agnostic", "norm", "foreground", "cam", "segmentation-foreground", "segmentation-cam"}


def run(folder: Path, *words: str, check: bool = True, **environment: str) -> "subprocess.CompletedProcess[str]":
    found = subprocess.run(
        words, cwd=folder, env={**os.environ, "PATH": os.pathsep.join(PATH), "WSOL_WORKERS": "2", **environment},
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert not check or found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    return found


def ran(output: str) -> list[str]:
    """The stages that DVC ran, in order."""
    return re.findall(r"Running stage '([^']+)'", output)


def copy_project(folder: Path, preset: str) -> Path:
    """A clone of the working tree with a preset in use, and with what numba has compiled already."""
    listed = run(PROJECT, "git", "ls-files", "--cached", "--others", "--exclude-standard").stdout.splitlines()
    for name in listed:
        if (PROJECT / name).is_file() and name not in ("dvc.lock",):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    for cache in PROJECT.glob("wsol_core/**/__pycache__/*.nb[ci]"):
        target = folder / cache.relative_to(PROJECT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(cache, target)
    run(folder, "wsol", "use", preset)
    run(folder, "git", "init", "--quiet")
    commit(folder, "copy")
    return folder


def commit(folder: Path, message: str) -> None:
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message", message)


def built(folder: Path, preset: str) -> Path:
    """A copy in which everything was built once."""
    copy_project(folder, preset)
    run(folder, "dvc", "repro")
    commit(folder, "built")
    return folder


@pytest.fixture(scope="module")
def warm() -> Iterator[None]:
    """Stages are forked from here on."""
    with warm_process() as environment:
        forking = environment["PATH"].split(os.pathsep)[:1] if environment else []
        PATH[:0] = forking
        yield
        del PATH[: len(forking)]


@pytest.fixture(scope="module")
def project(warm: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - it starts the stages
    """The demo's chain, built."""
    return built(tmp_path_factory.mktemp("project"), "tiny")


@pytest.fixture(scope="module")
def whole(warm: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - it starts the stages
    """Every method, built; minutes, so for slow tests alone."""
    return built(tmp_path_factory.mktemp("whole"), "tiny-all")


def lock(folder: Path) -> dict[str, str]:
    """Output -> hash."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def assert_maps_of_every_image(folder: Path, methods: Iterable[str]) -> None:
    """And that few of them are constant."""
    index = read_index(folder / "data/localization/index.parquet")
    for method in methods:
        with MapStore(folder / f"data/localization/outputs/{method}/maps.h5") as maps:
            assert maps.image_ids.tolist() == index.table["image_id"].tolist()
            values = np.stack([maps[row] for row in range(len(maps))])
        assert (values.std((1, 2)) > 0).mean() > 0.9, f"{method}: constant maps"


def test_every_map_store_covers_every_image(project: Path) -> None:
    assert_maps_of_every_image(project, METHODS)


@pytest.mark.slow
def test_every_map_store_of_the_other_methods_covers_every_image(whole: Path) -> None:
    others = ("foreground-transferred", "oracle-lr", "psol", "plain-cam", "bcct-joint")
    assert_maps_of_every_image(whole, {*METHODS, *others})


@pytest.mark.slow
def test_a_transferred_model_without_epochs_says_the_same(whole: Path) -> None:
    maps = [whole / f"data/localization/outputs/{name}/maps.h5" for name in ("foreground", "foreground-transferred")]
    assert maps[0].read_bytes() == maps[1].read_bytes()


def test_classes_are_known_for_every_image(project: Path) -> None:
    splits = json.loads((project / "results/tiny/classification/classifier.json").read_text())
    for figures in splits.values():
        assert figures["top1_cls"] <= figures["top5_cls"] == 1
        assert set(figures["methods"]) == METHODS
        for method in figures["methods"].values():
            assert method["top1_loc"] <= method["top5_loc"] == method["gt_known"]
    assert splits["train-weaksup"]["top1_cls"] > 0.5


@pytest.mark.slow
def test_other_networks_name_classes_too(whole: Path) -> None:
    for name in ("classifier", "fam", "bcct"):
        splits = json.loads((whole / f"results/tiny-all/classification/{name}.json").read_text())
        assert 0 < splits["test"]["top1_cls"] <= splits["test"]["top5_cls"] <= 1


@pytest.mark.slow
def test_heat_maps_of_two_phases_and_their_segmentation(whole: Path) -> None:
    heat_maps = json.loads((whole / "results/tiny-all/heat_maps/two-phase.json").read_text())["test"]
    assert list(heat_maps["stores"]) == ["phase-one", "phase-two", "two-phase"]
    for figures in heat_maps["stores"].values():
        assert 0 < figures["saliency_ap"] < 1
        assert figures["maps_of_absent_classes"] == 0
    assert heat_maps["peak_distance"]["phase-one to phase-two"]["pixels"] > 0
    segmentation = json.loads((whole / "results/tiny-all/segmentation/sec.json").read_text())["test"]
    assert 0 < segmentation["miou"] < 1
    assert segmentation["images_without_prediction"] == 0
    assert len(list((whole / "data/detection/segments/sec").rglob("*.png"))) == segmentation["images"]


def assert_detectors_have_figures(results: Path, detectors: Iterable[str], sources: set[str]) -> None:
    """And every source of proposals."""
    for name in detectors:
        splits = json.loads((results / f"detection/{name}.json").read_text())
        assert set(splits) == set(SPLITS)
        for figures in splits.values():
            assert figures["images_without_detection"] == 0
            assert 0 <= figures["ap_voc07_low"] <= figures["ap_voc07_high"] <= 1
    recall = json.loads((results / "proposals/detection.json").read_text())
    assert set(recall) == sources
    assert all(0 < source["test"]["recall_100"] <= source["test"]["recall_2000"] <= 1 for source in recall.values())


def test_detectors_and_proposals_have_figures(project: Path) -> None:
    assert_detectors_have_figures(project / "results/tiny", ["oicr"], {"selective-search"})


@pytest.mark.slow
def test_other_detectors_and_proposals_have_figures(whole: Path) -> None:
    detectors = ("oicr", "oicr-trained", "mist")
    assert_detectors_have_figures(whole / "results/tiny-all", detectors, {"selective-search", "regions"})
    with MapStore(whole / "data/detection/targets/oracle-lr.h5") as maps:
        assert maps.shape == (14, 14)


def test_figures_are_complete_and_possible(project: Path) -> None:
    results = json.loads(run(project, "wsol", "results", "--json").stdout)["localization"]
    assert set(results) == METHODS | {"segmentation"}
    for splits in results.values():
        assert set(splits) == set(SPLITS)
        for figures in splits.values():
            assert set(figures) == {
                "gt_known", "gt_known_fullsup", "gt_known_oracle", "centre_box", "threshold", "top1_loc", "top5_loc",
                "calibrated_by",
            }  # fmt: skip
            assert all(0 <= value <= 1 for name, value in figures.items() if name != "calibrated_by")
            assert figures["gt_known_oracle"] >= max(figures["gt_known"], figures["gt_known_fullsup"])
        weaksup = splits["train-weaksup"]
        assert weaksup["threshold"] == splits["test"]["threshold"]


def test_ddt_finds_more_than_a_centre_box(project: Path) -> None:
    results = json.loads(run(project, "wsol", "results", "--json").stdout)["localization"]
    assert results["ddt"]["train-weaksup"]["gt_known"] > results["ddt"]["train-weaksup"]["centre_box"]


def test_pictures_and_plots(project: Path) -> None:
    pictures = project / "results/tiny/pictures"
    names = {path.relative_to(pictures).as_posix() for path in pictures.rglob("*.jpg")}
    assert {"localization/steps-test.jpg", "localization/steps-train-weaksup.jpg"} <= names
    assert {"localization/ddt-best.jpg", "localization/ddt-worst.jpg", "localization/cam-layers.jpg"} <= names
    assert "detection/foreground-objectness.jpg" in names
    shown = run(project, "dvc", "plots", "show", "--out", "plots")
    assert "index.html" in shown.stdout
    assert "loss-foreground" in (project / "plots" / "index.html").read_text(encoding="utf-8")
    assert "gt_known" in run(project, "dvc", "metrics", "show").stdout


def test_second_time_nothing_runs(project: Path) -> None:
    before = lock(project)
    assert ran(run(project, "dvc", "repro").stdout) == []
    assert "up to date" in run(project, "dvc", "status").stdout
    assert lock(project) == before


def test_experiment_reruns_only_what_depends_on_it(project: Path) -> None:
    found = ran(run(project, "dvc", "exp", "run", "-S", "methods.cam.calibrated_by=constant").stdout)
    own = {f"{stage}@cam" for stage in ("calibrate", "localize", "evaluate_localization")}
    assert set(found) == own | {"evaluate_classification@classifier", "report@localization", "report@detection"}
    run(project, "git", "checkout", "--", ".")
    run(project, "dvc", "checkout")


@pytest.mark.slow
def test_resolution_of_the_masks_changes_the_masks(project: Path) -> None:
    """DVC restores a stale result where a parameter is named `size`; ours is not."""
    params = project / "params.yaml"
    for resolution in (5, 7, 5):
        text = re.sub(r"(pseudo_masks:(?:.*\n)+?  resolution: )\d+", rf"\g<1>{resolution}", params.read_text())
        params.write_text(text)
        run(project, "dvc", "repro", "--single-item", "pseudo_masks")
        with MapStore(project / "data/localization/targets/pseudo_masks.h5") as masks:
            assert masks.shape == (resolution, resolution)
    run(project, "git", "checkout", "--", ".")
    run(project, "dvc", "checkout")


def test_killed_training_ends_with_the_same_bytes(project: Path) -> None:
    """SIGKILL in the middle of `train@foreground`; the next run goes on from the checkpoint."""
    weights = project / "data/models/foreground.safetensors"
    expected = weights.read_bytes()
    weights.unlink()
    environment = {**os.environ, "WSOL_CHECKPOINT_MINUTES": "0", "WSOL_WORKERS": "1", "PYTHONPATH": str(project)}
    words = [sys.executable, "-m", "stages.train", "foreground"]
    victim = subprocess.Popen(words, cwd=project, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(project.glob(".wsol/train-foreground-*/checkpoint.pt")):
        assert victim.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not weights.exists()
    run(project, *words, PYTHONPATH=str(project))
    assert weights.read_bytes() == expected
    assert not list(project.glob(".wsol/train-foreground-*"))


@pytest.mark.slow
def test_queued_experiments_run_in_their_own_workspaces(project: Path) -> None:
    for step in ("0.25", "0.5"):
        run(project, "dvc", "exp", "run", "--queue", "--name", f"step-{step[2:]}", "-S", f"calibrate.step={step}")
    run(project, "dvc", "exp", "run", "--run-all")
    table = run(project, "dvc", "exp", "show", "--csv", "--only-changed").stdout
    assert "step-25" in table
    assert "step-5" in table
    assert "Failed" not in table


@pytest.mark.slow
def test_clean_run_of_cold_processes_elsewhere_gives_the_same_hashes(whole: Path, tmp_path: Path) -> None:
    other = copy_project(tmp_path / "other", "tiny-all")
    run(other, "dvc", "repro", WSOL_WORKERS="1", PATH=os.pathsep.join((str(BIN), os.environ["PATH"])))
    first, second = lock(whole), lock(other)
    assert {path for path in first if first[path] != second[path]} == set()


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("otsu: 1.0", "otsou: 1.0"), "ddt.otsou: unknown key; did you mean 'otsu'?"),
        (("scope: class", "scope: klass"), "ddt.scope"),
        (("second: data/localization/features/frozen.h5", "second: frozen.h5"), "frozen.h5: not a readable feature"),
    ],
)
def test_params_typo_is_one_line(project: Path, edit: tuple[str, str], expected: str) -> None:
    text = (project / "params.yaml").read_text()
    changed = text.replace(*edit, 1)
    assert changed != text
    try:
        (project / "params.yaml").write_text(changed)
        found = run(project, sys.executable, "-m", "stages.ddt_boxes", check=False, PYTHONPATH=str(project))
    finally:
        (project / "params.yaml").write_text(text)
    assert found.returncode == 1
    errors = [line for line in found.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert expected in errors[0]
    assert "Traceback" not in found.stderr
