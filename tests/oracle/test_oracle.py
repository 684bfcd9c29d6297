"""Ground truth as targets: which images, which masks, and the oracle's stages."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from stages import maps as maps_stage
from stages import oracle_masks, oracle_objectness
from stages import train as train_stage
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore
from wsol_core.core.oracle_names import refuse_hidden_oracle
from wsol_core.data.index import TEST, TRAIN_FULLSUP, TRAIN_WEAKSUP, ImageIndex, write_annotations, write_index
from wsol_core.engine.targets import images_with_maps
from wsol_core.oracle.masks import OracleParams, box_masks, chosen_images, drawn_masks

BOXES = OracleParams(truth="boxes")
MASKS = OracleParams(truth="masks")
NETWORK = {
    "backbone": {"name": "mobilenetv3_small_050", "weights": "none"},
    "training": {"epochs": 1, "batch": 4, "lr_backbone": 0.01, "lr_head": 0.1, "image_side": 32},
}
COLUMNS = ["image_id", "label", "x0", "y0", "x1", "y1", "difficult", "instance"]


def truth(*rows: tuple[str, int]) -> pd.DataFrame:
    """Annotations of (image, instance), all with the same box."""
    return pd.DataFrame([(name, 0, 8.0, 4.0, 40.0, 36.0, False, instance) for name, instance in rows], columns=COLUMNS)


@pytest.fixture
def all_truth(small_index: ImageIndex) -> pd.DataFrame:
    return truth(*((name, 1) for name in small_index.table["image_id"]))


def test_masks_of_several_boxes_equal_the_naive_union() -> None:
    generator = np.random.default_rng(0)
    rows = pd.DataFrame({"image_id": ["a", "b", "c"], "width": [50, 31, 90], "height": [40, 77, 20]})
    low = generator.random((7, 2)) * 0.5
    high = low + 0.2 + generator.random((7, 2)) * 0.3
    boxes = pd.DataFrame({"image_id": list("cabbaab")}).merge(rows, on="image_id", how="left")
    for column, share in zip(("x0", "y0", "x1", "y1"), np.concatenate([low, high], 1).T, strict=True):
        boxes[column] = share * boxes["width" if column[0] == "x" else "height"]
    found = box_masks(boxes.drop(columns=["width", "height"]), 9)(rows)
    assert found.dtype == np.uint8
    for name, width, height, mask in zip("abc", (50, 31, 90), (40, 77, 20), found, strict=True):
        own = boxes[boxes["image_id"] == name]
        for i in range(9):
            for j in range(9):
                x, y = (j + 0.5) / 9 * width, (i + 0.5) / 9 * height
                inside = (own["x0"] <= x) & (x < own["x1"]) & (own["y0"] <= y) & (y < own["y1"])
                assert mask[i, j] == inside.any()


def test_mask_of_instances_by_hand(tmp_path: Path) -> None:
    """Of 4 x 6 pixels in 2 x 2 cells, the centres lie in rows 1 and 3, columns 1 and 4."""
    instances = np.zeros((4, 6), dtype=np.uint8)
    instances[1, 1], instances[3, 4], instances[0, 4] = 1, 2, 3
    instances[1, 4] = 255  # void
    Image.fromarray(instances).save(tmp_path / "a.png")
    rows = pd.DataFrame({"image_id": ["a"], "width": [6], "height": [4]})
    assert drawn_masks(tmp_path, 2)(rows).tolist() == [[[1, 0], [0, 1]]]


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_mask_that_is_absent_or_broken_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content:
        (tmp_path / "a.png").write_bytes(content)
    rows = pd.DataFrame({"image_id": ["a"], "width": [6], "height": [4]})
    with pytest.raises(InputError, match=r"a.png: not a mask of 6 x 4 pixels"):
        drawn_masks(tmp_path, 2)(rows)


def test_training_images_with_the_truth_are_chosen(small_index: ImageIndex) -> None:
    annotations = truth(("03", 1), ("03", 2), ("05", 1), ("05", 0), ("17", 1), ("22", 1))
    assert chosen_images(small_index, annotations, BOXES, 0)["image_id"].tolist() == ["03", "05", "17"]
    assert chosen_images(small_index, annotations, MASKS, 0)["image_id"].tolist() == ["03", "17"]


def test_few_shots_are_drawn_by_class_and_seed(small_index: ImageIndex, all_truth: pd.DataFrame) -> None:
    few = OracleParams(truth="masks", per_class=3)
    draws = [chosen_images(small_index, all_truth, few, seed) for seed in (0, 0, 1)]
    for rows in draws:
        train = rows[rows["split"] == TRAIN_WEAKSUP]
        assert train["labels"].explode().value_counts().to_dict() == {0: 3, 1: 3}
        assert (rows["split"] == TRAIN_FULLSUP).sum() == 4
        assert not (rows["split"] == TEST).any()
        assert rows["image_id"].is_monotonic_increasing
    ids = [rows["image_id"].tolist() for rows in draws]
    assert ids[0] == ids[1] != ids[2]


def test_class_with_fewer_images_than_shots_gives_all(small_index: ImageIndex, all_truth: pd.DataFrame) -> None:
    rows = chosen_images(small_index, all_truth, OracleParams(truth="boxes", per_class=100), 0)
    assert (rows["split"] == TRAIN_WEAKSUP).sum() == 16


@pytest.mark.parametrize(("params", "annotations"), [(BOXES, truth(("22", 1))), (MASKS, truth(("03", 0), ("17", 1)))])
def test_oracle_without_truth_is_refused(
    small_index: ImageIndex, params: OracleParams, annotations: pd.DataFrame
) -> None:
    with pytest.raises(InputError, match=f"no image of train-weaksup in 'squares' has {params.truth}"):
        chosen_images(small_index, annotations, params, 0)


HIDDEN = "'few-shot' learns from ground truth: its name must begin with 'oracle-'"


@pytest.mark.parametrize("stage", [oracle_masks, oracle_objectness])
def test_name_that_hides_the_oracle_is_refused(stage: ModuleType) -> None:
    with pytest.raises(InputError, match=HIDDEN):
        stage.main("few-shot")


@pytest.mark.parametrize("field", ["learns_from", "starts_from"])
def test_network_that_hides_the_oracle_is_refused(field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"learns_from": "data/localization/targets/oracle-x.h5", "starts_from": "data/models/oracle-x.safetensors"}
    entry = {"method": "wsfl", field: paths[field], **NETWORK}
    Path("params.yaml").write_text(yaml.safe_dump({"seed": 0, "networks": {"few-shot": entry}}))
    with pytest.raises(InputError, match=HIDDEN):
        train_stage.main("few-shot")


@pytest.mark.parametrize(
    "path",
    [
        "data/localization/targets/oracle-lr.h5",
        "data/detection/objectness/oracle-lr.parquet",
        "data/models/oracle-lr.safetensors",
        "data/localization/outputs/oracle-lr/maps.h5",
    ],
)
def test_names_of_oracles_and_of_what_learns_from_them(path: str) -> None:
    refuse_hidden_oracle("oracle-a", path)
    refuse_hidden_oracle("few-shot", "data/localization/targets/pseudo_masks.h5", "my-oracle-x/index.parquet")
    with pytest.raises(InputError, match=HIDDEN):
        refuse_hidden_oracle("few-shot", "data/localization/index.parquet", path)


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_oracle_learns_from_its_images_and_maps_all(
    kind: str, small_index: ImageIndex, all_truth: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = Path("data/localization")
    write_index(data / "index.parquet", small_index)
    write_annotations(data / "truth" / "annotations.parquet", all_truth)
    (data / "truth" / "masks").mkdir()
    drawn = np.zeros((48, 64), dtype=np.uint8)
    drawn[4:36, 8:40] = 1
    for name in small_index.table["image_id"]:
        Image.fromarray(drawn).save(data / "truth" / "masks" / f"{name}.png")
    entry = {"method": "wsfl", "learns_from": "data/localization/targets/oracle-x.h5", **NETWORK}
    masks = {"truth": kind, "resolution": 8, "per_class": 2}
    params = {"oracle_masks": {"oracle-x": masks}, "networks": {"oracle-x": entry}}
    Path("params.yaml").write_text(yaml.safe_dump({"preset": "test", "seed": 0, "inference": {}, **params}))
    oracle_masks.main("oracle-x")
    with MapStore(data / "targets/oracle-x.h5") as targets:
        assert targets.kind is Kind.MASK
        assert len(targets) == 2 * 2 + 4
        expected = np.zeros((8, 8))
        expected[1:6, 1:5] = 1
        assert (targets[:] == expected).all()
        ids = targets.image_ids.tolist()
    assert images_with_maps(small_index, data / "targets/oracle-x.h5").table["image_id"].tolist() == ids
    train_stage.main("oracle-x")
    assert len(pd.read_csv("data/models/loss-oracle-x.csv").dropna()) == 1
    maps_stage.main("oracle-x", "localization", "data/localization/index.parquet")
    with MapStore(data / "outputs/oracle-x/maps.h5") as maps:
        assert len(maps) == 24
