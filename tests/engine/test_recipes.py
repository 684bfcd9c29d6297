"""What holds of every network of every method, once for all: found by name, trained and asked through its recipe."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from stages import maps as maps_stage
from stages import train as train_stage
from tests.tiny_backbone import use_tiny_backbone
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_table
from wsol_core.core.map_store import CLASS_AGNOSTIC, Kind, MapStore, create
from wsol_core.data.class_scores import read_ranked
from wsol_core.data.images import decode_squashed
from wsol_core.data.index import TRAIN_WEAKSUP, ImageIndex, write_index
from wsol_core.engine.inference import AGNOSTIC
from wsol_core.engine.recipe import all_recipes, entry_recipe, find_recipe, load_network

RECIPES = all_recipes()
NAMES = [f"{method}/{network}" for method, network in RECIPES]
LEARNS_FROM = {
    "wsfl/foreground": "masks.h5", "spol/segmentation": "tristate.h5",
    "spol/segmentation-mean-teacher": "tristate.h5", "psol/psol": "boxes.parquet",
    "bcct/ct": "masks.h5", "two_phase/later": "class_maps.h5", "sec/sec": "cues.h5",
}  # fmt: skip
WITH_BACKGROUND = ("bcct/binary", "bcct/joint")
UNTRAINED = ("bcct/features", "norm/norm")
OWN: dict[str, dict[str, Any]] = {
    "spol/cam": {"levels": [-2, -1]}, "spol/cam-released": {"levels": [-2, -1]},
    "spol/segmentation": {"levels": [-2, -1]}, "spol/segmentation-mean-teacher": {"levels": [-2, -1]},
    "fam/fam": {"parts": 2},
    "bcct/binary": {"resolution": 8}, "bcct/features": {"resolution": 8}, "bcct/ct": {"width": 8},
    "bcct/joint": {"width": 8, "binary": {"resolution": 8}},
    "two_phase/first": {"width": 8, "set": "localization", "saliency": -2, "maps": "all"},
    "two_phase/later": {"width": 8, "set": "localization"},
    "sec/sec": {"set": "localization", "width": 8, "pooling": 1, "dilation": 1, "losses": ["seed"], "dropout": 0.0},
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, small_index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """The small data set with pseudo labels of every kind, and a background set."""
    use_tiny_backbone(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSOL_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    write_index(Path("data/localization/index.parquet"), small_index)
    background = small_index.table.assign(labels=pd.Series([[]] * 24, dtype=object), split=TRAIN_WEAKSUP)
    write_index(Path("data/background/index.parquet"), ImageIndex(background, (), "none", small_index.source))
    write_pseudo_labels(small_index)
    return small_index


def write_pseudo_labels(index: ImageIndex) -> None:
    """Under `targets/`: what the networks learn from, of the same place in every image."""
    ids, labels = index.table["image_id"].tolist(), [int(own[0]) for own in index.table["labels"]]
    square = np.zeros((8, 8), np.uint8)
    square[2:6, 2:6] = 1
    tristate = np.where(np.add.outer(range(8), range(8)) > 12, 255, square).astype(np.uint8)
    stores: dict[str, tuple[Kind, list[Any], list[int]]] = {
        "masks": (Kind.MASK, [square] * len(ids), [CLASS_AGNOSTIC] * len(ids)),
        "tristate": (Kind.TRISTATE, [tristate] * len(ids), [CLASS_AGNOSTIC] * len(ids)),
        "class_maps": (Kind.SCORE, [square.astype(np.float16) / 2] * len(ids), labels),
        "cues": (Kind.LABELS, [square * (1 + label) for label in labels], [CLASS_AGNOSTIC] * len(ids)),
    }
    for name, (kind, maps, rows) in stores.items():
        with create(Path(f"data/localization/targets/{name}.h5"), kind, 8, 8) as writer:
            writer.append(ids, rows, np.stack(maps))
    boxes = pd.DataFrame({"image_id": ids, "x0": 16.0, "y0": 12.0, "x1": 48.0, "y1": 36.0, "score": 1.0, "label": 0})
    write_table(Path("data/localization/targets/boxes.parquet"), boxes.astype({"label": "int32"}))


def write_params(name: str, **training: Any) -> None:
    """An entry `net` of this kind of network."""
    method, network = name.split("/")
    epochs = 0 if name in UNTRAINED else 4
    entry: dict[str, Any] = {
        "method": method, "network": network, "backbone": {"name": "resnet50", "weights": "none"},
        "training": {"epochs": epochs, "batch": 8, "lr_backbone": 0.01, "lr_head": 0.02, "image_side": 32,
                     "gradient_clip": 1.0, "flip": False, **training},
        **OWN.get(name, {}),
    }  # fmt: skip
    if name in LEARNS_FROM:
        entry["learns_from"] = f"data/localization/targets/{LEARNS_FROM[name]}"
    if name in WITH_BACKGROUND:
        entry["background"] = "data/background/index.parquet"
    content = {"seed": 0, "inference": {"flip": False}, "networks": {"net": entry}}
    Path("params.yaml").write_text(yaml.safe_dump(content))


def run(name: str, **training: Any) -> Path:
    """Both stages; the folder of outputs."""
    write_params(name, **training)
    train_stage.main("net")
    maps_stage.main("net", "localization", "data/localization/index.parquet")
    return Path("data/localization/outputs/net")


def digests() -> dict[str, str]:
    files = [*Path("data/localization/outputs/net").iterdir(), Path("data/models/net.safetensors")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss_and_is_the_same_twice(name: str, project: ImageIndex) -> None:
    del project
    run(name)
    first = digests()
    loss = pd.read_csv("data/models/loss-net.csv")["train"]
    assert len(loss) == (0 if name in UNTRAINED else 4)
    assert loss.empty or loss.iloc[-1] < loss.iloc[0]
    run(name)
    assert digests() == first


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_whole_and_in_range(name: str, project: ImageIndex) -> None:
    folder = run(name, epochs=0)
    recipe = find_recipe(*name.split("/"))
    network = load_network(Path("data/models/net.safetensors"))
    assert network.recipe is recipe
    assert network.classes == project.classes
    outputs = recipe.outputs(network.params, len(network.classes))
    suffixes = {"classes": ".parquet"}
    assert {path.name for path in folder.iterdir()} == {
        f"{key}{suffixes.get(output.kind, '.h5')}" for key, output in outputs.items()
    }
    for key, output in outputs.items():
        if output.kind == "classes":
            assert len(read_ranked(folder / f"{key}.parquet", project)) == 24
            continue
        with MapStore(folder / f"{key}.h5") as store:
            shown = set(store.image_ids.tolist())
            values = np.stack([store[row] for row in range(len(store))])
        assert shown == set(project.table["image_id"]) or output.kind == "pictures"
        assert np.isfinite(values).all()
        assert 0 <= values.min() <= values.max() <= 1


@pytest.mark.parametrize("name", [name for name in NAMES if name != "classifier/classifier"])
def test_an_image_without_labels_gets_the_map_that_the_stage_writes(name: str, project: ImageIndex) -> None:
    """Class-agnostic maps are the same; a network of classes chooses one by itself."""
    folder = run(name, epochs=0)
    network = load_network(Path("data/models/net.safetensors"))
    side = network.params.training.inference_side
    rows = project.table.head(3)
    pictures = [
        decode_squashed(project.root / path, side, side, network.model.backbone.interpolation) for path in rows["path"]
    ]
    images = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures])
    with torch.no_grad():
        answer = network.recipe.look(network.params)(network.model, images)
    assert answer.maps.shape[0] == 3
    assert 0 <= float(answer.maps.min()) <= float(answer.maps.max()) <= 1
    if answer.classes is not None:
        assert answer.classes.shape == (3, len(project.classes))
    if network.recipe.outputs(network.params, 2)["maps"].rows == AGNOSTIC:
        with MapStore(folder / "maps.h5") as store:
            stored = np.stack([np.asarray(store.find(image_id, CLASS_AGNOSTIC)) for image_id in rows["image_id"]])
        np.testing.assert_allclose(answer.maps.float().numpy(), stored, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_another_data_set_gets_class_agnostic_maps_alone(name: str, project: ImageIndex) -> None:
    run(name, epochs=0)
    table = project.table.assign(labels=pd.Series([[0]] * 24, dtype=object))
    other = ImageIndex(table, ("one", "two", "three"), "other", project.source)
    write_index(Path("data/detection/index.parquet"), other)
    recipe = find_recipe(*name.split("/"))
    network = load_network(Path("data/models/net.safetensors"))
    output = recipe.outputs(network.params, 2).get("maps")
    if output is not None and output.rows == AGNOSTIC:
        maps_stage.main("net", "detection", "data/detection/index.parquet")
        assert [path.name for path in Path("data/detection/outputs/net").iterdir()] == ["maps.h5"]
    else:
        with pytest.raises(InputError, match="its maps are of its own classes"):
            maps_stage.main("net", "detection", "data/detection/index.parquet")


@pytest.mark.parametrize("name", ["spol/segmentation", "fam/fam"])
def test_weights_of_another_network_are_where_training_starts(name: str, project: ImageIndex) -> None:
    del project
    run(name, epochs=1)
    start = Path("start.safetensors")
    Path("data/models/net.safetensors").rename(start)
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["networks"]["net"] |= {"starts_from": str(start)}
    content["networks"]["net"]["training"]["epochs"] = 0
    Path("params.yaml").write_text(yaml.safe_dump(content))
    train_stage.main("net")
    before, after = (load_network(path).model.state_dict() for path in (start, Path("data/models/net.safetensors")))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_every_parameter_of_every_network_says_what_it_is() -> None:
    for recipe in RECIPES.values():
        for field, about in recipe.params.model_fields.items():
            assert about.description, f"{recipe.params.__name__}.{field} has no docstring"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"method": "spoll"}, "no method 'spoll'; did you mean 'spol'"),
        (
            {"method": "spol"},
            "method 'spol' has no network ''; it has cam, cam-released, segmentation, segmentation-mean-teacher",
        ),
        ({"method": "spol", "network": "cam2"}, "has no network 'cam2'"),
        ({"network": "cam"}, "names no method; add method: one of bcct, classifier"),
        ("cam", "names no method"),
    ],
)
def test_unknown_networks_are_one_line(entry: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^here.*{message}"):
        entry_recipe(entry, "here")


def test_background_images_must_be_named(project: ImageIndex) -> None:
    del project
    write_params("bcct/binary")
    content = yaml.safe_load(Path("params.yaml").read_text())
    del content["networks"]["net"]["background"]
    Path("params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="background: names no background images"):
        train_stage.main("net")


@pytest.mark.parametrize("name", NAMES)
def test_pseudo_labels_must_be_named_where_a_network_learns_from_them(name: str, project: ImageIndex) -> None:
    del project
    assert find_recipe(*name.split("/")).needs_pseudo_labels == (name in LEARNS_FROM)
    write_params(name)
    content = yaml.safe_load(Path("params.yaml").read_text())
    if content["networks"]["net"].pop("learns_from", None):
        Path("params.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(InputError, match=r"networks\.net\.learns_from: names no pseudo labels"):
            train_stage.main("net")


def test_what_a_network_cannot_see_is_refused(project: ImageIndex) -> None:
    del project
    write_params("spol/cam")
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["networks"]["net"]["sees"] = "data/detection/index.parquet"
    Path("params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"networks\.net\.sees: data/detection/index\.parquet: name data/"):
        train_stage.main("net")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", ["wsfl/foreground", "norm/norm", "bcct/binary", "two_phase/first"])
def test_a_level_that_the_backbone_has_not_is_one_error(name: str) -> None:
    write_params(name)
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["networks"]["net"]["level"] = -9
    Path("params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"level -9: the backbone has 2 levels; name one from -2 to -1"):
        train_stage.main("net")
