"""Prediction: the same maps and boxes as the pipeline's, the exported file, masks, and what is written of images."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from stages import localize, maps
from tests import tiny_networks
from tests.commands import error, run
from tests.tiny_backbone import use_tiny_backbone
from wsol_core.core.boxes import Boxes
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table
from wsol_core.core.map_store import MapStore
from wsol_core.core.regions import map_box, map_boxes
from wsol_core.data.index import ImageIndex
from wsol_core.prediction.masks import instance_mask
from wsol_core.prediction.model_file import read_card, read_metadata
from wsol_core.prediction.predictor import Predictor
from wsol_core.prediction.sources import find_images
from wsol_core.prediction.workspace import find_method, trained_methods


@pytest.fixture
def workspace(tmp_path: Path, small_index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setenv("WSOL_DEVICE", "cpu")
    use_tiny_backbone(monkeypatch)
    return small_index


def paths(index: ImageIndex) -> list[Path]:
    return [index.root / path for path in index.table["path"]]


# The same as the pipeline


METHODS = ("foreground", "segmentation-foreground", "cam", "psol", "fam", "bc", "features", "bcct", "joint", "sec")
"""Networks whose maps need no label."""


def test_maps_are_those_that_the_stage_stores(workspace: ImageIndex, tmp_path: Path) -> None:
    tiny_networks.build(tmp_path, workspace)
    for method in METHODS:
        folder = "detection" if method == "sec" else "localization"
        maps.main(method, folder, f"data/{folder}/index.parquet")
        predictor = Predictor.of_method(method, device="cpu", threshold=0.5)
        seen = predictor.look([predictor.squash(path) for path in paths(workspace)[:4]])
        with MapStore(Path(f"data/{folder}/outputs/{method}/maps.h5")) as store:
            stored = np.stack([store.find(name) for name in workspace.table["image_id"][:4]])  # type: ignore[misc]
        assert stored.std(axis=(1, 2)).min() > 0, method
        np.testing.assert_allclose(np.stack([each.score_map for each in seen]), stored, atol=1e-3, err_msg=method)


def test_a_map_that_needs_a_label_is_that_of_the_predicted_class(workspace: ImageIndex, tmp_path: Path) -> None:
    tiny_networks.build(tmp_path, workspace, ["labelled", "one", "two"])
    for method in ("labelled", "one", "two"):
        maps.main(method, "localization", "data/localization/index.parquet")
        predictor, checked = Predictor.of_method(method, device="cpu"), 0
        with MapStore(Path(f"data/localization/outputs/{method}/maps.h5")) as store:
            for row in workspace.table.itertuples():
                prediction = predictor.predict(workspace.root / str(row.path))
                assert prediction.label in workspace.classes
                label = workspace.classes.index(prediction.label)
                assert prediction.probability is not None
                assert 0 <= prediction.probability <= 1
                stored = store.find(str(row.image_id), label)
                if stored is not None:
                    np.testing.assert_allclose(prediction.score_map, stored, atol=1e-3)
                checked += stored is not None
        assert checked


def test_boxes_are_those_that_localize_stores(workspace: ImageIndex, tmp_path: Path) -> None:
    tiny_networks.build(tmp_path, workspace, ["foreground"])
    maps.main("foreground", "localization", "data/localization/index.parquet")
    localize.main("foreground")
    table = read_table(Path("data/localization/boxes/foreground.parquet"))[0]
    predictor = Predictor.of_method("foreground", device="cpu")
    for path, stored in zip(paths(workspace), table[["x0", "y0", "x1", "y1"]].to_numpy(), strict=True):
        np.testing.assert_allclose(predictor.boxes(path), stored[None], atol=1e-3)


def test_an_exported_file_does_without_the_workspace(
    workspace: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_networks.build(tmp_path, workspace, ["cam", "bcct"])
    before = {
        method: Predictor.of_method(method, device="cpu").predict(paths(workspace)[0]) for method in ("cam", "bcct")
    }
    for method in before:
        assert run("export", "model", "--method", method, "--out", f"{method}.safetensors").exit_code == 0
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    for method, expected in before.items():
        found = Predictor.load(f"../{method}.safetensors", device="cpu").predict(paths(workspace)[0])
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.score_map, expected.score_map)
        assert (found.label, found.probability) == (expected.label, expected.probability)
    card = read_card(tmp_path / "cam.safetensors")
    assert (card.method, card.threshold, card.scale, card.classes) == ("cam", 0.5, "value", ("red", "green"))


def test_the_scale_of_a_threshold_goes_along(workspace: ImageIndex, tmp_path: Path) -> None:
    tiny_networks.build(tmp_path, workspace, ["cam", "foreground"])
    tiny_networks.write_threshold(tmp_path, "foreground", 0.5, "otsu")
    maps.main("foreground", "localization", "data/localization/index.parquet")
    localize.main("foreground")
    table = read_table(Path("data/localization/boxes/foreground.parquet"))[0]
    assert run("export", "model", "--method", "foreground", "--out", "model.safetensors").exit_code == 0
    for predictor in (Predictor.of_method("foreground", "cpu"), Predictor.load("model.safetensors", "cpu")):
        assert (predictor.card.threshold, predictor.card.scale) == (0.5, "otsu")
        found = [predictor.boxes(path)[0] for path in paths(workspace)]
        np.testing.assert_allclose(found, table[["x0", "y0", "x1", "y1"]].to_numpy(), atol=1e-3)
    assert Predictor.of_method("foreground", "cpu", threshold=0.4).card.scale == "otsu"
    Path("data/localization/thresholds/cam.json").unlink()
    assert Predictor.of_method("cam", "cpu", threshold=0.4).card.scale == "value"


def test_an_exported_file_of_another_version_is_refused(workspace: ImageIndex, tmp_path: Path) -> None:
    tiny_networks.build(tmp_path, workspace, ["cam"])
    assert run("export", "model", "--method", "cam", "--out", "new.safetensors").exit_code == 0
    about = read_metadata(Path("new.safetensors"))
    del about["card"]["version"]
    save_file(load_file("new.safetensors"), "old.safetensors", {"wsol": json.dumps(about)})
    line = error("predict", paths(workspace)[0], "--model", "old.safetensors", "--out", "out")
    assert "old.safetensors: an exported model of format 1, not 2; export it again" in line


def test_the_same_export_has_the_same_bytes(workspace: ImageIndex, tmp_path: Path) -> None:
    tiny_networks.build(tmp_path, workspace, ["cam"])
    for name in ("a", "b"):
        assert run("export", "model", "--method", "cam", "--out", f"{name}.safetensors").exit_code == 0
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


def test_paths_pictures_and_arrays_are_alike(workspace: ImageIndex, tmp_path: Path) -> None:
    tiny_networks.build(tmp_path, workspace, ["foreground"])
    predictor = Predictor.of_method("foreground", device="cpu")
    path = paths(workspace)[3]
    expected = predictor.boxes(str(path))
    with Image.open(path) as picture:
        np.testing.assert_array_equal(predictor.boxes(picture), expected)
        np.testing.assert_array_equal(predictor.boxes(np.asarray(picture)), expected)
        bad: list[Any] = [np.asarray(picture)[:, :, 0], np.asarray(picture) / 255, np.empty((0, 4, 3), np.uint8)]
        for wrong in bad:
            with pytest.raises(InputError, match=r"\(H, W, 3\) uint8 RGB"):
                predictor.boxes(wrong)


# Bad input


def test_what_cannot_be_predicted_is_said(workspace: ImageIndex, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run from the project's root"):
        find_method("foreground")
    tiny_networks.build(tmp_path, workspace, ["foreground", "cam"])
    with pytest.raises(InputError, match="did you mean 'foreground'"):
        find_method("foregroud")
    with pytest.raises(InputError, match="'fam' is not trained yet"):
        find_method("fam")
    Path("data/localization/thresholds/cam.json").unlink()
    with pytest.raises(InputError, match="give --threshold"):
        find_method("cam")
    assert find_method("cam", 0.25)[1].threshold == 0.25
    for threshold in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match=r"must lie in \[0, 1\)"):
            find_method("cam", threshold)
    with pytest.raises(InputError, match="not an exported model; write one with"):
        Predictor.load("data/models/foreground.safetensors")
    Path("text.safetensors").write_text("no weights")
    with pytest.raises(InputError, match="not a readable model"):
        Predictor.load("text.safetensors")
    with pytest.raises(InputError, match="--device abacus"):
        Predictor.of_method("foreground", device="abacus")


def test_a_checkpoint_without_a_method_is_refused(workspace: ImageIndex, tmp_path: Path) -> None:
    tiny_networks.build(tmp_path, workspace, ["cam"])
    path = Path("data/models/cam.safetensors")
    tensors, about = load_file(path), read_metadata(path)
    del about["config"]["method"]
    save_file(tensors, path, {"wsol": json.dumps(about)})
    with pytest.raises(InputError, match=r"cam\.safetensors: names no method.*train it again"):
        Predictor.of_method("cam", device="cpu")


def test_a_classifier_has_no_maps(workspace: ImageIndex, tmp_path: Path) -> None:
    tiny_networks.build(tmp_path, workspace, ["classifier"])
    with pytest.raises(InputError, match="a classifier has no maps"):
        find_method("classifier")


def test_methods_are_the_networks_of_the_parameters(workspace: ImageIndex, tmp_path: Path) -> None:
    tiny_networks.build(tmp_path, workspace, [])
    assert set(trained_methods()) == set(tiny_networks.ENTRIES)


def test_sources_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a/x.png", "a/sub/y.JPG", "a/notes.txt", "a/.hidden.png", "a/out/masks/x.png", "b/x.jpg", "c/z.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path / "a", tmp_path / "c/z.txt"], tmp_path / "a/out")
    assert found.passed_over == []
    assert [(source.name, source.path.relative_to(tmp_path).as_posix()) for source in found.sources] == [
        ("sub/y", "a/sub/y.JPG"), ("x", "a/x.png"), ("z", "c/z.txt"),
    ]  # fmt: skip
    assert len(find_images([tmp_path / "a/x.png", tmp_path / "a/x.png"], tmp_path / "out").sources) == 1
    for places, message in ((["a", "b"], "have one name, 'x'"), (["c"], "no image in it"), (["d"], "no such file")):
        with pytest.raises(InputError, match=message):
            find_images([tmp_path / place for place in places], tmp_path / "a/out")


def test_images_are_known_by_their_bytes_and_what_is_passed_over_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "photos").mkdir()
    for place in ("store/y", "photos/x.jfif"):
        Image.new("RGB", (4, 4)).save(tmp_path / place, "JPEG")
    (tmp_path / "photos/linked").symlink_to(tmp_path / "store")
    (tmp_path / "photos/gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "photos/out.jpg").symlink_to(tmp_path / "store/y")
    os.mkfifo(tmp_path / "photos/queue.png")
    found = find_images([tmp_path / "photos"], tmp_path / "out")
    assert [source.name for source in found.sources] == ["out", "x"]
    assert [(path.name, reason) for path, reason in found.passed_over] == [
        ("gone.jpg", "link to nothing"),
        ("linked", "linked folder, not followed (see follow_links)"),
        ("queue.png", "not a regular file"),
    ]
    followed = find_images([tmp_path / "photos"], tmp_path / "out", follow_links=True)
    assert [source.name for source in followed.sources] == ["linked/y", "out", "x"]


# Masks


def blobs() -> np.ndarray:
    """Two objects on a grid of 16: rows 2 to 8 at .9, and a smaller one at .8 in the corner."""
    score_map = np.zeros((16, 16), np.float32)
    score_map[2:9, 1:6] = 0.9
    score_map[12:16, 11:16] = 0.8
    return score_map


def test_masks_number_the_boxes_and_stay_in_them() -> None:
    boxes, _ = map_boxes(blobs(), 0.5, 200, 100, 64)
    mask = instance_mask(blobs(), boxes, 200, 100, 0.5, 64)
    assert mask.shape == (100, 200)
    assert np.unique(mask).tolist() == [0, 1, 2]
    for instance, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        rows, columns = np.nonzero(mask == instance)
        bounds = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (np.abs(bounds - [x0, y0, x1, y1]) <= np.array([200, 100, 200, 100]) / 64 + 1).all()
        assert len(rows) > 0.8 * (x1 - x0) * (y1 - y0)
    one = map_box(blobs(), 0.5, 200, 100, 64)[None]
    np.testing.assert_array_equal(instance_mask(blobs(), one, 200, 100, 0.5, 64), mask == 1)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0), (0.5, 0), (1.0, 1)])
def test_masks_of_constant_maps(value: float, expected: int) -> None:
    score_map = np.full((3, 5), value, np.float32)
    box: Boxes = map_box(score_map, 0.5, 7, 1, 8)[None]
    np.testing.assert_array_equal(box, [[0, 0, 7, 1]])
    mask = instance_mask(score_map, box, 7, 1, 0.5, 8)
    np.testing.assert_array_equal(mask, np.full((1, 7), expected))


# The command


@pytest.fixture
def photos(workspace: ImageIndex, tmp_path: Path) -> Path:
    tiny_networks.build(tmp_path, workspace, ["labelled"])
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for path, name in zip(paths(workspace), ("a.png", "b.png", "sub/c.png"), strict=False):
        shutil.copy(path, folder / name)
    Image.open(folder / "b.png").resize((300, 31)).save(folder / "b.png")
    return folder


def test_everything_is_written_of_every_image(photos: Path) -> None:
    done = run("predict", photos, "--method", "labelled", "--out", "out", "--batch", 2, "--json", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert {key: summary[key] for key in ("images", "done", "done_before", "failed")} == {
        "images": 3, "done": 3, "done_before": 0, "failed": [],
    }  # fmt: skip
    content = json.loads(Path("out/predictions.json").read_text())
    assert [image["name"] for image in content["images"]] == ["a", "b", "sub/c"]
    predictor = Predictor.of_method("labelled", device="cpu")
    for image in content["images"]:
        found = predictor.predict(image["image"])
        np.testing.assert_allclose([entry["box"] for entry in image["boxes"]], found.boxes, atol=1e-3)
        assert (image["label"], image["threshold"], image["method"]) == (found.label, 0.5, "labelled")
        with Image.open(Path("out", image["mask"])) as mask, Image.open(Path("out", image["overlay"])) as overlay:
            np.testing.assert_array_equal(np.asarray(mask), found.mask)
            assert mask.size == overlay.size == (image["width"], image["height"])
    assert (content["images"][1]["width"], content["images"][1]["height"]) == (300, 31)
    assert not list(Path("out").rglob("*.tmp"))
    assert run("predict", photos, "--method", "labelled", "--out", "out").stdout == ""


def test_done_images_are_not_done_again(photos: Path) -> None:
    words = ("predict", photos, "--method", "labelled", "--out", "out", "--json")
    assert run(*words).exit_code == 0
    old = Path("out/images/a.json").stat().st_mtime_ns
    Path("out/images/b.json").unlink()
    Path("out/images/sub/c.json").write_text("{")
    assert "out/images/sub/c.json: was changed since" in error(*words)
    assert json.loads(run(*words, "--overwrite").stdout)["done_before"] == 1
    assert Path("out/images/a.json").stat().st_mtime_ns == old
    later = old + 10**9
    os.utime(photos / "a.png", ns=(later, later))
    assert json.loads(run(*words).stdout)["done_before"] == 2


def test_other_settings_and_other_peoples_files_are_kept(photos: Path) -> None:
    words = ("predict", photos, "--method", "labelled", "--out", "out")
    assert run(*words).exit_code == 0
    assert "other settings" in error(*words, "--threshold", 0.25)
    assert json.loads(Path("out/settings.json").read_text())["threshold"] == 0.5
    assert json.loads(run(*words, "--threshold", 0.25, "--overwrite", "--json").stdout)["done_before"] == 0
    Path("mine").mkdir()
    Path("mine/thesis.txt").touch()
    Path("mine/masks").mkdir()
    Path("mine/masks/a.png").write_text("mine")
    words = ("predict", photos, "--method", "labelled", "--out", "mine")
    assert "mine/masks/a.png: exists and was not written by wsol" in error(*words)
    assert len(list(Path("mine").rglob("*"))) == 3
    Path("mine/masks/a.png").rename("mine/masks/mine.png")
    assert run(*words).exit_code == 0
    assert run(*words, "--threshold", 0.25, "--overwrite").exit_code == 0
    assert Path("mine/thesis.txt").exists()
    assert Path("mine/masks/mine.png").read_text() == "mine"
    shutil.copy(photos / "a.png", "mine/masks/x.png")
    assert "is an input" in error("predict", "mine/masks/x.png", *words[2:], "--overwrite")
    assert "choose another folder" in error("predict", photos, "--method", "labelled", "--out", photos)
    assert "a file" in error("predict", photos, "--method", "labelled", "--out", "params.yaml")


def test_a_bad_image_is_named_and_the_others_go_on(photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (photos / "empty.png").touch()
    done = run("predict", photos, "--method", "labelled", "--out", "out", "--batch", 1, "--json")
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [str(photos / "broken.jpg"), str(photos / "empty.png")]
    assert all("repro" not in line for line in lines)
    summary = json.loads(done.stdout)
    assert (summary["done"], len(summary["failed"])) == (3, 2)
    assert json.loads(Path("out/predictions.json").read_text())["failed"] == summary["failed"]


def test_one_of_method_and_model_is_asked_for(photos: Path) -> None:
    for words in ((), ("--method", "labelled", "--model", "x.safetensors")):
        assert "give --method NAME" in error("predict", photos, "--out", "out", *words)
    assert "not a readable model" in error("predict", photos, "--out", "out", "--model", "x.safetensors")
    assert "must lie in" in error("predict", photos, "--method", "labelled", "--out", "out", "--threshold", 2)
    assert not Path("out").exists()
