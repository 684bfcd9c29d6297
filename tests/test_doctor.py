import json
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from wsol_core.cli.app import app
from wsol_core.core.errors import InputError
from wsol_core.datasets.background import BackgroundParams
from wsol_core.datasets.listing import DataParams
from wsol_core.doctor import costs, data_sets, weights
from wsol_core.doctor.blocks import MODELS, check_blocks, read_params
from wsol_core.doctor.costs import Costs
from wsol_core.doctor.examination import examine
from wsol_core.doctor.finding import Finding
from wsol_core.doctor.machine import check_machine, free_bytes
from wsol_core.doctor.pipeline import Stage, read_pipeline, unmade_inputs
from wsol_core.doctor.speed import Pass, Speed, crf_seconds, pass_speed, search_seconds
from wsol_core.doctor.weights import check_versions, check_weights
from wsol_core.refinement.crf import CRFParams
from wsol_core.methods.ddt.colocalization import DDTParams
from wsol_core.proposals.selective_search import SearchParams

PROJECT = Path(__file__).parents[1]
DEMO = (PROJECT / "presets/demo.yaml").read_text()


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The parameters of the demo beside the real dvc.yaml; nothing has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for folder in (".dvc/tmp", "data/demo"):
        Path(folder).mkdir(parents=True)
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    Path("params.yaml").write_text(DEMO)
    return tmp_path


def edit(*changes: tuple[str, str]) -> None:
    text = DEMO
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    Path("params.yaml").write_text(text)


def texts(findings: list[Finding], level: str) -> list[str]:
    return [finding.text for finding in findings if finding.level == level]


def picture(path: Path, side: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((side, side + 8, 3), 90, np.uint8))


# ---------------------------------------------------------------- params


def test_every_block_that_a_stage_loads_has_its_model() -> None:
    sources = [*(PROJECT / "stages").glob("*.py"), PROJECT / "wsol_core/engine/writer.py"]
    found = {
        (re.sub(r"\{[^}]*\}", "*", block), model)
        for path in sources
        for model, block in re.findall(r'\bload\((\w+), f?"([^"]+)"\)', path.read_text())
    }
    assert found == {(block, model.__name__) for block, model in MODELS.items()}


def test_blocks_of_the_demo_are_right() -> None:
    blocks, findings = check_blocks(read_params())
    assert findings == []
    assert {"cam.cam", "segmentation.network", "data.detection", "classifier.efficientnet_lite0"} <= blocks.keys()


def test_all_bad_parameters_are_named() -> None:
    changes = {
        ("image_side: 448", "image_sied: 448"): "ddt.image_sied: unknown key; did you mean 'image_side'?",
        ("epochs: 8", "epochs: -8"): "foreground.training.epochs: Input should be greater",
        ("\nrefined: []", "\nrefinde: []"): "refinde: unknown key; did you mean 'refined'?",
        ("  sources: [foreground, cam]", "  sources: foreground"): "segmentation.sources: 'foreground' is not a list",
        ("methods: [ddt,", "methods: [ddt, ddt,"): "methods: 'ddt' twice",
        ("\nseed: 0", "\nseed: -1"): "seed: -1 is not a whole number",
        ("preset: demo", "preset: ../demo"): "preset: '../demo' is not a name",
        ("heat_maps: {}", "heat_maps: [a]"): "heat_maps: ['a'] is not",
        ("oracle: {}", "oracle: {oracle-lr: {netwrok: {}}}"): "oracle.oracle-lr.netwrok: unknown key",
    }
    edit(*changes)
    found = texts(check_blocks(read_params())[1], "error")
    for expected in changes.values():
        assert any(text.startswith(expected) for text in found), expected


@pytest.mark.parametrize("text", ["a: [", "- 1"])
def test_unreadable_parameters_are_one_error(text: str) -> None:
    Path("params.yaml").write_text(text)
    assert len(examine(measure=False).findings) == 1


# ---------------------------------------------------------------- pipeline


def test_all_inputs_of_the_demo_are_made() -> None:
    pipeline = read_pipeline()
    addresses = [stage.address for stage in pipeline.stages]
    assert {"prepare@localization", "cam_maps@cam", "train_segmentation@foreground"} <= set(addresses)
    assert not any(address.startswith("train_fam") for address in addresses)
    assert unmade_inputs(pipeline.stages, {}) == []


def test_what_nothing_makes_is_named_once() -> None:
    edit(
        ("methods: [ddt, foreground,", "methods: [ddt, foregruond,"),
        ("class_scores: [efficientnet_lite0]", "class_scores: [fam]"),
        ("segments: []", "segments: [sec]"),
        ("  methods: [foreground] ", "  methods: [foreground, cam] "),
    )
    found = texts(unmade_inputs(read_pipeline().stages, {"both": ["phase-one"]}), "error")
    wrong = (
        "data/localization/maps/foregruond.h5, which calibrate@foregruond and 2 more read",
        "data/localization/scores/fam.parquet",
        "data/detection/segments/sec",
        "data/detection/maps/cam.h5, which score_proposals@detection-cam read",
        "data/detection/maps/phase-one.h5, which heat_maps.both read",
    )
    assert len(found) == len(wrong)
    for part in wrong:
        assert any(part in text for text in found), part
    assert "did you mean 'foreground'?" in next(text for text in found if "foregruond" in text)


def test_what_an_earlier_run_left_is_a_warning() -> None:
    stage = Stage("calibrate", "old", (), ("data/localization/maps/old.h5",), ())
    Path("data/localization/maps").mkdir(parents=True)
    Path("data/localization/maps/old.h5").touch()
    (text,) = texts(unmade_inputs([stage], {}), "warning")
    assert "nothing makes data/localization/maps/old.h5 any more" in text


def test_a_missing_dictionary_and_a_missing_project_are_one_line() -> None:
    edit(("\nfam: {}", "\nfum: {}"))
    with pytest.raises(InputError, match="fam"):
        read_pipeline()
    shutil.rmtree(".dvc")
    with pytest.raises(InputError, match="project's root"):
        read_pipeline()


def test_only_living_processes_hold_the_lock() -> None:
    def entry(pid: int) -> dict[str, object]:
        return {"write": {"pid": pid, "cmd": "dvc repro"}, "read": [{"pid": os.getpid(), "cmd": "wsol"}]}

    Path(".dvc/tmp/rwlock").write_text(json.dumps({"a": entry(os.getppid()), "b": entry(2**22 + 1)}))
    assert read_pipeline().running == (f"dvc repro (process {os.getppid()})",)
    warnings = texts(list(examine(measure=False).findings), "warning")
    assert any("another process is at work here: dvc repro" in text for text in warnings)


# ---------------------------------------------------------------- data


def look_at_folder(**changes: object) -> tuple[dict[str, data_sets.Extent], list[Finding]]:
    params = {"name": "mine", "source": "data/localization/files.parquet", "reader": "folder"} | changes
    block = DataParams.model_validate(params)
    return data_sets.check_data({"data.localization": block}, [])


def test_a_folder_is_counted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_ROOT_MINE", str(project / "photos"))
    for number in range(7):
        picture(project / f"photos/{'ab'[number > 4]}/{number}.png")
    extents, findings = look_at_folder(fullsup_per_class=1)
    assert (extents["localization"].images, extents["localization"].train, extents["localization"].held_out) == (
        7,
        5,
        2,
    )
    (text,) = texts(findings, "note")
    assert "7 images" in text
    assert "2 classes, 2 to 5 images each, no ground truth, so evaluation is skipped" in text
    assert texts(findings, "error") == texts(findings, "warning") == []


def test_bad_images_and_untrainable_classes_are_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_ROOT_MINE", str(project / "photos"))
    picture(project / "photos/train/a/1.png")
    picture(project / "photos/test/b/2.png")
    (project / "photos/train/a/3.jpg").write_bytes(b"no image")
    _, findings = look_at_folder()
    assert any("3.jpg: not an image" in text and "on_bad_image" in text for text in texts(findings, "error"))
    assert any("no training image of b" in text for text in texts(findings, "warning"))
    _, findings = look_at_folder(on_bad_image="skip")
    assert texts(findings, "error") == []
    assert any("3.jpg" in text and "left out" in text for text in texts(findings, "warning"))


def test_several_labels_are_an_error_for_localization(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_ROOT_MINE", str(project))
    for name in "xy":
        picture(project / f"{name}.png")
    boxes = [{"id": n, "image_id": n // 2, "category_id": n // 3 + 1, "bbox": [1, 1, 9, 9]} for n in (1, 2, 3)]
    names = [{"id": n, "name": str(n)} for n in (1, 2)]
    images = [{"id": n, "file_name": f"{name}.png", "width": 48, "height": 40} for n, name in enumerate("yx")]
    Path("t.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": names}))
    _, findings = look_at_folder(reader="coco", splits={"train-weaksup": "t.json"})
    assert any("x: not exactly one label" in text for text in texts(findings, "error"))
    assert "2 with ground truth" in texts(findings, "note")[0]
    extents, findings = look_at_folder(reader="coco", splits={"train-weaksup": "t.json"}, one_class=True)
    assert extents["localization"].images == 1
    assert texts(findings, "error") == []


@pytest.mark.parametrize(("made", "expected"), [("photos", "no images"), ("", "where is data set 'mine'")])
def test_no_images_and_no_root(project: Path, made: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if made:
        (project / made).mkdir()
        monkeypatch.setenv("WSOL_ROOT_MINE", str(project / made))
    extents, findings = look_at_folder()
    assert extents == {}
    assert expected in texts(findings, "error")[0]


def test_background_images_named_as_classes(project: Path) -> None:
    blocks, _ = check_blocks(read_params())
    picture(project / "sea/bird/1.png")
    params = BackgroundParams(name="sea", source="sea")
    chosen = {"data.localization": blocks["data.localization"], "demo": blocks["demo"], "background": params}
    made = ["data/rendered/localization"]
    assert texts(data_sets.check_data(chosen, made)[1], "warning") == []
    (text,) = texts(data_sets.check_data(chosen | {"bc.bc": params}, made)[1], "warning")
    assert "named as classes: bird" in text


# ---------------------------------------------------------------- weights, results, machine


def test_weights_are_there_or_to_be_downloaded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(project / "hub"))
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda *_: None)

    def found(name: str, start: str) -> list[Finding]:
        backbone = {"name": name, "weights": start}
        return check_weights({"ddt": DDTParams.model_validate({"backbone": backbone})})

    assert found("efficientnet_lite0", "imagenet") == found("resnet18", "none") == []
    assert "will be downloaded from https" in texts(found("vgg16", "imagenet"), "warning")[0]
    assert "from the hub (timm/resnet18" in texts(found("resnet18", "imagenet"), "warning")[0]
    assert "a.pth: no such file" in texts(found("vgg16", "a.pth"), "error")[0]
    assert "did you mean 'vgg16'?" in texts(found("vgg166", "none"), "error")[0]
    (project / "hub/checkpoints").mkdir(parents=True)
    (project / "hub/checkpoints/vgg16-397923af.pth").touch()
    assert found("vgg16", "imagenet") == []


def test_results_of_other_versions_are_named() -> None:
    Path("data/models").mkdir()
    now = {name: version(name) for name in ("torch", "timm")}
    for name, versions in (("new", now), ("old", now | {"torch": "1.0"}), ("older", now | {"torch": "1.0"})):
        save_file(
            {"w": torch.zeros(1)}, f"data/models/{name}.safetensors", {"wsol": json.dumps({"versions": versions})}
        )
    save_file({"w": torch.zeros(1)}, "data/models/other.safetensors")
    (text,) = texts(check_versions(), "warning")
    assert text.startswith(f"old, older: made with torch 1.0, now torch {now['torch']}")


@pytest.mark.parametrize(
    ("variable", "value"), [("WSOL_DEVICE", "tpu9"), ("WSOL_DEVICE", "cuda"), ("WSOL_WORKERS", "0")]
)
def test_environment_is_checked(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert texts(check_machine(Path()), "error") == []
    monkeypatch.setenv(variable, value)
    (text,) = texts(check_machine(Path()), "error")
    assert value in text


def test_free_space_of_a_folder_to_come(project: Path) -> None:
    assert free_bytes(project / "not/yet/there") > 0


# ---------------------------------------------------------------- estimate


def test_speeds_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsol_core.doctor.speed.SECONDS", 0.0)
    found = pass_speed(Pass("efficientnet_lite0", 16, 32, True, "32-true"))
    assert found.rate > 0
    assert found.strides == (2, 4, 8, 16, 16, 16)
    assert 3e6 < found.parameters < 6e6
    with pytest.raises(InputError, match="nearest"):
        pass_speed(Pass("efficientnet_lite9", 32, 32, False, "32-true"))
    search = SearchParams(mode="fast", longest_side=40)
    assert 0 < search_seconds(search, None, 40) < 60
    assert 0 < crf_seconds(CRFParams(iterations=1), 2, 24) < 60


RATES = {(32, 448, False): 52, (16, 224, True): 28, (16, 224, False): 168, (16, 256, False): 142, (32, 224, True): 58}


def known_speed(work: Pass) -> Speed:
    """The demo's, on two idle cores."""
    rate = RATES.get((work.stride, work.side, work.training), 232)
    return Speed(rate, tuple(min(each, work.stride) for each in (2, 4, 8, 16, 32, 32)), 1280, 3_400_000)


def demo_costs(monkeypatch: pytest.MonkeyPatch) -> dict[str, costs.Cost]:
    monkeypatch.setenv("WSOL_WORKERS", "2")
    monkeypatch.setattr(costs, "pass_speed", known_speed)
    monkeypatch.setattr(costs, "search_seconds", lambda *_: 0.2)
    pipeline, (blocks, _) = read_pipeline(), check_blocks(read_params())
    extents, _ = data_sets.check_data(blocks, [out for stage in pipeline.stages for out in stage.outs])
    return {cost.stage: cost for cost in Costs(pipeline.stages, blocks, extents)}


def test_the_demo_takes_as_long_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    found = demo_costs(monkeypatch)
    assert 704 / 2 < sum(cost.seconds for cost in found.values()) < 704 * 2
    decoding = data_sets.DECODING / 2
    training = found["train_foreground"]
    assert training.seconds == pytest.approx(7 + 8 * (600 / 28 + 120 / 168) + 720 * decoding)
    assert training.formula.startswith("8 epochs x 600 images / 28 a second + 8 x 120 held out / 168")
    assert found["foreground_maps@detection"].seconds == pytest.approx(7 + 640 / 142 + 640 * decoding)
    assert found["selective_search@selective-search"].seconds == pytest.approx(2.5 + 640 * 0.2 / 2)
    assert found["cam_maps@cam"].bytes == pytest.approx(2 * 1020 * 28**2 + 200 * 1020)
    assert training.bytes == pytest.approx(4 * 3_400_000, rel=0.1)


def test_views_and_methods_change_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    edit(
        ("  flip: false", "  flip: true"),
        ("  scales: [1.0]", "  scales: [1.0, 2.0]"),
        ("sources: [foreground, cam]", "sources: []"),
    )
    found = demo_costs(monkeypatch)
    assert "train_segmentation@cam" not in found
    assert found["cam_maps@cam"].seconds == pytest.approx(7 + 10 * 1020 / 232 + 1020 * data_sets.DECODING / 2)


LINEAR = """
  linear:
    network: {descriptions: lite0, method: oicr, proposals: proposals, training: {epochs: 3, batch: 4, lr_head: 0.01}}
    detect: {}
"""


def test_described_proposals_cost_a_small_picture_each(monkeypatch: pytest.MonkeyPatch) -> None:
    edit(
        (
            "descriptions: {} ",
            "descriptions: {lite0: {backbone: {name: efficientnet_lite0, weights: none}, level: -4}} ",
        ),
        ("linear_detectors: {} ", f"linear_detectors:{LINEAR}"),
        ("detections: [oicr]", "detections: [oicr, linear]"),
    )
    found = demo_costs(monkeypatch)
    described = found["describe_proposals@lite0"]
    assert described.seconds == pytest.approx(7 + 640 * (1 / 232 + 300 / 232 + data_sets.DECODING / 2))
    assert described.bytes == 2 * 640 * 300 * 1280
    assert found["train_linear_detector@linear"].seconds == pytest.approx(7 + 3 * 440 * 0.01)
    assert found["detect_linear@linear"].seconds == pytest.approx(7 + 640 * 0.01)


# ---------------------------------------------------------------- the command


def test_exit_codes_and_json() -> None:
    done = CliRunner().invoke(app, ["doctor", "--quick", "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["total"] is None
    assert {finding["level"] for finding in content["findings"]} <= {"warning", "note"}
    edit(("methods: [ddt, foreground,", "methods: [ddt, foregruond,"))
    done = CliRunner().invoke(app, ["doctor", "--quick"])
    assert done.exit_code == 1
    assert done.stdout.startswith("error: params: nothing makes data/localization/maps/foregruond.h5")
    assert CliRunner().invoke(app, ["doctor", "--slow"]).exit_code == 2


def test_the_estimate_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "pass_speed", known_speed)
    monkeypatch.setattr(costs, "search_seconds", lambda *_: 0.2)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    assert "\nddt_boxes\t1020 images x 1 / 52 a second" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("in all about ")
    monkeypatch.setattr("wsol_core.doctor.examination.free_bytes", lambda _: 1)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "GiB of artifacts" in done.stdout
