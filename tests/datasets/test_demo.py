"""The embedded demo: assets, composition, COCO output."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from wsol_core.core.boxes import from_xywh, iou
from wsol_core.core.errors import InputError
from wsol_core.data.index import SPLITS
from wsol_core.datasets import composition
from wsol_core.datasets.demo import encode_rle, render_background, render_set, tight_box
from wsol_core.datasets.scenes import (
    ENLARGEMENT,
    DemoParams,
    SetParams,
    compose,
    read_assets,
    scale_for,
    splits_of_assets,
)

ASSETS = Path(__file__).parents[2] / "data" / "demo"
CLASSES = ("bird", "mammal", "fish", "fruit", "vegetable", "vehicle")
LOCALIZATION = SetParams(
    classes=CLASSES, train_weaksup=5, train_fullsup=0, test=3, side=96, objects=(1, 1), extent=(0.25, 0.8)
)
DETECTION = SetParams(
    classes=(*CLASSES, "flower"), train_weaksup=3, train_fullsup=1, test=2, side=128, objects=(1, 5), extent=(0.08, 0.6)
)
DEMO = DemoParams(
    seed=3, jpeg_quality=88, visible=0.6, clutter=0.5, backgrounds=2, localization=LOCALIZATION, detection=DETECTION
)


def render_all(demo: DemoParams, output: Path) -> None:
    for name in ("localization", "detection"):
        render_set(name, ASSETS, demo, output / name)
    render_background(ASSETS, demo, output / "background")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSOL_WORKERS", "1")
        render_all(DEMO, folder)
    return folder


def digests(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def scenes(params, number, split="test"):
    assets = read_assets(ASSETS, (split,), params)
    for i in range(number):
        yield compose(np.random.default_rng([9, i]), assets, params, DEMO, i % len(params.classes))


def decode_rle(rle):
    values = np.repeat(np.arange(len(rle["counts"])) % 2, rle["counts"])
    return values.reshape(rle["size"][::-1]).T.astype(bool)


def test_assets_table_lists_every_file_once():
    table = pd.read_csv(ASSETS / "assets.csv")
    files = [str(f.relative_to(ASSETS).as_posix()) for f in ASSETS.rglob("*") if f.suffix in {".png", ".jpg"}]
    assert sorted(files) == sorted(table["file"])
    assert set(table["split"]) == set(SPLITS)
    assert sum(f.stat().st_size for f in ASSETS.rglob("*") if f.is_file()) < 12e6


def test_no_picture_stands_in_two_splits():
    table = pd.read_csv(ASSETS / "assets.csv")
    digest = [hashlib.sha256((ASSETS / file).read_bytes()).hexdigest() for file in table["file"]]
    assert table.groupby(digest)["split"].nunique().max() == 1
    stems = (
        table["file"].str.replace(r"_?\d+(?=\.)", "", regex=True).where(table["class"] != "background", table["file"])
    )
    assert table.groupby(stems)["split"].nunique().max() == 1


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("side", [256, 400])
def test_every_split_serves_the_demo(split, side):
    extent = {256: 0.25, 400: 0.08}[side]
    params = DETECTION.model_copy(update={"side": side, "extent": (extent, 0.8)})
    assets = read_assets(ASSETS, (split,), params)
    for cutouts in assets.cutouts:
        assert all(max(c.shape[:2]) * ENLARGEMENT >= extent * side for c in cutouts)


def test_same_bytes_for_any_number_of_workers(rendered, tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_WORKERS", "2")
    render_all(DEMO, tmp_path)
    assert digests(tmp_path) == digests(rendered)


def test_a_longer_split_begins_with_the_shorter_one(rendered, tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_WORKERS", "1")
    longer = DEMO.model_copy(update={"localization": LOCALIZATION.model_copy(update={"test": 4}), "backgrounds": 0})
    render_all(longer, tmp_path)
    before, after = digests(rendered), digests(tmp_path)
    images = [name for name in before if name.startswith("localization/images")]
    assert [before[name] for name in images] == [after[name] for name in images]


def test_coco_files(rendered):
    assert not (rendered / "localization" / "train-fullsup.json").exists()
    assert len(list((rendered / "background").glob("*.jpg"))) == 2
    for name, params in (("localization", LOCALIZATION), ("detection", DETECTION)):
        for split in (s for s in SPLITS if params.count(s)):
            content = json.loads((rendered / name / f"{split}.json").read_text())
            assert len(content["images"]) == params.count(split)
            assert [c["name"] for c in content["categories"]] == list(params.classes)
            assert {a["image_id"] for a in content["annotations"]} == {i["id"] for i in content["images"]}
            sizes = {i["id"]: (i["height"], i["width"]) for i in content["images"]}
            for image in content["images"]:
                picture = composition.read_picture(rendered / name / "images" / image["file_name"])
                assert picture.shape[:2] == sizes[image["id"]]
            for annotation in content["annotations"]:
                mask = decode_rle(annotation["segmentation"])
                assert mask.shape == sizes[annotation["image_id"]]
                assert tight_box(mask) == annotation["bbox"]
                assert mask.sum() == annotation["area"]


@pytest.mark.parametrize(
    ("mask", "counts"),
    [
        ([[0, 1], [1, 1]], [1, 3]),
        ([[1, 0]], [0, 1, 1]),
        ([[1]], [0, 1]),
        ([[0, 0]], [2]),
        ([[1, 0], [0, 1]], [0, 1, 2, 1]),
    ],
)
def test_rle_by_hand(mask, counts):
    rle = encode_rle(np.array(mask, dtype=bool))
    assert rle["counts"] == counts
    assert (decode_rle(rle) == np.array(mask, dtype=bool)).all()


def test_rle_and_box_of_random_masks():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random(rng.integers(1, 9, 2)) < 0.3
        mask[rng.integers(mask.shape[0]), rng.integers(mask.shape[1])] = True
        assert (decode_rle(encode_rle(mask)) == mask).all()
        x, y, w, h = tight_box(mask)
        inside = mask[y : y + h, x : x + w]
        assert inside.sum() == mask.sum()
        assert inside[[0, -1]].any(1).all()
        assert inside[:, [0, -1]].any(0).all()


def test_enlargement_is_bounded():
    cutout = np.ones((20, 10, 4), dtype=np.float32)
    assert scale_for(cutout, 0, 200, 256, 256) == ENLARGEMENT
    assert scale_for(cutout, 0, 10, 256, 256) == pytest.approx(0.5)
    assert scale_for(cutout, 90, 100, 16, 256) == pytest.approx(0.95 * 16 / 20)
    longest = max(max(c.shape[:2]) for c in read_assets(ASSETS, ("test",), DETECTION).cutouts[6])
    assert longest <= 320


@pytest.mark.parametrize("angle", [0, 30, -75, 180])
def test_extent_is_that_of_the_turned_cutout(angle):
    cutout = composition.read_cutout(ASSETS / "cutouts" / "vehicle" / "beetle.png")
    solid = composition.turn(cutout, angle, 1)[..., 3] > composition.SOLID
    assert np.abs(composition.extent(cutout, angle) - tight_box(solid)[2:]).max() <= 2


@pytest.mark.parametrize("corner", [(0, 0), (-2, 1), (3, -1), (4, 3)])
def test_spread_cuts_what_hangs_over(corner):
    layer = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)
    frame = composition.spread(layer, corner[0], corner[1], width=5, height=4)
    for y, x in np.ndindex(4, 5):
        row, column = y - corner[1], x - corner[0]
        inside = 0 <= row < 2 and 0 <= column < 3
        assert (frame[y, x] == (layer[row, column] if inside else 0)).all()


def test_objects_vary_in_size_and_a_centre_box_does_poorly():
    boxes = []
    for scene in scenes(LOCALIZATION.model_copy(update={"side": 256}), 100):
        height, width = scene.image.shape[:2]
        assert len(scene.masks) == 1
        boxes.append(from_xywh(tight_box(scene.masks[0]))[0] / np.array([width, height] * 2, dtype=np.float32))
        assert 0.15 < max(tight_box(scene.masks[0])[2:]) / 256 < 0.85
    sides = np.arange(0.2, 1.01, 0.1)
    centre = np.array([[0.5 - w / 2, 0.5 - h / 2, 0.5 + w / 2, 0.5 + h / 2] for w in sides for h in sides], dtype="f4")
    right = iou(np.stack(boxes), centre) > 0.5
    assert right.mean(0).max() < 0.45
    extents = np.ptp(np.stack(boxes).reshape(-1, 2, 2), axis=1).max(1)
    assert np.quantile(extents, 0.9) > 1.8 * np.quantile(extents, 0.1)


def test_detection_has_one_to_five_objects_of_several_classes():
    found = list(scenes(DETECTION.model_copy(update={"side": 256}), 40))
    assert {len(scene.masks) for scene in found} == {1, 2, 3, 4, 5}
    assert {label for scene in found for label in scene.labels} == set(range(7))
    assert max(scene.masks.sum(0).max() for scene in found) == 1
    assert min(scene.masks.sum((1, 2)).min() for scene in found) > 0


def test_background_alone_has_no_object():
    scene = compose(np.random.default_rng(0), read_assets(ASSETS, ("test",), LOCALIZATION), LOCALIZATION, DEMO, None)
    assert scene.masks.shape == (0, *scene.image.shape[:2])
    assert scene.image.std() > 0


def test_unusable_parameters():
    with pytest.raises(InputError, match="no cut-out of 'insect'"):
        read_assets(ASSETS, ("test",), LOCALIZATION.model_copy(update={"classes": ("insect",)}))
    with pytest.raises(InputError, match="no cut-out of 'fish' in test has"):
        read_assets(ASSETS, ("test",), LOCALIZATION.model_copy(update={"classes": ("fish",), "side": 4000}))
    with pytest.raises(ValidationError, match="fewest"):
        SetParams.model_validate({**LOCALIZATION.model_dump(), "extent": (0.5, 0.2)})
    with pytest.raises(InputError, match=r"missing\.png: missing"):
        composition.read_cutout(Path("missing.png"))


def test_rendering_needs_no_torch():
    code = "import sys, stages.render_demo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ASSETS.parent.parent).returncode == 0


def test_both_training_splits_of_localization_are_composed_of_the_same_assets():
    both = ("train-weaksup", "train-fullsup")
    assert (
        splits_of_assets("localization", "train-weaksup") == splits_of_assets("localization", "train-fullsup") == both
    )
    assert splits_of_assets("localization", "test") == ("test",)
    assert [splits_of_assets("detection", split) for split in SPLITS] == [(split,) for split in SPLITS]
    table = pd.read_csv(ASSETS / "assets.csv")
    alone = [len(read_assets(ASSETS, (split,), LOCALIZATION).places) for split in both]
    assert len(read_assets(ASSETS, both, LOCALIZATION).places) == sum(alone) > max(alone)
    assert sum(alone) == (table["split"].isin(both) & (table["class"] == "background")).sum()
