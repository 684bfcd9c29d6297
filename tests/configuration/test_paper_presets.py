"""The papers' own presets: schedules, networks that build and learn, and the ablation tables' rows as parameters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from wsol_core.ablations.overrides import apply
from wsol_core.ablations.tables import read_tables
from wsol_core.configuration.expand import expand
from wsol_core.configuration.parameters import Parameters, typed
from wsol_core.configuration.presets import preset_parameters
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import Batch
from wsol_core.engine.recipe import find_recipe
from wsol_core.engine.training import parameter_groups
from wsol_core.engine.training_params import NetworkParams, TrainingParams

ROOT = Path(__file__).parents[2]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PRESETS = ("spol-cub", "spol-imagenet", "wsfl-cub", "wsfl-imagenet")
SIDE, CLASSES = 64, 3
TARGETS = {
    ("wsfl", "foreground"): (torch.arange(16).view(4, 4) % 3 == 0).float().expand(2, 4, 4),
    ("spol", "cam"): torch.tensor([0, 2]),
    ("spol", "segmentation"): torch.tensor([0.0, 1.0, 255.0]).repeat(2, 16, 6)[:, :, :16],
    ("classifier", "classifier"): torch.tensor([0, 2]),
}
NO_INDEX: ImageIndex = None  # type: ignore[assignment]
"""These losses ask for none."""


def with_random_weights(params: Any) -> Any:
    return params.model_copy(update={"backbone": params.backbone.model_copy(update={"weights": "none"})})


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("spol-cub", {"cam", "segmentation-cam", "classifier"}),
        ("spol-imagenet", {"cam", "segmentation-cam", "classifier"}),
        ("wsfl-cub", {"foreground", "classifier"}),
        ("wsfl-imagenet", {"foreground", "classifier"}),
    ],
)
def test_networks_learn_from_one_step(preset: str, names: set[str]) -> None:
    torch.manual_seed(0)
    found = preset_parameters(preset, ROOT).networks
    assert set(found) == names
    for name, entry in found.items():
        params = with_random_weights(entry)
        recipe = find_recipe(params.method, params.network)
        model = recipe.build(params, CLASSES)
        optimizer = torch.optim.SGD(parameter_groups(model, params.training), lr=0.1)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
        value = recipe.loss(params, NO_INDEX)(model, Batch(images, TARGETS[params.method, params.network]))
        assert torch.isfinite(value), name
        value.backward()
        optimizer.step()
        assert any((own.grad != 0).any() for own in model.backbone.parameters() if own.grad is not None), name
        moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
        assert sum(moved) > 0.9 * len(moved), name
        assert all(new.isfinite().all() for new in model.parameters()), name


def schedule(own: TrainingParams) -> tuple[Any, ...]:
    """Epochs, batch, the two rates, course, epochs of a step, input side, side of the crops' source."""
    rates = (own.lr_backbone, own.lr_head)
    return own.epochs, own.batch, rates, own.schedule, own.step_epochs, own.image_side, own.resize


@pytest.mark.parametrize(("preset", "epochs", "threshold"), [("spol-cub", 32, 0.2), ("spol-imagenet", 6, 0.8)])
def test_spol_is_the_papers(preset: str, epochs: int, threshold: float) -> None:
    params = preset_parameters(preset, ROOT)
    for name in ("cam", "segmentation-cam"):
        network: Any = params.networks[name]
        assert schedule(network.training)[:4] == (epochs, 32, (0.002, 0.02), "constant")
        assert schedule(network.training)[5:] == (224, 256)
        assert (network.backbone.name, network.levels, network.fusion) == ("resnet50", (-3, -2, -1), "multiply")
    assert params.networks["segmentation-cam"].learns_from == "data/localization/targets/gaussian-cam.h5"
    gaussian = params.gaussian_labels["gaussian-cam"]
    assert (gaussian.form, gaussian.enhancement, gaussian.foreground, gaussian.background) == ("whole", 0.7, 0.5, 0.004)
    classifier = params.networks["classifier"]
    assert (classifier.backbone.name, classifier.training.schedule) == ("densenet161", "cosine")
    released = params.methods["segmentation-cam"]
    assert (released.calibrated_by, released.constant) == ("constant", threshold)


@pytest.mark.parametrize(
    ("preset", "backbone", "expected"),
    [
        ("wsfl-cub", "vgg16", (30, 64, (0.001, 0.001), "step", 10, 224, 0)),
        ("wsfl-imagenet", "resnet50", (12, 256, (0.001, 0.001), "step", 4, 224, 0)),
    ],
)
def test_wsfl_is_the_papers(preset: str, backbone: str, expected: tuple[Any, ...]) -> None:
    params = preset_parameters(preset, ROOT)
    foreground: Any = params.networks["foreground"]
    assert schedule(foreground.training) == schedule(params.networks["classifier"].training) == expected
    assert foreground.backbone.name == backbone
    assert (foreground.output_stride, foreground.level) == (16, -1)
    assert (params.pseudo_masks.maps, params.pseudo_masks.resolution, params.pseudo_masks.shape) == ("ddt", 14, "box")


@pytest.mark.parametrize("preset", ["cub-vgg16-ddt", "wsfl-cub", "wsfl-imagenet", "spol-cub", "spol-imagenet"])
def test_ddt_is_the_papers(preset: str) -> None:
    """VGG16 after its last pool at 448 pixels; the object is where the projection exceeds the mean (WSFL 3.3.1)."""
    params = preset_parameters(preset, ROOT)
    (name, seen), *others = params.features.items()
    assert params.ddt.sees == params.ddt.second == f"data/localization/features/{name}.h5"
    assert (seen.backbone.name, seen.output_stride, seen.levels, seen.side) == ("vgg16", 32, (-1,), 448)
    assert (seen.views, others) == (("plain",), [])
    assert (params.ddt.layers, params.ddt.otsu, params.ddt.resolution, params.ddt.scope) == ((-1,), 0, 0, "class")
    assert seen.store == ("never" if "imagenet" in preset else "always")


@pytest.fixture(scope="module")
def voc12() -> Parameters:
    return preset_parameters("voc12", ROOT)


def of_method(params: Parameters, method: str) -> dict[str, Any]:
    return {name: entry for name, entry in params.networks.items() if entry.method == method}


def test_two_phases_and_sec_are_the_papers(voc12: Parameters) -> None:
    phases = of_method(voc12, "two_phase")
    for phase in phases.values():
        assert schedule(phase.training) == (11, 15, (0.001, 0.001), "step", 3, 321, 0)
        assert phase.backbone.name == "vgg16"
    later = {name: (each.learns_from, each.threshold) for name, each in phases.items() if each.network == "later"}
    assert later == {
        "phase-two": ("data/detection/outputs/phase-one/maps.h5", 0.6),
        "phase-three": ("data/detection/outputs/two-phase/maps.h5", 0.4),
    }
    found = of_method(voc12, "sec")
    assert {(cues.foreground, cues.background) for cues in voc12.cues.values()} == {(0.2, 0.1)}
    for name, network in found.items():
        assert network.learns_from == f"data/detection/targets/cues-{name}.h5"
        update = {"lr_head": 0.01, "gradient_clip": 0.0}
        assert network.training == phases["phase-one"].training.model_copy(update=update)
    losses = {name: network.losses for name, network in found.items()}
    assert losses == {"sec-two-phase": ("seed", "constrain"), "sec-one-phase": ("seed", "expand", "constrain")}
    assert {name: cues.maps for name, cues in voc12.cues.items()} == {
        "cues-sec-two-phase": "two-phase",
        "cues-sec-one-phase": "phase-one",
    }


def test_maps_of_two_phases_and_sec_are_41_to_the_side(voc12: Parameters) -> None:
    images = torch.randint(0, 256, (1, 3, 321, 321), dtype=torch.uint8)

    def built(name: str) -> Any:
        params: NetworkParams = with_random_weights(voc12.networks[name])
        return find_recipe(params.method, params.network).build(params, CLASSES).eval()

    with torch.no_grad():
        assert built("phase-one")(images).heat.shape == (1, CLASSES, 41, 41)
        assert built("sec-two-phase")(images).shape == (1, 1 + CLASSES, 41, 41)


def rows() -> Iterator[Any]:
    for table in read_tables(ROOT).values():
        for row in table.rows:
            yield pytest.param(table, row, id=f"{table.name}-{row.name}")


def made_by(params: Parameters) -> set[str]:
    """The names of all outputs."""
    refined = {f"{name}-crf" for name in params.refined}
    return {"ddt", "ddt-agnostic", *params.networks, *params.votes, *params.import_maps, *refined, *params.detectors}


def paths_made_by(params: Parameters) -> set[str]:
    """What networks learn from, start from and see."""
    targets = {f"data/localization/targets/{name}.h5" for name in (*params.gaussian_labels, *params.gradient_masks)}
    targets |= {f"data/localization/targets/{name}.h5" for name in params.oracle_masks}
    targets |= {f"data/detection/targets/{name}.h5" for name in params.cues}
    maps = {f"data/{kind}/outputs/{name}/maps.h5" for name in made_by(params) for kind in params.data}
    own = {"data/localization/targets/pseudo_masks.h5", "data/localization/pseudo_boxes.parquet"}
    return {f"data/{kind}/index.parquet" for kind in params.data} | targets | maps | own


def read_by(params: Parameters) -> set[str]:
    """The outputs that another entry reads."""
    blocks: list[Any] = [*params.gaussian_labels.values(), *params.gradient_masks.values(), *params.cues.values()]
    found = {block.maps for block in blocks} | {cues.saliency for cues in params.cues.values()}
    found |= {name for vote in params.votes.values() for name in (vote.first, vote.second)}
    return found | {entry.network for entry in params.segments.values()} | set(params.methods)


@pytest.mark.parametrize(("table", "row"), list(rows()))
def test_row_is_a_method_of_typed_parameters(table: Any, row: Any) -> None:
    values = {"start": "somewhere.safetensors", "vgg16": "none"}
    before = yaml.safe_load(expand(preset_parameters(table.preset, ROOT)))
    params = typed(apply(before, table.overrides(row), values))
    assert {table.method_of(row)} | read_by(params) <= made_by(params) | set(params.heat_maps)
    assert {entry.learns_from for entry in params.networks.values()} <= paths_made_by(params)
    stores = {f"data/{entry.set}/features/{name}.h5" for name, entry in params.features.items()}
    seen = {entry.sees for entry in params.networks.values()} | {params.ddt.sees, params.ddt.second}
    assert seen <= stores | {f"data/{kind}/index.parquet" for kind in params.data}
    for target in table.targets(row):
        stage, _, key = target.partition("@")
        names = PIPELINE[stage]["foreach"].removeprefix("${").removesuffix("}")
        assert key in getattr(params, names), f"no stage {target}"
    if table.measure == "heat_maps":
        assert set(params.heat_maps[table.method_of(row)].split()) <= made_by(params)
