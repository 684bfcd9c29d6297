"""Entries of `detectors:`: what they see decides their kind; faults are named in a line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from wsol_core.core.errors import InputError
from wsol_core.detection.detector import DetectorParams
from wsol_core.detection.entry import (
    INDEX,
    PROPOSALS,
    DetectorEntry,
    ImageDetectorEntry,
    LinearDetectorEntry,
    detector_entry,
    entry_model,
    load_detector,
)
from wsol_core.detection.infer import DetectParams
from wsol_core.detection.linear_detector import LinearDetectorParams
from wsol_core.detection.postprocess import PostprocessParams

FEATURES = "data/detection/proposal_features/lite0.h5"
OBJECTNESS = "data/detection/objectness/foreground.parquet"
HEADS: dict[str, Any] = {"method": "oicr", "training": {"epochs": 1, "lr_head": 0.1}}
NETWORK = {
    "method": "mist",
    "backbone": {"name": "efficientnet_lite0", "weights": "none"},
    "training": {"epochs": 1, "lr_backbone": 0.1, "lr_head": 0.1},
}


def test_a_detector_that_sees_images() -> None:
    for entry in ({"network": NETWORK}, {"network": NETWORK, "sees": INDEX}):
        found = detector_entry(entry)
        assert isinstance(found, ImageDetectorEntry)
        assert isinstance(found.network, DetectorParams)
        assert found.detect == DetectParams()
        assert (found.sees, found.learns_from) == (INDEX, PROPOSALS)


def test_a_detector_that_sees_features() -> None:
    found = detector_entry({"sees": FEATURES, "learns_from": OBJECTNESS, "network": HEADS | {"filter": {}}})
    assert isinstance(found, LinearDetectorEntry)
    assert isinstance(found.network, LinearDetectorParams)
    assert type(found.detect) is PostprocessParams


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"sees": "data/localization/index.parquet"},
            r"^detectors\.a\.sees: 'data/localization/index\.parquet': name ",
        ),
        ({"sees": "data/detection/proposal_features/../x.h5"}, r"^detectors\.a\.sees: "),
        ({"sees": 3}, r"^detectors\.a\.sees: 3: name data/detection/index\.parquet or "),
        ({"learns_from": "proposals"}, r"^detectors\.a\.learns_from: .*name data/detection/proposals\.parquet or "),
        ({"network": NETWORK | {"filter": {}}}, r"^detectors\.a\.network: .*a filter needs objectness"),
        ({"network": NETWORK | {"proposals": "proposals"}}, r"^detectors\.a\.network\.proposals: unknown key"),
        ({"network": NETWORK | {"widths": 3}}, r"^detectors\.a\.network\.widths: unknown key; did you mean 'width'"),
        ({"network": HEADS}, r"^detectors\.a\.network"),
        ({"sees": FEATURES, "network": NETWORK}, r"^detectors\.a\.network\.\w+.*: unknown key"),
        ({"sees": FEATURES, "network": HEADS, "detect": {"flip": True}}, r"^detectors\.a\.detect\.flip: unknown key"),
        ({"looks": 3}, r"^detectors\.a\.looks: unknown key"),
    ],
)
def test_faults_are_named_in_a_line(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        detector_entry({"network": NETWORK} | entry, "detectors.a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", [None, [], "oicr"])
def test_an_entry_that_is_no_block_is_refused(entry: object) -> None:
    assert issubclass(entry_model(entry, "detectors.a"), DetectorEntry)
    with pytest.raises(InputError, match=r"^detectors\.a: "):
        detector_entry(entry, "detectors.a")


def test_training_reads_what_decides_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entry = {"sees": FEATURES, "learns_from": PROPOSALS, "network": HEADS, "detect": {"detections": 3}}
    Path("params.yaml").write_text(yaml.safe_dump({"detectors": {"net": entry}}))
    params = ("${key}.sees", "${key}.learns_from", "${key}.network")
    stage = {"foreach": "${detectors}", "do": {"params": [f"detectors.{each}" for each in params]}}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train_detector": stage}}))
    monkeypatch.setenv("DVC_STAGE", "train_detector@net")
    assert load_detector("net", ("sees", "learns_from", "network")).detect.detections == 100
    with pytest.raises(InputError, match="without declaring it"):
        load_detector("net")
    monkeypatch.delenv("DVC_STAGE")
    assert load_detector("net").detect.detections == 3
    with pytest.raises(InputError, match=r"no 'detectors\.nett'; did you mean 'net'"):
        load_detector("nett")
