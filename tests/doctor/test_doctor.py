import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from wsol_core.cli.app import app
from wsol_core.configuration.expand import expand
from wsol_core.configuration.parameters import Parameters, read_parameters
from wsol_core.configuration.presets import preset_parameters
from wsol_core.core.crf_params import CRFParams
from wsol_core.core.errors import InputError
from wsol_core.doctor import data_sets, running_time, speed, weights
from wsol_core.doctor.costs import Cost, estimate
from wsol_core.doctor.examination import examine
from wsol_core.doctor.feature_stores import check_stores, row_bytes
from wsol_core.doctor.finding import Finding
from wsol_core.doctor.machine import check_machine, free_bytes
from wsol_core.doctor.outputs import made_files
from wsol_core.doctor.parameters import check_parameters
from wsol_core.doctor.pipeline import Stage, read_pipeline, unmade_inputs
from wsol_core.doctor.speed import (
    Pass,
    Speed,
    component_seconds,
    crf_seconds,
    head_speed,
    pass_speed,
    search_seconds,
    store_shapes,
)
from wsol_core.doctor.weights import check_versions, check_weights
from wsol_core.engine.features import FeatureParams
from wsol_core.proposals.selective_search import SearchParams

PROJECT = Path(__file__).parents[2]
DEMO = expand(preset_parameters("demo", PROJECT))
PARAMS = Path("params.yaml")


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


def edit(**patches: object) -> None:
    """Lay patches over the demo's parameters; a top-level key as a keyword, `null` stays as it is."""

    def laid(old: object, patch: object) -> object:
        if not (isinstance(old, dict) and isinstance(patch, dict)):
            return patch
        return old | {key: laid(old.get(key), value) for key, value in patch.items()}

    PARAMS.write_text(yaml.safe_dump(laid(yaml.safe_load(DEMO), patches), sort_keys=False))


def unmade(stages: tuple[Stage, ...]) -> list[Finding]:
    params = read_parameters(PARAMS)
    return unmade_inputs(stages, tuple(made_files(stages, params.networks)), params.heat_maps)


def texts(findings: list[Finding], level: str) -> list[str]:
    return [finding.text for finding in findings if finding.level == level]


def picture(path: Path, side: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((side, side + 8, 3), 90, np.uint8))


# ---------------------------------------------------------------- params


def test_parameters_of_the_demo_are_right() -> None:
    params, findings = check_parameters(PARAMS)
    assert findings == []
    assert params == read_parameters(PARAMS)


def test_all_bad_parameters_are_named() -> None:
    content = yaml.safe_load(DEMO)
    content["ddt"]["otsou"] = content["ddt"].pop("otsu")
    content["networks"]["foreground"]["training"]["epochs"] = -8
    content["networks"]["cam"]["method"] = "spoil"
    content["gaussian_labels"]["gaussian-cam"]["foregrund"] = 0.5
    content["refinde"] = content.pop("refined")
    content |= {
        "seed": -1, "preset": "../demo", "heat_maps": {"a": ["b"]}, "class_scores": "classifier",
        "detections": ["oicr", "oicr"], "oracle_masks": {"oracle-lr": {"netwrok": {}}},
    }  # fmt: skip
    content["methods"]["ddt"] = {"calibrated_by": "constant", "constnat": 0.5}
    PARAMS.write_text(yaml.safe_dump(content))
    params, findings = check_parameters(PARAMS)
    assert params is None
    expected = (
        "ddt.otsou: unknown key; did you mean 'otsu'?",
        "networks.foreground.training.epochs: Input should be greater",
        "networks.cam.method: no method 'spoil'; did you mean 'spol'?",
        "gaussian_labels.gaussian-cam.foregrund: unknown key; did you mean 'foreground'?",
        "refinde: unknown key; did you mean 'refined'?",
        "seed: Input should be greater",
        "preset: String should match",
        "heat_maps.a: Input should be a valid string",
        "class_scores: Input should be",
        "detections: 'oicr' twice",
        "oracle_masks.oracle-lr.netwrok: unknown key",
        "methods.ddt.constnat: unknown key; did you mean 'constant'?",
    )
    found = texts(findings, "error")
    for text in expected:
        assert any(each.startswith(text) for each in found), (text, found)
    assert len(found) == len(expected)


@pytest.mark.parametrize("text", ["a: [", "- 1"])
def test_unreadable_parameters_are_one_error(text: str) -> None:
    Path("params.yaml").write_text(text)
    assert len(examine(measure=False).findings) == 1


# ---------------------------------------------------------------- pipeline


def test_all_inputs_of_the_demo_are_made() -> None:
    pipeline = read_pipeline()
    addresses = [stage.address for stage in pipeline.stages]
    assert {"prepare@localization", "maps@cam", "train@segmentation-foreground"} <= set(addresses)
    assert not any("fam" in address for address in addresses)
    assert unmade(pipeline.stages) == []
    assert not any(dep.startswith(("wsol_core", "stages")) for stage in pipeline.stages for dep in stage.deps)


def test_what_nothing_makes_is_named_once() -> None:
    boxes = {"calibrated_by": "pseudo_boxes", "calibrated_on": "data/localization/pseudo_boxes.parquet"}
    edit(
        methods={"foregruond": boxes},
        class_scores=["cam"],
        segments={"sec": {"network": "sec", "splits": ["test"]}},
        objectness={"methods": ["foreground", "cam"]},
        heat_maps={"both": "phase-one"},
    )
    found = texts(unmade(read_pipeline().stages), "error")
    wrong = (
        "data/localization/outputs/foregruond/maps.h5, which calibrate@foregruond and 2 more read",
        "data/localization/outputs/cam/classes.parquet, which evaluate_classification@cam read",
        "data/detection/outputs/sec/maps.h5, which segments@sec read",
        "data/detection/outputs/cam/maps.h5, which score_proposals@detection-cam read",
        "data/detection/outputs/phase-one/maps.h5, which heat_maps.both read",
    )
    assert len(found) == len(wrong)
    for part in wrong:
        assert any(part in text for text in found), part
    assert "did you mean 'foreground'?" in next(text for text in found if "foregruond" in text)


def test_what_an_earlier_run_left_is_a_warning() -> None:
    path = "data/localization/outputs/old/maps.h5"
    stage = Stage("calibrate", "old", (), (path,), ())
    Path(path).parent.mkdir(parents=True)
    Path(path).touch()
    (text,) = texts(unmade_inputs([stage], [], {}), "warning")
    assert f"nothing makes {path} any more" in text


def test_a_missing_dictionary_and_a_missing_project_are_one_line() -> None:
    PARAMS.write_text(DEMO.replace("\nvotes: {}", "\nvoets: {}"))
    with pytest.raises(InputError, match="votes"):
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


def with_data(**sets: object) -> Parameters:
    return Parameters.model_validate(
        yaml.safe_load(DEMO) | {"data": sets, "features": {}, "transfer": {}, "objectness": {}, "report": {}}
    )


def look_at_folder(**changes: object) -> tuple[dict[str, data_sets.Extent], list[Finding]]:
    block = {"name": "mine", "source": "data/localization/files.parquet", "reader": "folder"} | changes
    return data_sets.check_data(with_data(localization=block), [])


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
    picture(project / "sea/bird/1.png")
    picture(project / "sea/waves/2.png")
    localization = yaml.safe_load(DEMO)["data"]["localization"]
    background = {"name": "sea", "source": "sea", "reader": "unlabelled"}
    made = ["data/rendered/localization"]
    assert texts(data_sets.check_data(with_data(localization=localization), made)[1], "warning") == []
    extents, findings = data_sets.check_data(with_data(localization=localization, background=background), made)
    (text,) = texts(findings, "warning")
    assert "named as classes: bird" in text
    assert (extents["background"].images, extents["background"].labels) == (2, 0)
    assert "background: 2 images in sea (2 train-weaksup)" in texts(findings, "note")


# ---------------------------------------------------------------- weights, results, machine


def test_weights_are_there_or_to_be_downloaded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(project / "hub"))
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda *_: None)

    def found(name: str, start: str) -> list[Finding]:
        content = yaml.safe_load(DEMO) | {"detectors": {}, "proposal_features": {}}
        content["features"]["frozen"]["backbone"] = {"name": name, "weights": start}
        return check_weights(Parameters.model_validate(content))

    assert found("efficientnet_lite0", "imagenet") == found("resnet18", "none") == []
    (text,) = texts(found("vgg16", "imagenet"), "warning")
    assert text.startswith("features.frozen.backbone: vgg16: the ImageNet weights will be downloaded from https")
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
    features = FeatureParams(levels=(-3, -1), side=96)
    assert store_shapes(features) == ((112, 6, 6), (1280, 3, 3))
    with pytest.raises(InputError, match="levels"):
        store_shapes(FeatureParams(levels=(-9,)))
    networks = read_parameters(PARAMS).networks
    for name in ("norm", "foreground", "cam", "classifier"):
        assert all(head_speed(networks[name], features, 3, training) > 0 for training in (name != "norm", False))
    assert component_seconds((16, 6, 6)) > 0
    with pytest.raises(InputError, match="nearest"):
        pass_speed(Pass("efficientnet_lite9", 32, 32, False, "32-true"))
    search = SearchParams(mode="fast", longest_side=40)
    assert 0 < search_seconds(search, None, 40) < 60
    assert 0 < crf_seconds(CRFParams(iterations=1), 2, 24) < 60


RATES = {(16, 224, True): 28, (16, 224, False): 168, (32, 224, True): 58}
HEADS = {True: 100.0, False: 400.0}


def known_speed(work: Pass) -> Speed:
    """That of two idle cores."""
    rate = RATES.get((work.stride, work.side, work.training), 232)
    return Speed(rate, tuple(min(each, work.stride) for each in (2, 4, 8, 16, 32, 32)), 3_400_000)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known ones, and two processes."""
    monkeypatch.setenv("WSOL_WORKERS", "2")
    monkeypatch.setattr(speed, "pass_speed", known_speed)
    monkeypatch.setattr(running_time, "head_speed", lambda *arguments: HEADS[arguments[3]])
    monkeypatch.setattr(running_time, "component_seconds", lambda _: 0.02)
    monkeypatch.setattr(running_time, "search_seconds", lambda *_: 0.2)


def demo_costs() -> dict[str, Cost]:
    pipeline, params = read_pipeline(), read_parameters(PARAMS)
    extents, _ = data_sets.check_data(params, [out for stage in pipeline.stages for out in stage.outs])
    return {cost.stage: cost for cost in estimate(pipeline.stages, params, extents)}


@pytest.mark.usefixtures("speeds")
def test_networks_on_features_cost_their_heads_alone() -> None:
    found, params, decoding = demo_costs(), read_parameters(PARAMS), data_sets.DECODING / 2
    row, epochs = row_bytes(params.features["frozen"]), params.networks["foreground"].training.epochs
    assert found["features@frozen"].seconds == pytest.approx(7 + 1020 * (1 / 232 + decoding))
    assert found["features@frozen"].bytes == 1020 * row
    assert found["ddt_boxes"].seconds == pytest.approx(7 + (2 * 1020 + 600) * row / 1e9 + 1020 * 0.02)
    training = found["train@foreground"]
    assert training.seconds == pytest.approx(7 + epochs * (600 / 100 + 120 / 400) + 720 * row / 1e9)
    assert training.formula.startswith(f"{epochs} epochs x 600 rows of features / 100 a second + {epochs} x 120 held")
    assert training.bytes == 4 * 3_400_000
    assert found["train@norm"].seconds == pytest.approx(7 + 720 * row / 1e9)
    assert found["maps@foreground"].seconds == pytest.approx(7 + 1020 / 400 + 1020 * row / 1e9)
    cells = 1280 * 17**2 * 2
    assert found["transfer@foreground"].seconds == pytest.approx(7 + 640 / 400 + 640 * cells / 1e9)
    assert found["selective_search@selective-search"].seconds == pytest.approx(2.5 + 640 * 0.2 / 2)
    side = store_shapes(params.features["frozen"])[0][1]
    assert found["maps@cam"].bytes == pytest.approx(2 * 1020 * side**2 + 200 * 1020)


@pytest.mark.usefixtures("speeds")
def test_features_that_are_not_stored_cost_passes_wherever_they_are_read() -> None:
    edit(features={"frozen": {"store": "never", "views": ["plain", "mirrored"]}})
    found, each = demo_costs(), 2 / 232 + data_sets.DECODING / 2
    epochs = read_parameters(PARAMS).networks["foreground"].training.epochs
    assert (found["features@frozen"].seconds, found["features@frozen"].bytes) == (7, 0)
    assert found["ddt_boxes"].seconds == pytest.approx(7 + (2 * 1020 + 600) * each + 1020 * 2 * 0.02)
    reading = (720 if 600 * row_bytes(read_parameters(PARAMS).features["frozen"]) <= 2**31 else 720 * epochs) * each
    assert found["train@foreground"].seconds == pytest.approx(7 + epochs * (600 / 100 + 120 / 400) + reading)
    assert found["maps@foreground"].seconds == pytest.approx(7 + 1020 * 2 / 400 + 1020 * each)


@pytest.mark.usefixtures("speeds")
def test_views_and_methods_change_the_estimate_of_networks_on_images() -> None:
    content = yaml.safe_load(DEMO)
    content["inference"] = {"flip": True, "scales": [1.0, 2.0]}
    del content["networks"]["segmentation-cam"]
    training = {"epochs": 3, "lr_backbone": 0.002, "lr_head": 0.02}
    content["networks"]["cam"] = {"method": "spol", "network": "cam", "levels": [-4, -3, -1], "training": training}
    content["networks"]["classifier"] = {
        "method": "classifier", "network": "classifier", "ten_crop": True, "training": training | {"resize": 256},
    }  # fmt: skip
    PARAMS.write_text(expand(Parameters.model_validate(content)))
    found, decoding = demo_costs(), data_sets.DECODING / 2
    assert "train@segmentation-cam" not in found
    assert found["train@cam"].seconds == pytest.approx(7 + 3 * (600 / 58 + 120 / 232) + 720 * decoding)
    assert found["maps@cam"].seconds == pytest.approx(7 + 10 * 1020 / 232 + 1020 * decoding)
    assert found["maps@classifier"].seconds == pytest.approx(7 + 10 * 1020 / 232 + 1020 * decoding)
    assert found["maps@cam"].bytes == pytest.approx(2 * 1020 * 28**2 + 200 * 1020)


@pytest.mark.usefixtures("speeds")
def test_gradients_and_background_images_cost_their_passes() -> None:
    binary = {"method": "bcct", "network": "binary", "background": "data/background/index.parquet", "output_stride": 16,
              "training": {"epochs": 2, "lr_backbone": 0.0, "lr_head": 0.05}}  # fmt: skip
    content = yaml.safe_load(DEMO)
    background = {"name": "sea", "source": "data/rendered/background", "reader": "unlabelled"}
    content["networks"]["bc"], content["data"]["background"] = binary, background
    content["rendered"].append("background")
    PARAMS.write_text(expand(Parameters.model_validate(content)))
    found, decoding = demo_costs(), data_sets.DECODING / 2
    assert found["train@bc"].seconds == pytest.approx(7 + 2 * (1200 / 168 + 120 / 168) + 1320 * decoding)
    assert found["maps@bc"].seconds == pytest.approx(7 + 1020 / 28 + 1020 * decoding)
    assert found["maps@bc"].bytes == 2 * 1020 * 56**2
    assert found["render_demo@background"].bytes == 0.35 * 120 * 256**2


@pytest.mark.usefixtures("speeds")
def test_detectors_cost_passes_or_features_of_proposals() -> None:
    content = yaml.safe_load(DEMO)
    training = {"epochs": 5, "lr_backbone": 0.002, "lr_head": 0.02}
    content["detectors"]["trained"] = {
        "sees": "data/detection/index.parquet", "learns_from": "data/detection/objectness/foreground.parquet",
        "network": {"method": "oicr", "training": training},
    }  # fmt: skip
    content["detectors"]["oicr"]["network"]["training"]["epochs"] = 3
    content["detections"].append("trained")
    PARAMS.write_text(expand(Parameters.model_validate(content)))
    found = demo_costs()
    described = found["proposal_features@lite0"]
    assert described.seconds == pytest.approx(7 + 640 * (0.04 + 2 * 1280 * 17**2 / 1e9))
    assert described.bytes == 2 * 640 * 300 * (2 * 1280 + 2)
    assert found["train_detector@oicr"].seconds == pytest.approx(7 + 3 * 440 * 0.015)
    assert found["detect@oicr"].seconds == pytest.approx(7 + 640 * 0.01)
    assert found["train_detector@trained"].formula.startswith("5 epochs x 400 images")


# ---------------------------------------------------------------- feature stores


def test_stores_that_fill_half_of_the_disk_are_an_error() -> None:
    params, pipeline = read_parameters(PARAMS), read_pipeline()
    extents, _ = data_sets.check_data(params, [out for stage in pipeline.stages for out in stage.outs])
    small = FeatureParams(side=96)
    stores = {"small": small, "large": small.model_copy(update={"views": ("plain", "mirrored")})}
    stores["never"] = small.model_copy(update={"store": "never"})
    needed = 1020 * 3 * 2 * 1280 * 3 * 3
    assert texts(check_stores(stores, extents, 2 * needed, copies=False), "error") == []
    (text,) = texts(check_stores(stores, extents, 2 * needed - 2, copies=False), "error")
    assert "set features.large.store to never" in text
    assert texts(check_stores(stores, extents, 2 * needed, copies=True), "error") != []
    sizes = texts(check_stores(stores, extents, 2 * needed, copies=False), "note")
    assert sizes[0] == f"features.small: {needed / 3 / 2**30:.2f} GiB for 1020 images"
    assert "not stored" in sizes[2]
    with pytest.raises(InputError, match=r"features.wrong: .*levels"):
        check_stores({"wrong": FeatureParams(levels=(-9,))}, extents, 1, copies=False)


def test_a_store_that_is_there_needs_no_more_room() -> None:
    features = FeatureParams(side=96)
    extents, _ = data_sets.check_data(
        read_parameters(PARAMS), ["data/rendered/localization", "data/rendered/detection"]
    )
    path = Path("data/localization/features/frozen.h5")
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file.attrs["params"] = features.model_dump_json()
        file.attrs["shapes"] = [(1280, 3, 3)]
        file.create_dataset("image_id", data=["a"], dtype=h5py.string_dtype())
        file.create_dataset("rows", data=np.zeros((1, 1, 11520), np.float16))
    assert texts(check_stores({"frozen": features}, extents, 1, copies=False), "error") == []
    other = features.model_copy(update={"side": 64})
    assert len(texts(check_stores({"frozen": other}, extents, 1, copies=False), "error")) == 1


# ---------------------------------------------------------------- the command


def test_exit_codes_and_json() -> None:
    done = CliRunner().invoke(app, ["doctor", "--quick", "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["total"] is None
    assert {finding["level"] for finding in content["findings"]} <= {"warning", "note"}
    index = "data/localization/index.parquet"
    edit(methods={"foregruond": {"calibrated_by": "otsu", "calibrated_on": index}})
    done = CliRunner().invoke(app, ["doctor", "--quick"])
    assert done.exit_code == 1
    assert done.stdout.startswith("error: params: nothing makes data/localization/outputs/foregruond/maps.h5")
    assert CliRunner().invoke(app, ["doctor", "--slow"]).exit_code == 2


@pytest.mark.usefixtures("speeds")
def test_the_estimate_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    assert "note: machine: features.frozen: " in done.stdout
    assert "\nddt_boxes\t1020 images x 0.02 s" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("in all about ")
    monkeypatch.setattr("wsol_core.doctor.examination.free_bytes", lambda _: 1)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "set features.frozen.store to never" in done.stdout
    edit(features={"frozen": {"store": "never"}, "frozen-detection": {"store": "never"}})
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "GiB of artifacts" in done.stdout
