import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsol_core.cli.app import app

SIDE = 100
OBJECTS = {"a": (10, 20, 60, 90), "b": (30, 30, 70, 70), "c": (0, 0, 50, 50), "d": (5, 40, 95, 95)}
LABELS = {"a": 0, "b": 1, "c": 0, "d": 2}


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def figures(*words: object, out: Path) -> dict:
    code, text = run(*words, "--out", out)
    assert code == 0, text
    return json.loads(out.read_text())


def refused(*words: object) -> str:
    code, text = run(*words)
    assert code == 1
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, text
    return lines[0]


def box_map(box: tuple, inside: float = 1.0) -> np.ndarray:
    score_map = np.zeros((SIDE, SIDE), dtype=np.float32)
    x0, y0, x1, y1 = box
    score_map[y0:y1, x0:x1] = inside
    return score_map


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Four images with a box and a mask each, three classes of names."""
    names = list(OBJECTS)
    annotations = []
    for number, (x0, y0, x1, y1) in enumerate(OBJECTS.values(), start=1):
        annotations.append({
            "id": number, "image_id": number, "category_id": 10 + LABELS[names[number - 1]],
            "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        })  # fmt: skip
    content = {
        "images": [{"id": n, "file_name": f"{x}.jpg", "width": SIDE, "height": SIDE} for n, x in enumerate(names, 1)],
        "annotations": annotations,
        "categories": [{"id": 10 + n, "name": name} for n, name in enumerate(("cat", "cow", "dog"))],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """The perfect maps."""
    folder = tmp_path / "maps"
    folder.mkdir()
    for name, box in OBJECTS.items():
        np.save(folder / f"{name}.npy", box_map(box))
    return folder


def ranked(path: Path, first: dict[str, str]) -> Path:
    rows = [(name, label, 2) for name, label in first.items()] + [(name, "dog", 1) for name in first if name != "d"]
    pd.DataFrame(rows, columns=["image_id", "class", "score"]).to_csv(path, index=False)
    return path


# ---------------------------------------------------------------- localization


def test_perfect_maps_are_perfect(tmp_path, truth, maps):
    classes = ranked(tmp_path / "c.csv", {"a": "cat", "b": "cow", "c": "cat", "d": "dog"})
    words = ("localization", "--maps", maps, "--ground-truth", truth, "--threshold", 0.5, "--classes", classes)
    found = figures(*words, out=tmp_path / "m.json")
    for key in (
        "gt_known", "gt_known_oracle", "top1_loc", "top5_loc", "top1_cls", "top5_cls", "max_box_acc", "max_box_acc_v2",
    ):  # fmt: skip
        assert found[key] == 1, key
    assert found["px_ap"] > 0.95
    assert found["images"] == found["images_with_mask"] == 4
    assert found["images_without_prediction"] == 0
    assert 0 < found["centre_box_oracle"] < 1
    assert 0 < found["max_box_acc_v2_centre"] <= found["max_box_acc_centre"] <= 1
    assert found["gt_known_class_mean"] == 1
    errors, sizes, ious = (pd.read_csv(tmp_path / f"m-{name}.csv") for name in ("errors", "sizes", "iou"))
    assert errors.set_index("error")["share"]["correct"] == 1
    assert sizes["images"].sum() == 4
    assert ious["share"].sum() == pytest.approx(1)
    assert ious["share"][:10].sum() == 0


def test_a_transposed_map_is_called_so(tmp_path, maps):
    images = [{"id": 1, "file_name": "a.jpg", "width": SIDE, "height": SIDE // 2}]
    shown = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30]}]
    content = {"images": images, "annotations": shown, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    for name in ("b", "c", "d"):
        (maps / f"{name}.npy").unlink()
    np.save(maps / "a.npy", np.zeros((SIDE, SIDE // 2)))
    line = refused(
        "localization", "--maps", maps, "--ground-truth", tmp_path / "truth.json", "--out", tmp_path / "m.json"
    )
    assert "transposed: its shape is (100, 50), but the image has 50 rows of 100 pixels" in line
    assert not (tmp_path / "m.json").exists()


def test_bad_boxes_are_counted_and_listed(tmp_path, truth):
    content = json.loads(truth.read_text())
    content["annotations"].append({"id": 9, "image_id": 1, "category_id": 10, "bbox": [5, 5, 0, 5]})
    truth.write_text(json.dumps(content))
    rows = [{"image_id": n, "category_id": 10, "bbox": [5, 5, 30, 30], "score": 0.5} for n in range(1, 5)]
    (tmp_path / "boxes.json").write_text(json.dumps([*rows, rows[0] | {"bbox": [500, 5, 30, 30]}]))
    words = ("detection", "--boxes", tmp_path / "boxes.json", "--ground-truth", truth)
    found = figures(*words, out=tmp_path / "m.json")
    assert (found["objects"], found["objects_left_out"], found["boxes"], found["boxes_left_out"]) == (4, 1, 4, 1)
    listed = pd.read_csv(tmp_path / "m-left_out.csv")
    assert listed[["of", "image_id", "reason"]].to_numpy().tolist() == [
        ["objects", "a", "empty box"], ["boxes", "a", "box outside the image"],
    ]  # fmt: skip


def test_files_stand_beside_the_json_and_come_out_the_same_twice(tmp_path, truth, maps):
    words = ("localization", "--maps", maps, "--ground-truth", truth)
    contents = []
    for folder in ("one", "two"):
        figures(*words, out=tmp_path / folder / "m.json")
        contents.append({path.name: path.read_bytes() for path in sorted((tmp_path / folder).iterdir())})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        "m.json", "m.csv", "m-classes.csv", "m-thresholds.csv", "m-max_box_acc.csv", "m-precision_recall.csv",
        "m-thresholds.png", "m-max_box_acc.png", "m-precision_recall.png", ".wsol-written.jsonl",
    }  # fmt: skip
    with Image.open(tmp_path / "one" / "m-thresholds.png") as picture:
        assert picture.size == (640, 420)
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 3
    table = pd.read_csv(tmp_path / "one" / "m.csv").set_index("figure")["value"]
    assert table["max_box_acc_v2_by_iou.0.5"] == 1


def test_without_a_threshold_there_is_an_oracle_alone_and_the_reason(tmp_path, truth, maps):
    found = figures("localization", "--maps", maps, "--ground-truth", truth, out=tmp_path / "m.json")
    assert found["gt_known"] is None
    assert "--threshold" in found["notes"]["gt_known"]
    assert found["gt_known_oracle"] == 1
    assert found["top1_cls"] is None
    assert "--classes" in found["notes"]["top1_cls"]


def test_an_image_without_a_map_counts_as_wrong(tmp_path, truth, maps):
    (maps / "c.npy").unlink()
    words = ("localization", "--maps", maps, "--ground-truth", truth, "--threshold", 0.5)
    found = figures(*words, out=tmp_path / "m.json")
    assert found["images_without_prediction"] == 1
    for key in ("gt_known", "gt_known_oracle", "max_box_acc", "max_box_acc_v2"):
        assert found[key] == 0.75, key
    assert found["px_ap"] < 0.9


def test_a_threshold_of_ones_own_is_measured_as_it_stands(tmp_path, truth, maps):
    for name, box in OBJECTS.items():
        np.save(maps / f"{name}.npy", np.maximum(box_map(box), box_map((0, 0, SIDE, SIDE), 0.305)))
    shares = {}
    for threshold in (0.304, 0.306):
        words = ("localization", "--maps", maps, "--ground-truth", truth, "--threshold", threshold)
        shares[threshold] = figures(*words, out=tmp_path / "m.json")["gt_known"]
    assert shares == {0.304: 0, 0.306: 1}


def test_top_1_needs_class_and_box(tmp_path, truth, maps):
    np.save(maps / "a.npy", box_map((90, 90, 99, 99)))
    classes = ranked(tmp_path / "c.csv", {"a": "cat", "b": "cat", "d": "dog"})
    words = ("localization", "--maps", maps, "--ground-truth", truth, "--threshold", 0.5, "--classes", classes)
    found = figures(*words, out=tmp_path / "m.json")
    assert found["gt_known"] == 0.75
    assert found["top1_cls"] == 0.5
    assert found["top1_loc"] == 0.25


def test_maps_per_class_are_chosen_by_the_label(tmp_path, truth):
    rows = [(name, label) for name in OBJECTS for label in range(3)]
    maps = [box_map(OBJECTS[name] if label == LABELS[name] else (0, 0, 5, 5)) for name, label in rows]
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["maps"], file["image_id"], file["label"] = np.stack(maps), [r[0] for r in rows], [r[1] for r in rows]
    words = ("localization", "--maps", tmp_path / "maps.h5", "--ground-truth", truth, "--threshold", 0.5)
    assert figures(*words, out=tmp_path / "m.json")["gt_known"] == 1


def test_a_ground_truth_of_masks_alone_gives_pixel_figures_alone(tmp_path, maps):
    root = tmp_path / "metadata"
    root.mkdir()
    for name, box in OBJECTS.items():
        Image.fromarray((box_map(box) * 255).astype(np.uint8)).save(root / f"{name}.png")
    (root / "image_ids.txt").write_text("".join(f"{name}.jpg\n" for name in OBJECTS))
    (root / "class_labels.txt").write_text("".join(f"{name}.jpg,{label}\n" for name, label in LABELS.items()))
    (root / "image_sizes.txt").write_text("".join(f"{name}.jpg,{SIDE},{SIDE}\n" for name in OBJECTS))
    (root / "localization.txt").write_text("".join(f"{name}.jpg,{name}.png,\n" for name in OBJECTS))
    found = figures("localization", "--maps", maps, "--ground-truth", root, out=tmp_path / "m.json")
    assert found["px_ap"] > 0.95
    assert found["max_box_acc"] is None
    assert found["notes"]["max_box_acc"] == "the ground truth has no boxes"
    assert found["images_with_box"] == 0


def test_every_bad_map_gets_one_line(tmp_path, truth, maps):
    words = ("localization", "--maps", maps, "--ground-truth", truth)
    np.save(maps / "stranger.npy", box_map((0, 0, 5, 5)))
    assert "no ground truth for image 'stranger'" in refused(*words)
    (maps / "stranger.npy").unlink()
    np.save(maps / "a.jpg.npy", box_map((0, 0, 5, 5)))
    assert "both maps of image 'a'" in refused(*words)
    (maps / "a.jpg.npy").unlink()
    for content, message in (
        (np.full((3, 3), np.nan), "b.npy: the map has values that are not finite"),
        (np.full((3, 3), 1.5), "[0, 1]"),
        (np.zeros((3, 3, 1)), "(3, 3, 1)"),
    ):
        np.save(maps / "b.npy", content)
        assert message in refused(*words)
    assert "threshold 1: must lie" in refused(*words, "--threshold", 1)
    assert "no ground truth; it may be" in refused("localization", "--maps", maps, "--ground-truth", tmp_path / "no")


def test_a_map_of_no_class_is_refused(tmp_path, truth):
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["maps"], file["image_id"], file["label"] = np.zeros((1, 2, 2)), ["a"], [3]
    for command in ("localization", "detection"):
        line = refused(command, "--maps", tmp_path / "maps.h5", "--ground-truth", truth)
        assert "'a' has a map for 3, which is no class number" in line


# ---------------------------------------------------------------- detection


def coco_boxes(path: Path, rows: list[tuple[str, int, tuple, float]]) -> Path:
    names = {name: number for number, name in enumerate(OBJECTS, start=1)}
    content = [
        {"image_id": names[n], "category_id": 10 + k, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
        for n, k, (x0, y0, x1, y1), score in rows
    ]
    path.write_text(json.dumps(content))
    return path


def test_perfect_boxes_are_perfect(tmp_path, truth):
    boxes = coco_boxes(tmp_path / "b.json", [(name, LABELS[name], box, 0.9) for name, box in OBJECTS.items()])
    found = figures("detection", "--boxes", boxes, "--ground-truth", truth, out=tmp_path / "m.json")
    for key in ("ap_voc07", "ap_voc10", "ap_coco", "corloc", "corloc_class_agnostic"):
        assert found[key] == pytest.approx(1), key
    assert found["proposal_recall"]["iou 0.9"]["1"] == 1
    assert found["point_map"] is None
    assert found["notes"]["point_map"] == "give --maps"
    assert found["images_without_prediction"] == 0
    assert found["centre_box_corloc_class_agnostic"] < 1
    classes = pd.read_csv(tmp_path / "m-classes.csv")
    assert classes["class"].tolist() == ["cat", "cow", "dog"]
    assert classes["objects"].tolist() == [2, 1, 1]


def test_an_image_without_a_box_counts_as_wrong(tmp_path, truth):
    boxes = coco_boxes(tmp_path / "b.json", [("a", 0, OBJECTS["a"], 0.9), ("d", 2, OBJECTS["d"], 0.8)])
    found = figures("detection", "--boxes", boxes, "--ground-truth", truth, out=tmp_path / "m.json")
    assert found["images_without_prediction"] == 2
    assert found["corloc_class_agnostic"] == 0.5
    assert found["corloc"] == pytest.approx((0.5 + 0 + 1) / 3, abs=1e-6)
    assert found["ap_voc10"] == pytest.approx((0.5 + 0 + 1) / 3, abs=1e-6)
    assert found["ap_voc07"] == pytest.approx((6 / 11 + 0 + 1) / 3, abs=1e-6)


def test_a_gain_over_other_boxes_has_its_interval(tmp_path, truth):
    every = coco_boxes(tmp_path / "b.json", [(name, LABELS[name], box, 0.9) for name, box in OBJECTS.items()])
    some = coco_boxes(tmp_path / "s.json", [("a", 0, OBJECTS["a"], 0.9), ("d", 2, OBJECTS["d"], 0.8)])
    words = ("detection", "--ground-truth", truth, "--boxes", every, "--baseline")
    found = figures(*words, some, out=tmp_path / "m.json")
    assert found["baseline_ap_voc07"] == pytest.approx((6 / 11 + 0 + 1) / 3, abs=1e-6)
    assert found["gain"] == pytest.approx(1 - found["baseline_ap_voc07"], abs=1e-5)
    assert 0 <= found["gain_low"] < found["gain"] < found["gain_high"] <= 1
    same = figures(*words, every, out=tmp_path / "m.json")
    assert [same[key] for key in ("gain", "gain_low", "gain_high")] == [0, 0, 0]
    runs = figures(*words[:-1], "--boxes", some, "--baseline", some, out=tmp_path / "m.json")
    assert runs["ap_voc07"] == 1
    assert runs["gain"] == pytest.approx(found["gain"] / 2, abs=1e-6)
    assert runs["gain_low"] == pytest.approx(found["gain_low"] / 2, abs=1e-6)
    assert runs["gain_high"] == pytest.approx(found["gain_high"] / 2, abs=1e-6)
    assert "--baseline without --boxes" in refused("detection", "--ground-truth", truth, "--baseline", some)
    assert "several --boxes" in refused("detection", "--ground-truth", truth, "--boxes", some, "--boxes", every)


def test_no_box_at_all_is_nought(tmp_path, truth):
    boxes = coco_boxes(tmp_path / "b.json", [])
    found = figures("detection", "--boxes", boxes, "--ground-truth", truth, out=tmp_path / "m.json")
    assert found["ap_voc07"] == found["corloc"] == found["corloc_class_agnostic"] == 0
    assert found["images_without_prediction"] == 4


def test_boxes_without_classes_have_no_average_precision(tmp_path, truth):
    from wsol_core.core.files import write_table

    table = pd.DataFrame({"image_id": list(OBJECTS), "score": 1.0, "label": -1})
    table[["x0", "y0", "x1", "y1"]] = np.array(list(OBJECTS.values()), dtype=np.float32)
    write_table(tmp_path / "b.parquet", table)
    words = ("detection", "--boxes", tmp_path / "b.parquet", "--ground-truth", truth)
    found = figures(*words, out=tmp_path / "m.json")
    assert found["corloc_class_agnostic"] == 1
    assert found["ap_voc07"] is None
    assert found["notes"]["ap_voc07"] == "the boxes are class-agnostic"
    write_table(tmp_path / "b.parquet", table.assign(label=[-1, 0, 0, 0]))
    assert "evaluate them apart" in refused(*words)


def test_peaks_of_maps_are_points(tmp_path, truth):
    peaks = []
    for name, (x0, y0, *_) in OBJECTS.items():
        score_map = np.zeros((SIDE, SIDE), dtype=np.float32)
        score_map[y0 + 5, (x0 + 5) if name != "c" else 90] = 1
        peaks.append(score_map)
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["maps"], file["image_id"], file["label"] = np.stack(peaks), list(OBJECTS), list(LABELS.values())
    words = ("detection", "--maps", tmp_path / "maps.h5", "--ground-truth", truth)
    found = figures(*words, out=tmp_path / "m.json")
    assert found["ap_voc07"] is None
    assert 0.5 < found["point_map"] < 1


def test_bad_boxes_get_one_line(tmp_path, truth):
    outside = coco_boxes(tmp_path / "b.json", [("a", 0, (50, 50, 160, 190), 0.9)])
    assert "another convention" in refused("detection", "--boxes", outside, "--ground-truth", truth)
    unknown = coco_boxes(tmp_path / "b.json", [("a", 5, (50, 50, 60, 90), 0.9)])
    assert "unknown class '15'" in refused("detection", "--boxes", unknown, "--ground-truth", truth)
    assert "give --boxes, or --maps" in refused("detection", "--ground-truth", truth)


def test_only_what_is_predicted_counts_where_that_is_asked(tmp_path, truth, maps):
    for name in ("b", "d"):
        (maps / f"{name}.npy").unlink()
    words = ("localization", "--maps", maps, "--ground-truth", truth, "--threshold", 0.5)
    found = figures(*words, out=tmp_path / "m.json")
    assert (found["images"], found["images_without_prediction"], found["gt_known"]) == (4, 2, 0.5)
    assert "images_left_out" not in found
    found = figures(*words, "--only-predicted", out=tmp_path / "m.json")
    assert (found["images"], found["images_without_prediction"], found["gt_known"]) == (2, 0, 1)
    assert found["images_left_out"] == 2
    boxes = coco_boxes(tmp_path / "b.json", [("a", 0, OBJECTS["a"], 0.9), ("c", 0, OBJECTS["c"], 0.9)])
    by_boxes = ("detection", "--boxes", boxes, "--ground-truth", truth, "--baseline", boxes)
    found = figures(*by_boxes, "--only-predicted", out=tmp_path / "m.json")
    assert (found["images"], found["images_left_out"], found["objects"]) == (2, 2, 2)
    assert found["corloc_class_agnostic"] == 1
    (tmp_path / "none.json").write_text("[]")
    nothing = ("detection", "--boxes", tmp_path / "none.json", "--ground-truth", truth)
    assert "nothing is predicted" in refused(*nothing, "--only-predicted")


def test_class_scores_of_images_without_a_map_are_passed_over(tmp_path, truth, maps):
    (maps / "b.npy").unlink()
    classes = ranked(tmp_path / "c.csv", {"a": "cat", "b": "cow", "c": "cow", "d": "dog"})
    words = ("localization", "--maps", maps, "--ground-truth", truth, "--classes", classes, "--only-predicted")
    assert figures(*words, out=tmp_path / "m.json")["top1_cls"] == pytest.approx(2 / 3, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, SIDE, SIDE), (1, 1, SIDE, SIDE)])
def test_leading_dimensions_of_one_go(tmp_path, truth, maps, shape):
    for path in maps.glob("*.npy"):
        np.save(path, np.load(path).reshape(shape))
    words = ("localization", "--maps", maps, "--ground-truth", truth, "--threshold", 0.5)
    assert figures(*words, out=tmp_path / "m.json")["gt_known"] == 1
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["maps"] = np.stack([box_map(box)[None] for box in OBJECTS.values()])
        file["image_id"] = list(OBJECTS)
    words = ("localization", "--maps", tmp_path / "maps.h5", *words[3:])
    assert figures(*words, out=tmp_path / "m.json")["gt_known"] == 1
    np.save(maps / "a.npy", np.zeros((3, SIDE, SIDE), np.float32))
    assert "of shape (3, 100, 100)" in refused("localization", "--maps", maps, "--ground-truth", truth)


def test_unknown_names_are_said_beside_known_ones(tmp_path, truth, maps):
    np.save(maps / "stranger.npy", box_map((0, 0, 5, 5)))
    line = refused("localization", "--maps", maps, "--ground-truth", truth)
    assert "image 'stranger' (1 such); names must be those of the ground truth's images: 'a', 'b', 'c', ..." in line
    boxes = tmp_path / "b.json"
    boxes.write_text(json.dumps([{"image_id": 0, "category_id": 10, "bbox": [1, 1, 5, 5], "score": 1}]))
    line = refused("detection", "--boxes", boxes, "--ground-truth", truth)
    assert "image '0' (1 such)" in line
    assert line.endswith("1, 2, 3, ...")


def test_class_numbers_from_0_are_explained(tmp_path, truth):
    boxes = tmp_path / "b.json"
    boxes.write_text(json.dumps([{"image_id": 1, "category_id": 0, "bbox": [1, 1, 5, 5], "score": 1}]))
    line = refused("detection", "--boxes", boxes, "--ground-truth", truth)
    assert "unknown class '0'; the ground truth numbers its classes 10, 11, 12; numbers that count from 0 are" in line


def test_ground_truth_with_ids_as_text(tmp_path, truth):
    content = json.loads(truth.read_text())
    for entry in content["images"] + content["categories"]:
        entry["id"] = f"x{entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"], entry["category_id"] = f"x{entry['image_id']}", f"x{entry['category_id']}"
    truth.write_text(json.dumps(content))
    box = {"image_id": "x1", "category_id": "x10", "bbox": [10, 20, 50, 70], "score": 1}
    (tmp_path / "b.json").write_text(json.dumps([box]))
    found = figures("detection", "--boxes", tmp_path / "b.json", "--ground-truth", truth, out=tmp_path / "m.json")
    assert found["corloc_class_agnostic"] == 0.25


# ---------------------------------------------------------------- segmentation


def label_masks(folder: Path, masks: dict[str, list[list[int]]]) -> Path:
    folder.mkdir()
    for name, rows in masks.items():
        Image.fromarray(np.array(rows, dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def true_masks(tmp_path: Path) -> Path:
    return label_masks(tmp_path / "true", {"a": [[0, 0, 1, 255]], "b": [[2, 2, 0, 0]]})


def test_miou_by_hand(tmp_path, true_masks):
    masks = label_masks(tmp_path / "masks", {"a": [[0, 1, 1, 0]], "b": [[2, 0, 0, 0]]})
    found = figures("segmentation", "--masks", masks, "--ground-truth", true_masks, out=tmp_path / "m.json")
    assert found["miou"] == pytest.approx((3 / 5 + 1 / 2 + 1 / 2) / 3, abs=1e-6)
    assert found["saliency_ap"] is None
    assert pd.read_csv(tmp_path / "m-classes.csv")["iou"].tolist() == [0.6, 0.5, 0.5]


def test_an_image_without_a_mask_is_wrong_everywhere(tmp_path, true_masks):
    masks = label_masks(tmp_path / "masks", {"a": [[0, 0, 1, 0]]})
    found = figures("segmentation", "--masks", masks, "--ground-truth", true_masks, out=tmp_path / "m.json")
    assert found["images_without_prediction"] == 1
    assert found["miou"] == pytest.approx((2 / 4 + 1 + 0) / 3, abs=1e-6)
    words = ("segmentation", "--masks", masks, "--ground-truth", true_masks, "--only-predicted")
    found = figures(*words, out=tmp_path / "m.json")
    assert (found["images"], found["images_without_prediction"], found["images_left_out"]) == (1, 0, 1)
    assert found["miou"] == 1


def test_saliency_maps_of_classes(tmp_path, true_masks):
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["maps"] = np.array([[[0.1, 0.2, 0.9, 1]], [[0.9, 0.8, 0, 0]], [[1, 1, 1, 1]]])
        file["image_id"], file["label"] = ["a", "b", "b"], [0, 1, 0]
    (tmp_path / "names.txt").write_text("background\ncat\ndog\n")
    words = ("segmentation", "--maps", tmp_path / "maps.h5", "--ground-truth", true_masks)
    found = figures(*words, "--classes", tmp_path / "names.txt", out=tmp_path / "m.json")
    assert found["saliency_ap"] == 1
    assert found["saliency_maps"] == 2
    assert found["miou"] is None
    assert pd.read_csv(tmp_path / "m-classes.csv")["class"].tolist() == ["background", "cat", "dog"]


def test_seeds_by_hand(tmp_path, true_masks):
    seeds = label_masks(tmp_path / "seeds", {"a": [[0, 1, 1, 1]]})
    found = figures("segmentation", "--seeds", seeds, "--ground-truth", true_masks, out=tmp_path / "m.json")
    assert found["seed_precision"] == pytest.approx((1 + 1 / 2) / 2, abs=1e-6)
    assert found["seed_recall"] == pytest.approx((1 / 4 + 1 + 0) / 3, abs=1e-6)
    assert found["miou"] is None


def test_bad_masks_get_one_line(tmp_path, true_masks):
    for number, (masks, message) in enumerate((
        ({"c": [[0]]}, "no ground truth for image 'c'"),
        ({"a": [[0, 0, 1]]}, "3x1 pixels, but the ground truth has 4x1"),
        ({"a": [[0, 0, 7, 0]]}, "holds class 7, but classes go from 0 to 2"),
        ({"a": [[255, 0, 0, 0]]}, "255"),
    )):  # fmt: skip
        folder = label_masks(tmp_path / str(number), masks)
        assert message in refused("segmentation", "--masks", folder, "--ground-truth", true_masks)
    assert "give --masks, or --maps, or --seeds" in refused("segmentation", "--ground-truth", true_masks)
    (tmp_path / "names.txt").write_text("background\ncat\n")
    words = ("segmentation", "--masks", true_masks, "--ground-truth", true_masks)
    assert "holds class 2" in refused(*words, "--classes", tmp_path / "names.txt")


# ---------------------------------------------------------------- files


def test_an_input_is_never_overwritten(tmp_path, truth, maps, true_masks):
    boxes = coco_boxes(tmp_path / "b.json", [("a", 0, OBJECTS["a"], 0.9)])
    classes = ranked(tmp_path / "m-classes.csv", {"a": "cat"})
    names = tmp_path / "names.json"
    names.write_text("background\ncat\ndog\n")
    link = tmp_path / "link.json"
    link.symlink_to(boxes)
    detection = ("detection", "--boxes", boxes, "--ground-truth", truth)
    before = {path: path.read_bytes() for path in (boxes, classes, truth, names)}
    for words, out in (
        (detection, boxes), (detection, truth), (detection, link), ((*detection, "--baseline", link), link),
        (("localization", "--maps", maps, "--ground-truth", truth), truth),
        (("localization", "--maps", maps, "--ground-truth", truth, "--classes", classes), tmp_path / "m.json"),
        (("segmentation", "--masks", true_masks, "--ground-truth", true_masks, "--classes", names), names),
    ):  # fmt: skip
        assert "is an input" in refused(*words, "--out", out, "--overwrite")
    assert {path: path.read_bytes() for path in before} == before
    assert not (tmp_path / "m.json").exists()


def test_nothing_in_a_folder_of_inputs_is_overwritten(truth, maps):
    words = ("localization", "--maps", maps, "--ground-truth", truth, "--out", maps / "m.json")
    (maps / "m.csv").write_text("mine")
    assert "m.csv: is an input" in refused(*words, "--overwrite")
    assert (maps / "m.csv").read_text() == "mine"


def test_only_unchanged_earlier_figures_are_replaced(tmp_path, truth):
    boxes = coco_boxes(tmp_path / "b.json", [("a", 0, OBJECTS["a"], 0.9)])
    words = ("detection", "--boxes", boxes, "--ground-truth", truth)
    (tmp_path / "m-classes.csv").write_text("mine")
    assert "m-classes.csv: exists and was not written by wsol" in refused(*words, "--out", tmp_path / "m.json")
    assert not (tmp_path / "m.json").exists()
    figures(*words, "--overwrite", out=tmp_path / "m.json")
    figures(*words, out=tmp_path / "m.json")
    (tmp_path / "m.json").write_text("{}")
    assert "m.json: was changed since" in refused(*words, "--out", tmp_path / "m.json")
    assert (tmp_path / "m.json").read_text() == "{}"


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("command", ["localization", "detection", "segmentation"])
def test_help_has_an_example(command):
    code, text = run(command, "--help")
    assert code == 0
    assert f"wsol evaluate {command} --" in " ".join(text.split())


def test_the_output_is_json(tmp_path, truth, maps):
    line = refused("localization", "--maps", maps, "--ground-truth", truth, "--out", tmp_path / "m.csv")
    assert "must end in .json" in line
    assert not (tmp_path / "m.csv").exists()
