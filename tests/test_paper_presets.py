"""The papers' own presets: schedules, networks that build and learn, and the ablation tables' rows as typed blocks."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from wsol_core.ablations.overrides import filled
from wsol_core.ablations.tables import read_tables
from wsol_core.configuration.presets import preset_text
from wsol_core.core.params import Block
from wsol_core.data.loading import Batch
from wsol_core.detection.detector import DetectorParams
from wsol_core.detection.infer import DetectParams
from wsol_core.detection.linear_detector import LinearDetectorParams
from wsol_core.detection.postprocess import SelectionParams
from wsol_core.detection.proposal_features import DescriptionParams
from wsol_core.engine.training import parameter_groups
from wsol_core.engine.training_params import TrainingParams
from wsol_core.oracle.masks import OracleParams
from wsol_core.methods.bcct import ct as bcct
from wsol_core.methods.bcct import joint as bcct_joint
from wsol_core.methods.classifier import network as classifier
from wsol_core.methods.fam import network as fam
from wsol_core.methods.psol import network as psol
from wsol_core.methods.sec import network as sec
from wsol_core.methods.sec.cues import CueParams
from wsol_core.methods.sec.segments import SegmentParams
from wsol_core.methods.spol import networks as spol
from wsol_core.methods.spol.gaussian import GaussianParams
from wsol_core.methods.two_phase import phases as two_phase
from wsol_core.methods.two_phase.saliency import SaliencyParams
from wsol_core.methods.two_phase.voting import VotingParams
from wsol_core.methods.wsfl import foreground as wsfl

ROOT = Path(__file__).parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PRESETS = ("spol-cub", "spol-imagenet", "wsfl-cub", "wsfl-imagenet")
SIDE, CLASSES = 64, 3
LABELS = torch.tensor([0, 2])
TRISTATE = torch.tensor([0.0, 1.0, 255.0]).repeat(2, 16, 6)[:, :, :16]
MASKS = (torch.arange(16).view(4, 4) % 3 == 0).float().expand(2, 4, 4)

Part = tuple[Any, Callable[[], Any], Callable[..., Tensor], Tensor]
"""Parameters of a network, how it is built, its loss, targets."""


def blocks(name: str) -> dict[str, Any]:
    return yaml.safe_load(preset_text(name, ROOT))


def with_random_weights(params: Any) -> Any:
    return params.model_copy(update={"backbone": params.backbone.model_copy(update={"weights": "none"})})


def cam_part(content: Any) -> Part:
    params = with_random_weights(spol.CamParams.model_validate(content))
    loss = partial(spol.classification_loss, auxiliary=params.auxiliary)
    return params, partial(spol.build_cam, params, CLASSES), loss, LABELS


def segmentation_part(content: Any) -> Part:
    params = with_random_weights(spol.SegmentationParams.model_validate(content))
    return params, partial(spol.build, params), spol.segmentation_loss, TRISTATE


def foreground_part(content: Any) -> Part:
    params = with_random_weights(wsfl.ForegroundParams.model_validate(content))
    return params, partial(wsfl.build, params), wsfl.foreground_loss, MASKS


def classifier_part(content: Any) -> Part:
    params = with_random_weights(classifier.ClassifierParams.model_validate(content))
    return params, partial(classifier.build, params, CLASSES), classifier.classification_loss, LABELS


def parts(params: dict[str, Any]) -> dict[str, Part]:
    """The networks that a preset trains."""
    found = {f"cam.{name}": cam_part(content) for name, content in params["cam"].items()}
    found |= {f"classifier.{name}": classifier_part(content) for name, content in params["classifier"].items()}
    if params["segmentation"]["sources"]:
        found["segmentation"] = segmentation_part(params["segmentation"]["network"])
    if "foreground" in params["methods"]:
        found["foreground"] = foreground_part(params["foreground"])
    return found


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("spol-cub", {"cam.cam", "segmentation", "classifier.densenet161"}),
        ("spol-imagenet", {"cam.cam", "segmentation", "classifier.densenet161"}),
        ("wsfl-cub", {"foreground", "classifier.vgg16"}),
        ("wsfl-imagenet", {"foreground", "classifier.resnet50"}),
    ],
)
def test_networks_learn_from_one_step(preset: str, names: set[str]) -> None:
    torch.manual_seed(0)
    found = parts(blocks(preset))
    assert set(found) == names
    for name, (params, build, loss, targets) in found.items():
        model = build()
        optimizer = torch.optim.SGD(parameter_groups(model, params.training), lr=0.1)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        batch = Batch(inputs=torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8), targets=targets)
        value = loss(model, batch)
        assert torch.isfinite(value), name
        value.backward()
        optimizer.step()
        assert any((own.grad != 0).any() for own in model.backbone.parameters() if own.grad is not None), name
        moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
        assert sum(moved) > 0.9 * len(moved), name
        assert all(new.isfinite().all() for new in model.parameters()), name


def schedule(content: dict[str, Any]) -> tuple[Any, ...]:
    """Epochs, batch, the two rates, course, epochs of a step, input side, side of the crops' source."""
    own = TrainingParams.model_validate(content)
    rates = (own.lr_backbone, own.lr_head)
    return own.epochs, own.batch, rates, own.schedule, own.step_epochs, own.image_side, own.resize


@pytest.mark.parametrize(("preset", "epochs"), [("spol-cub", 32), ("spol-imagenet", 6)])
def test_spol_is_the_papers(preset: str, epochs: int) -> None:
    params = blocks(preset)
    for network in (params["cam"]["cam"], params["segmentation"]["network"]):
        assert schedule(network["training"])[:4] == (epochs, 32, (0.002, 0.02), "constant")
        assert schedule(network["training"])[5:] == (224, 256)
        assert (network["backbone"]["name"], network["levels"], network["fusion"]) == (
            "resnet50",
            [-3, -2, -1],
            "multiply",
        )
    gaussian = GaussianParams.model_validate(params["gaussian"]).of("cam")
    assert (gaussian.form, gaussian.enhancement, gaussian.foreground, gaussian.background) == ("whole", 0.7, 0.5, 0.004)


@pytest.mark.parametrize(
    ("preset", "backbone", "expected"),
    [
        ("wsfl-cub", "vgg16", (30, 64, (0.001, 0.001), "step", 10, 224, 0)),
        ("wsfl-imagenet", "resnet50", (12, 256, (0.001, 0.001), "step", 4, 224, 0)),
    ],
)
def test_wsfl_is_the_papers(preset: str, backbone: str, expected: tuple[Any, ...]) -> None:
    params = blocks(preset)
    assert schedule(params["foreground"]["training"]) == expected
    assert params["foreground"]["backbone"]["name"] == backbone
    assert params["ddt"]["backbone"]["name"] == "vgg16"
    assert params["ddt"]["threshold"] == "zero"


@pytest.fixture(scope="module")
def voc12() -> dict[str, Any]:
    return blocks("voc12")


def test_two_phases_and_sec_are_the_papers(voc12: dict[str, Any]) -> None:
    phases = voc12["phase_one"] | voc12["phase_two"]
    for content in phases.values():
        assert schedule(content["training"]) == (11, 15, (0.001, 0.001), "step", 3, 321, 0)
    later = {name: (own["seen"], own["threshold"]) for name, own in voc12["phase_two"].items()}
    assert later == {"phase-two": ("phase-one", 0.6), "phase-three": ("two-phase", 0.4)}
    for content in voc12["sec"].values():
        seeds = CueParams.model_validate(content["seeds"])
        assert (seeds.foreground, seeds.background) == (0.2, 0.1)
        assert content["network"]["training"] == phases["phase-one"]["training"] | {
            "lr_head": 0.01,
            "gradient_clip": 0.0,
        }
    losses = {name: sec.SecParams.model_validate(own["network"]).losses for name, own in voc12["sec"].items()}
    assert losses == {"sec-two-phase": ("seed", "constrain"), "sec-one-phase": ("seed", "expand", "constrain")}


def test_maps_of_two_phases_and_sec_are_41_to_the_side(voc12: dict[str, Any]) -> None:
    images = torch.randint(0, 256, (1, 3, 321, 321), dtype=torch.uint8)
    phase = with_random_weights(two_phase.PhaseParams.model_validate(voc12["phase_one"]["phase-one"]))
    network = with_random_weights(sec.SecParams.model_validate(voc12["sec"]["sec-two-phase"]["network"]))
    with torch.no_grad():
        assert two_phase.build(phase, CLASSES).eval()(images).heat.shape == (1, CLASSES, 41, 41)
        assert sec.build(network, CLASSES).eval()(images).shape == (1, 1 + CLASSES, 41, 41)


def rows() -> Iterator[Any]:
    for table in read_tables(ROOT).values():
        for row in table.rows:
            yield pytest.param(table, row, id=f"{table.name}-{row.name}")


def changed(params: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    for key, value in overrides.items():
        *parents, last = key.split(".")
        inner = params
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
        if value is None:
            del inner[last]
    return params


class DetectorEntry(Block):
    network: DetectorParams
    detect: DetectParams


class LinearDetectorEntry(Block):
    network: LinearDetectorParams
    detect: SelectionParams


MODELS: dict[str, type[Block]] = {
    "cam": spol.CamParams,
    "psol": psol.PsolParams,
    "fam": fam.FamParams,
    "bcct": bcct.BCCTParams,
    "bcct_joint": bcct_joint.JointParams,
    "transferred": wsfl.TransferredParams,
    "phase_one": two_phase.PhaseParams,
    "phase_two": two_phase.LaterPhaseParams,
    "two_phase": VotingParams,
    "saliency": SaliencyParams,
    "detectors": DetectorEntry,
    "linear_detectors": LinearDetectorEntry,
    "descriptions": DescriptionParams,
}


class SecEntry(Block):
    seeds: CueParams
    network: sec.SecParams
    segments: SegmentParams


def made_by(params: dict[str, Any]) -> set[str]:
    """The methods whose entries fit their typed blocks."""
    spol.SegmentationParams.model_validate(params["segmentation"]["network"])
    made = {"ddt", "foreground"} | {f"segmentation-{source}" for source in params["segmentation"]["sources"]}
    for block, model in MODELS.items():
        for name, content in dict(params.get(block, {})).items():
            model.model_validate(content)
            made |= {name, f"{name}-branch"} if block.startswith("bcct") else {name}
    for name, content in params.get("oracle", {}).items():
        OracleParams.model_validate(content["targets"])
        wsfl.ForegroundParams.model_validate(content["network"])
        made.add(name)
    for name, content in dict(params["sec"]).items():
        SecEntry.model_validate(content)
        made.add(name)
    return made


def read_by(params: dict[str, Any]) -> set[str]:
    """The methods whose output another entry of Two-Phase learning or SEC reads."""
    keys = {"phase_two": ["seen"], "two_phase": ["first", "second"], "saliency": ["network"]}
    found = {content[key] for block, own in keys.items() for content in dict(params[block]).values() for key in own}
    return found | {content["seeds"][key] for content in dict(params["sec"]).values() for key in ("maps", "saliency")}


@pytest.mark.parametrize(("table", "row"), list(rows()))
def test_row_is_a_method_of_typed_blocks(table: Any, row: Any) -> None:
    params = blocks(table.preset)
    params = changed(params, filled(table.overrides(row), params, {"start": "somewhere.safetensors", "vgg16": "none"}))
    GaussianParams.model_validate(params["gaussian"]).of("cam")
    made = made_by(params)
    assert {table.method_of(row)} | read_by(params) <= made
    for target in table.targets(row):
        stage, _, key = target.partition("@")
        names = PIPELINE[stage]["foreach"].removeprefix("${").removesuffix("}")
        assert key in params[names], f"no stage {target}"
    if table.measure == "heat_maps":
        assert set(params["heat_maps"][table.method_of(row)].split()) <= made
