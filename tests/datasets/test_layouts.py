"""Data sets as the tools of the field lay them out, read by the readers of their formats."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.test_readers import CUB, boxes, coco, png, read, rows, write, xml
from wsol_core.core.errors import InputError
from wsol_core.datasets.listing import Problem
from wsol_core.datasets.validate import check_listing


def image(path: Path, width: int = 20, height: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path, "PNG")


# COCO as tools lay it out

LAYOUTS = {
    "beside the JSON": ({"train.json": ["a.jpg"]}, ["a.jpg"]),
    "one JSON of any name": ({"result.json": ["images/a.jpg"]}, ["images/a.jpg"]),
    "Roboflow": (
        {"train/_annotations.coco.json": ["a.jpg"], "valid/_annotations.coco.json": ["b.jpg"]},
        ["train/a.jpg", "valid/b.jpg"],
    ),
    "CVAT": (
        {"annotations/instances_Train.json": ["a.jpg"], "annotations/instances_Validation.json": ["b.jpg"]},
        ["images/Train/a.jpg", "images/Validation/b.jpg"],
    ),
    "CVAT without subsets": ({"annotations/instances_default.json": ["a.jpg"]}, ["images/default/a.jpg"]),
    "FiftyOne": ({"labels.json": ["a.jpg"]}, ["data/a.jpg"]),
    "FiftyOne's splits": (
        {"train/labels.json": ["a.jpg"], "validation/labels.json": ["b.jpg"]},
        ["train/data/a.jpg", "validation/data/b.jpg"],
    ),
    "train2017": (
        {"annotations/instances_train2017.json": ["a.jpg"], "annotations/instances_val2017.json": ["b.jpg"]},
        ["images/train2017/a.jpg", "images/val2017/b.jpg"],
    ),
    "a folder per split": ({"train.json": ["a.jpg"], "val.json": ["b.jpg"]}, ["train/a.jpg", "val/b.jpg"]),
    "back-slashes": ({"train.json": ["images\\deep\\a.jpg"]}, ["images/deep/a.jpg"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_coco_of_common_tools(tmp_path: Path, layout: str) -> None:
    files, pictures = LAYOUTS[layout]
    write(tmp_path, {name: coco(*names) for name, names in files.items()} | dict.fromkeys(pictures, ""))
    listing = read(tmp_path, "coco")
    assert listing.images["path"].tolist() == pictures
    assert listing.images["split"].tolist() == ["train-weaksup", "test"][: len(files)]
    assert len(listing.annotations) == len(pictures)
    assert check_listing(tmp_path, listing) == []


def test_coco_with_the_same_names_in_two_splits(tmp_path: Path) -> None:
    names = {"train": ["0.jpg", "1.jpg"], "valid": ["0.jpg", "2.jpg"]}
    write(tmp_path, {f"{split}/_annotations.coco.json": coco(*own) for split, own in names.items()})
    write(tmp_path, {f"{split}/{name}": "" for split, own in names.items() for name in own})
    listing = read(tmp_path, "coco")
    assert listing.images["image_id"].tolist() == ["train/0", "1", "valid/0", "2"]
    assert listing.annotations["image_id"].tolist() == ["train/0", "1", "valid/0", "2"]
    assert check_listing(tmp_path, listing) == []


def test_a_back_slash_in_a_name_stays_where_such_a_file_is(tmp_path: Path) -> None:
    write(tmp_path, {"train.json": coco("a\\b.jpg", "c\\d.jpg"), "a\\b.jpg": "", "a/b.jpg": "", "c/d.jpg": ""})
    assert read(tmp_path, "coco").images["path"].tolist() == ["a\\b.jpg", "c/d.jpg"]


@pytest.mark.parametrize("kinds", [(str, int), (int, str), (str, float), (str, str)])
def test_coco_ids_as_text_and_as_numbers(tmp_path: Path, kinds: tuple[type, type]) -> None:
    content = json.loads(coco("a.jpg", "b.jpg"))
    for entry in content["images"] + content["categories"]:
        entry["id"] = kinds[0](entry["id"])
    for entry in content["annotations"]:
        entry["image_id"], entry["category_id"] = kinds[1](entry["image_id"]), kinds[1](entry["category_id"])
    write(tmp_path, {"train.json": json.dumps(content)})
    listing = read(tmp_path, "coco")
    assert listing.classes == ("dog", "cat")
    assert listing.images["labels"].tolist() == [[1], [1]]


def test_coco_ids_that_are_words(tmp_path: Path) -> None:
    content = {
        "images": [{"id": "x-1", "file_name": "a.jpg"}],
        "categories": [{"id": "k9", "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"image_id": "x-1", "category_id": "k9", "bbox": [1, 1, 2, 2]}],
    }
    write(tmp_path, {"train.json": json.dumps(content)})
    listing = read(tmp_path, "coco")
    assert listing.classes == ("cat", "dog")
    assert listing.images["labels"].tolist() == [[1]]


def test_of_several_json_files_none_is_guessed(tmp_path: Path) -> None:
    write(tmp_path, {"one.json": coco("a.jpg"), "two.json": coco("b.jpg")})
    with pytest.raises(InputError, match=r"there are one\.json, two\.json\); set `splits`"):
        read(tmp_path, "coco")


# Folders of classes


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Valid"])
def test_folder_of_validation(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"train/cat/a.jpg": "", f"{name}/cat/b.jpg": "", "test/cat/c.jpg": ""})
    listing = read(tmp_path, "folder")
    assert listing.images["split"].tolist() == ["train-weaksup", "train-fullsup", "test"]
    assert check_listing(tmp_path, listing) == []


# VOC without lists


def test_voc_of_labelimg(tmp_path: Path) -> None:
    own = xml(("owl", 0, (1, 1, 3, 2))).replace("<annotation>", "<annotation><filename>my owl 2.png</filename>")
    write(tmp_path, {"my owl 1.xml": xml(("cat", 0, (1, 1, 2, 2))), "my owl 1.JPG": "", "two.xml": own})
    write(tmp_path, {"my owl 2.png": "", "not labelled.jpg": ""})
    listing = read(tmp_path, "voc")
    assert rows(listing) == [
        ("my owl 1", "my owl 1.JPG", "train-weaksup", [0]),
        ("my owl 2", "my owl 2.png", "train-weaksup", [1]),
    ]
    assert boxes(listing) == [[0, 0, 2, 2], [0, 0, 3, 2]]
    assert [problem.path for problem in check_listing(tmp_path, listing)] == ["not labelled.jpg"]


@pytest.mark.parametrize("pictures", ["JPEGImages", "images"])
def test_voc_without_image_sets_has_folders_alone(tmp_path: Path, pictures: str) -> None:
    write(tmp_path, {"Annotations/01.xml": xml(("cat", 0, (1, 1, 3, 2))), f"{pictures}/01.png": ""})
    write(tmp_path, {"Annotations/02.xml": xml(("cat", 0, (1, 1, 3, 2)))})
    png(tmp_path / "SegmentationObject/01.png", [[1, 0]], "P")
    listing = read(tmp_path, "voc")
    assert rows(listing)[0] == ("01", f"{pictures}/01.png", "train-weaksup", [0])
    assert rows(listing)[1][1] == "JPEGImages/02.jpg"
    mask = listing.masks("01")
    assert mask is not None
    assert mask.tolist() == [[1, 0]]


def test_voc_in_folders_of_splits(tmp_path: Path) -> None:
    names = ("train/a", "valid/a", "test/b")
    write(tmp_path, {f"{name}.xml": xml(("cat", 0, (1, 1, 3, 2))) for name in names})
    write(tmp_path, {f"{name}.jpg": "" for name in names})
    listing = read(tmp_path, "voc")
    splits = {row[0]: row[2] for row in rows(listing)}
    assert splits == {"train/a": "train-weaksup", "valid/a": "train-fullsup", "test/b": "test"}


def test_filename_decides_between_pictures_of_one_name(tmp_path: Path) -> None:
    said = xml(("cat", 0, (1, 1, 3, 2))).replace("<annotation>", "<annotation><filename>C:\\x\\01.png</filename>")
    write(tmp_path, {"Annotations/01.xml": said, "JPEGImages/01.JPG": "", "JPEGImages/01.png": ""})
    assert read(tmp_path, "voc").images["path"].tolist() == ["JPEGImages/01.png"]
    write(tmp_path, {"ImageSets/Main/trainval.txt": "01\n"})
    assert read(tmp_path, "voc").images["path"].tolist() == ["JPEGImages/01.png"]


def test_lists_named_after_the_splits(tmp_path: Path) -> None:
    names = {"train-weaksup": "01", "train-fullsup": "02", "test": "03"}
    write(tmp_path, {f"ImageSets/Main/{split}.txt": name for split, name in names.items()})
    assert {row[2]: row[0] for row in rows(read(tmp_path, "voc"))} == names


# CSV of spreadsheets


@pytest.mark.parametrize(("separator", "half"), [(";", "2,5"), (";", "2.5"), ("\t", "2,5"), (",", "2.5")])
def test_csv_of_other_separators(tmp_path: Path, separator: str, half: str) -> None:
    lines = [
        ["image", "split", "class", "x1", "y1", "x2", "y2"],
        ["images\\a.jpg", "train", "owl", "0", "1", half, "3"],
    ]
    text = "\ufeff" + "".join(separator.join(line) + "\r\n" for line in lines)
    write(tmp_path, {"images/a.jpg": ""})
    (tmp_path / "boxes.csv").write_bytes(text.encode())
    listing = read(tmp_path, "csv")
    assert rows(listing) == [("a", "images/a.jpg", "train-weaksup", [0])]
    assert boxes(listing) == [[0, 1, 2.5, 3]]


def test_csv_rows_that_end_in_a_separator(tmp_path: Path) -> None:
    header = "image,split,class,x1,y1,x2,y2\n"
    write(tmp_path, {"boxes.csv": f"{header}a.jpg,train,owl,0,1,2,3,\nb.jpg,train,owl,4,5,6,7,\n"})
    listing = read(tmp_path, "csv")
    assert listing.images["image_id"].tolist() == ["a", "b"]
    assert boxes(listing) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_csv_splits_in_letters_of_any_size(tmp_path: Path) -> None:
    header = "image,split,class,x1,y1,x2,y2\n"
    write(tmp_path, {"boxes.csv": f"{header}a.jpg,Train,owl,0,1,2,3\nb.jpg,TEST,owl,4,5,6,7\n"})
    assert read(tmp_path, "csv").images["split"].tolist() == ["train-weaksup", "test"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("\n\na.jpg,train,owl,0,1,2,3\n\nb.jpg,other,owl,0,1,2,3\n", "line 6: 'other': is no split"),
        ('a.jpg,train,"great\nowl",0,1,2,3\nb.jpg,other,owl,0,1,2,3\n', "line 4: 'other': is no split"),
        ("a.jpg,train,owl,0,1,2,3,\nb.jpg,train,owl,0,1,2,3,4\n", "line 3: more cells than columns"),
        ("a.jpg,train,owl,0,1,2,3\nb.jpg,train,owl,0\n", "line 3: 'b.jpg': a box needs all"),
        ("a.jpg,train,owl,0,1,2,3\n,train,owl,0,1,2,3\n", "line 3: '': names no image"),
        ("a.jpg,train,owl,0,1,2,3\n  ,train,owl,0,1,2,3\n", "line 3: '  ': names no image"),
    ],
)
def test_csv_faults_name_their_lines(tmp_path: Path, lines: str, message: str) -> None:
    write(tmp_path, {"boxes.csv": f"image,split,class,x1,y1,x2,y2\n{lines}"})
    with pytest.raises(InputError, match=message):
        read(tmp_path, "csv")


def test_cub_names_with_spaces(tmp_path: Path) -> None:
    write(tmp_path, CUB | {"images.txt": "1 1.Black owl/my a.jpg\n", "classes.txt": "1 1.Black owl\n"})
    listing = read(tmp_path, "cub")
    assert listing.classes == ("1.Black owl",)
    assert rows(listing) == [("1.Black owl/my a", "images/1.Black owl/my a.jpg", "train-weaksup", [0])]


# YOLO

BOX = "1 0.5 0.5 0.2 0.4\n"
DESCRIPTION = "names: [cat, dog]\n"


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train/images", "valid/images"),
        ("../train/images", "../valid/images"),
        ("/content/set/train/images", "/content/set/valid/images"),
        ("train\\images", "valid\\images"),
        ("train.txt", "val.txt"),
        ("[train/images]", "[valid/images]"),
    ],
)
def test_yolo(tmp_path: Path, train: str, val: str) -> None:
    write(tmp_path, {"data.yaml": f"{DESCRIPTION}train: {train}\nval: {val}\nnc: 2\n"})
    write(tmp_path, {"train.txt": "./train/images/a.png\n/elsewhere/train/images/b.png\n"})
    write(tmp_path, {"val.txt": "valid\\images\\a.png\n"})
    for path in ("train/images/a.png", "train/images/b.png", "valid/images/a.png"):
        image(tmp_path / path)
    write(tmp_path, {"train/labels/a.txt": BOX + "\n0 0.5 0.5 1 1 0.9\n", "valid/labels/a.txt": BOX})
    listing = read(tmp_path, "yolo")
    assert listing.classes == ("cat", "dog")
    assert rows(listing) == [
        ("train/a", "train/images/a.png", "train-weaksup", [0, 1]),
        ("train/b", "train/images/b.png", "train-weaksup", []),
        ("valid/a", "valid/images/a.png", "test", [1]),
    ]
    np.testing.assert_allclose(boxes(listing), [[8, 3, 12, 7], [0, 0, 20, 10], [8, 3, 12, 7]], rtol=1e-6)
    assert listing.annotations["label"].tolist() == [1, 0, 1]
    assert check_listing(tmp_path, listing) == []


def test_yolo_polygons_are_boxes_and_masks(tmp_path: Path) -> None:
    write(tmp_path, {"data.yaml": "path: ../datasets/mine\ntrain: images/train\nval:\nnames: {0: cat, 1: dog}\n"})
    image(tmp_path / "images/train/a.png")
    write(tmp_path, {"labels/train/a.txt": BOX + "0 0 0 0.5 0 0.5 1 0 1\n"})
    listing = read(tmp_path, "yolo")
    np.testing.assert_allclose(boxes(listing), [[8, 3, 12, 7], [0, 0, 10, 10]], rtol=1e-6)
    assert listing.annotations["instance"].tolist() == [0, 1]
    mask = listing.masks("train/a")
    assert mask is not None
    expected = np.zeros((10, 20), np.uint8)
    expected[:, :10] = 1
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("names", "picture", "labels"),
    [
        ("classes.txt", "images/a.png", "labels/a.txt"),
        ("labels/classes.txt", "images/a.png", "labels/a.txt"),
        ("obj.names", "obj_train_data/a.png", "obj_train_data/a.txt"),
        ("classes.txt", "a.png", "a.txt"),
    ],
)
def test_yolo_without_a_description(tmp_path: Path, names: str, picture: str, labels: str) -> None:
    write(tmp_path, {names: "\ufeffcat\nbig dog\n", labels: BOX})
    image(tmp_path / picture)
    listing = read(tmp_path, "yolo")
    assert listing.classes == ("cat", "big dog")
    assert [row[1:] for row in rows(listing)] == [(picture, "train-weaksup", [1])]
    assert check_listing(tmp_path, listing) == []


def test_yolo_splits_by_folder(tmp_path: Path) -> None:
    write(tmp_path, {"data.yaml": DESCRIPTION})
    for name in ("train", "val", "test"):
        image(tmp_path / f"images/{name}/a.png")
    splits = {row[0]: row[2] for row in rows(read(tmp_path, "yolo"))}
    assert splits == {"train/a": "train-weaksup", "val/a": "train-fullsup", "test/a": "test"}


def test_yolo_keypoints_follow_the_box(tmp_path: Path) -> None:
    write(
        tmp_path, {"data.yaml": f"{DESCRIPTION}kpt_shape: [1, 3]\ntrain: images\n", "labels/a.txt": BOX[:-1] + " 0 0 2"}
    )
    image(tmp_path / "images/a.png")
    np.testing.assert_allclose(boxes(read(tmp_path, "yolo")), [[8, 3, 12, 7]], rtol=1e-6)


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.2", "cat 0.5 0.5 0.2 0.2", "0.5 0 0 1 1", "0 0 0 1 1 0 1 1", "0 x 0 1 1"]
)
def test_yolo_labels_that_are_malformed(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"data.yaml": f"{DESCRIPTION}train: images\n", "labels/a.txt": line})
    image(tmp_path / "images/a.png")
    assert read(tmp_path, "yolo").problems == (("a", "images/a.png", "unreadable labels"),)


def test_yolo_labels_of_another_encoding(tmp_path: Path) -> None:
    write(tmp_path, {"data.yaml": f"{DESCRIPTION}train: images\n", "labels/b.txt": BOX})
    (tmp_path / "labels/a.txt").write_bytes(BOX.encode("utf-16"))
    for name in "ab":
        image(tmp_path / f"images/{name}.png")
    listing = read(tmp_path, "yolo")
    assert listing.problems == (Problem("a", "images/a.png", "unreadable labels"),)
    assert listing.annotations["image_id"].tolist() == ["b"]


def test_yolo_class_out_of_range_and_missing_things(tmp_path: Path) -> None:
    write(tmp_path, {"data.yaml": f"{DESCRIPTION}train: train.txt\ntest: test/images\n"})
    write(tmp_path, {"train.txt": "images/a.png\nimages/b.png\n../../c.png\n", "labels/a.txt": "7 0.5 0.5 0.1 0.1"})
    image(tmp_path / "images/a.png")
    listing = read(tmp_path, "yolo")
    assert listing.problems == (("test/images", "test/images", "no such folder or list"),)
    found = {problem.path: problem.reason for problem in check_listing(tmp_path, listing)}
    assert found == {"images/a.png": "label out of range", "../../c.png": "path outside the root"}
    assert listing.images["path"].tolist() == ["../../c.png", "images/a.png", "images/b.png"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no data\.yaml"),
        ({"data.yaml": "train: images\n"}, "not a YOLO description"),
        ({"data.yaml": "names: {1: cat}\n"}, "names must be a list"),
        ({"data.yaml": "names: [cat, cat]\n"}, "each once"),
        ({"data.yaml": f"{DESCRIPTION}train: nowhere\n"}, "not there: 'nowhere'"),
    ],
)
def test_yolo_that_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    write(tmp_path, files)
    with pytest.raises(InputError, match=message):
        read(tmp_path, "yolo")
