"""The stage `ddt_boxes`: its four files, from stored and from computed features, and what it leaves when it fails."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages import ddt_boxes
from stages import features as features_stage
from tests.limited_disk import limited_disk
from tests.tiny_backbone import use_tiny_backbone
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table
from wsol_core.core.map_store import CLASS_AGNOSTIC, Kind, MapStore
from wsol_core.data.index import TRAIN_FULLSUP, ImageIndex, write_index
from wsol_core.engine.checkpoints import load_checkpoint
from wsol_core.methods.ddt.colocalization import pseudo_box

DATA = Path("data/localization")
OUTPUTS = [
    DATA / "outputs/ddt/maps.h5", DATA / "outputs/ddt-agnostic/maps.h5", DATA / "pseudo_boxes.parquet",
    Path("data/models/ddt.safetensors"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def project(tmp_path: Path, small_index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """The small data set, and a backbone of two levels, (16, 8, 8) and (24, 4, 4) at 32 pixels."""
    use_tiny_backbone(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    write_index(DATA / "index.parquet", small_index)
    return small_index


def run(ddt: dict[str, Any] | None = None, **features: Any) -> None:
    """Both stages: features at two sides, and DDT on the first unless told otherwise."""
    backbone = {"name": "resnet50", "weights": "none"}
    frozen = {"backbone": backbone, "levels": [-2, -1], "side": 32, "views": ["plain", "mirrored"], **features}
    entries = {"small": frozen, "large": frozen | {"side": 48, "views": ["turned", "plain"]}}
    params = {"sees": str(DATA / "features/small.h5"), "otsu": 0.75, **(ddt or {})}
    Path("params.yaml").write_text(yaml.safe_dump({"features": entries, "ddt": params}))
    for name in entries:
        features_stage.main(name)
    ddt_boxes.main()


def digests() -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in OUTPUTS]


BOTH = {"second": str(DATA / "features/large.h5"), "layers": [-1, -2], "resolution": 12}


def test_two_runs_and_computed_features_give_the_same_bytes() -> None:
    run(BOTH)
    expected = digests()
    run(BOTH)
    assert digests() == expected
    for batch in (4, 7):
        run(BOTH, store="never", batch=batch)
        assert digests() == expected


@pytest.mark.parametrize("scope", ["class", "dataset"])
def test_maps_of_every_image_by_both_components_and_boxes_by_the_scope(project: ImageIndex, scope: str) -> None:
    run({"scope": scope})
    table = project.table
    labels = [label for (label,) in table["labels"]]
    boxes, _ = read_table(DATA / "pseudo_boxes.parquet")
    for name, expected, own in (("ddt", labels, "class"), ("ddt-agnostic", [CLASS_AGNOSTIC] * 24, "dataset")):
        with MapStore(DATA / "outputs" / name / "maps.h5") as store:
            assert (store.kind, store.shape) == (Kind.SCORE, (4, 4))
            assert store.image_ids.tolist() == table["image_id"].tolist()
            assert store.labels.tolist() == expected
            assert len({scores.tobytes() for scores in store[:]}) > 20
            found = np.stack([pseudo_box(scores.astype(np.float16), 64, 48) for scores in store[:]])
        assert np.array_equal(found, boxes[list(BOX_COLUMNS)].to_numpy()) == (scope == own)
    assert boxes["image_id"].tolist() == table["image_id"].tolist()
    assert boxes["label"].tolist() == labels
    assert boxes["score"].between(0, 1).all()
    assert boxes["score"].nunique() > 1
    assert (boxes.dtypes["score"], boxes.dtypes["label"]) == (np.float32, np.int32)


def test_the_checkpoint_holds_the_components_of_every_source_and_layer() -> None:
    run(BOTH)
    found = load_checkpoint(OUTPUTS[-1])
    names = {f"{part}.{label}.{source}.{layer}" for part in ("mean", "direction") for label in (-1, 0, 1)
             for source in (0, 1) for layer in (0, 1)}  # fmt: skip
    assert set(found.tensors) == names
    assert found.tensors["mean.0.1.0"].shape == (24,)
    assert found.tensors["direction.-1.0.1"].shape == (16,)
    assert found.config["second"] == BOTH["second"]


def test_images_that_are_not_in_train_weaksup_take_no_part_in_the_components(project: ImageIndex) -> None:
    run()
    tensors = load_checkpoint(OUTPUTS[-1]).tensors
    training = project.split("train-weaksup")
    write_index(DATA / "index.parquet", replace(project, table=training))
    run()
    alone = load_checkpoint(OUTPUTS[-1]).tensors
    for name, tensor in tensors.items():
        np.testing.assert_allclose(alone[name], tensor, atol=1e-5)


def test_a_class_without_training_images_is_one_line(project: ImageIndex) -> None:
    green = project.table["labels"].map(lambda labels: labels == [1])
    table = project.table.assign(split=project.table["split"].mask(green, TRAIN_FULLSUP))
    write_index(DATA / "index.parquet", replace(project, table=table))
    with pytest.raises(InputError, match=r"^class 1: no image in train-weaksup to learn from"):
        run()
    assert not any(path.exists() for path in OUTPUTS)


def test_a_full_disk_is_an_error_and_leaves_nothing_half_written() -> None:
    run()
    before = digests()
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["ddt"] |= {"resolution": 112, "scope": "dataset"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    files = sorted(path for path in Path().rglob("*") if path.is_file())
    with limited_disk(20_000), pytest.raises(OSError, match="File too large"):
        ddt_boxes.main()
    assert sorted(path for path in Path().rglob("*") if path.is_file()) == files
    assert digests() == before
