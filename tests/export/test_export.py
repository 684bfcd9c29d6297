"""Exports of boxes and masks, read back by other readers or held against tables made by hand."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml
from faster_coco_eval import COCO
from PIL import Image
from torchvision.datasets import VOCDetection

from tests import commands
from wsol_core.core.boxes import BOX_COLUMNS, from_inclusive, from_xywh, to_centre, to_inclusive, to_xywh
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_table
from wsol_core.core.map_store import Kind, create
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.datasets.listing import DataParams
from wsol_core.datasets.prepare import READERS
from wsol_core.export.masks import MaskResults, read_masks, write_pngs
from wsol_core.export.pictures import flat_names
from wsol_core.export.place import CSV_COLUMNS
from wsol_core.export.results import read_boxes
from wsol_core.export.voc import pixel_corners

DATA = Path("data/localization")
ROWS = [
    ("a/one", 10.0, 20.0, 30.5, 60.0, 0.9, -1),
    ("a/one", 0.0, 0.0, 5.0, 5.0, 0.4, 0),
    ("both", 4.0, 2.0, 99.0, 12.0, 0.8, -1),
    ("both", 30.0, 20.0, 60.0, 40.0, 0.7, 1),
]
"""The third reaches out of its image, the fourth lies outside; `none` has no box."""


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    table = pd.DataFrame(
        [
            ("a/one", "images/a/one.jpg", "", "train-weaksup", [0], 100, 80),
            ("both", "images/both.png", "", "train-weaksup", [0, 1], 20, 10),
            ("none", "images/no ne.jpg", "", "test", [1], 40, 30),
        ],
        columns=["image_id", "path", "digest", "split", "labels", "width", "height"],
    )
    for name in ("localization", "detection"):
        write_index(Path("data", name, "index.parquet"), ImageIndex(table, ("cat", "dog"), "pets", "images"))
    boxes = pd.DataFrame(ROWS, columns=["image_id", *BOX_COLUMNS, "score", "label"])
    write_table(DATA / "boxes/m.parquet", boxes)
    write_table(DATA / "pseudo_boxes.parquet", boxes[:1])
    Path("params.yaml").write_text("localize: {resolution: 64}\n")
    return tmp_path


error = partial(commands.error, "export")


def good(*words: object) -> None:
    done = commands.run("export", *words)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""


# Converters


def test_converters_by_hand_and_back() -> None:
    box = np.array([[10, 20, 30, 40]], np.float32)
    assert to_xywh(box).tolist() == [[10, 20, 20, 20]]
    assert to_inclusive(box).tolist() == [[11, 21, 30, 40]]
    assert to_centre(box, np.array([[100, 50]])).tolist() == [[0.2, 0.6, 0.2, 0.4]]
    boxes = np.random.default_rng(0).uniform(0, 50, (20, 4)).astype(np.float32)
    np.testing.assert_allclose(from_xywh(to_xywh(boxes)), boxes, rtol=1e-5)
    np.testing.assert_allclose(from_inclusive(to_inclusive(boxes)), boxes, rtol=1e-5)
    for convert in (to_xywh, to_inclusive):
        assert convert(np.empty((0, 4), np.float32)).shape == (0, 4)


def test_voc_corners_are_whole_and_never_empty() -> None:
    boxes = np.array([[0, 0, 100, 80], [9.4, 9.6, 20.4, 20.6], [5.2, 5.2, 5.3, 5.3], [99.8, 79.8, 100, 80]], np.float32)
    expected = [[1, 1, 100, 80], [10, 11, 20, 21], [6, 6, 6, 6], [100, 80, 100, 80]]
    assert pixel_corners(boxes, 100, 80).tolist() == expected


# Boxes


def test_class_agnostic_boxes_get_the_images_label_or_object() -> None:
    results = read_boxes("localization", "m")
    assert results.classes == ("cat", "dog", "object")
    assert results.boxes["label"].tolist() == [0, 0, 2]
    assert results.corners()[2].tolist() == [4, 2, 20, 10]
    assert read_boxes("localization", "pseudo_boxes").classes == ("cat", "dog")
    assert read_boxes("localization", "m", min_score=0.85).boxes["score"].tolist() == [0.9]
    best = read_boxes("localization", "m", best_of_labels=True)
    assert best.boxes[["image_id", "score", "label"]].to_numpy().tolist() == [["a/one", 0.9, 0]]
    assert len(best.images) == 3
    assert read_boxes("localization", "m", ["test"]).images["image_id"].tolist() == ["none"]


def test_the_best_boxes_of_an_images_labels() -> None:
    rows = [("both", 0, 0, 5, 5, 0.9, 1), ("both", 1, 0, 5, 5, 0.8, 1), ("both", 2, 0, 5, 5, 0.7, 0)]
    rows += [("a/one", 0, 0, 5, 5, 0.9, 1), ("a/one", 3, 0, 5, 5, 0.2, 0), ("a/one", 4, 0, 5, 5, 0.1, 0)]
    write_table(DATA / "boxes/d.parquet", pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS, "score", "label"]))
    found = read_boxes("localization", "d", best_of_labels=True).boxes
    assert found[["image_id", "label", "x0"]].to_numpy().tolist() == [["a/one", 0, 3], ["both", 1, 0], ["both", 0, 2]]
    everything = read_boxes("localization", "d", min_score=0.75, best_of_labels=True).boxes
    assert everything[["image_id", "label", "x0"]].to_numpy().tolist() == [["both", 1, 0]]


def test_coco_is_read_by_a_coco_reader() -> None:
    good("boxes", "m", "--out", "boxes.json")
    coco = COCO("boxes.json")
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [
        "images/a/one.jpg", "images/both.png", "images/no ne.jpg",
    ]  # fmt: skip
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["cat", "dog", "object"]
    found = {image: coco.loadAnns(coco.getAnnIds(imgIds=[image])) for image in (1, 2, 3)}
    assert [(each["bbox"], each["category_id"], each["area"]) for each in found[1]] == [
        ([10, 20, 20.5, 40], 1, 820), ([0, 0, 5, 5], 1, 25),
    ]  # fmt: skip
    assert [(each["bbox"], each["category_id"]) for each in found[2]] == [([4, 2, 16, 8], 3)]
    assert found[3] == []


def test_voc_is_read_by_torchvision() -> None:
    good("boxes", "m", "--out", "voc", "--format", "voc")
    read = {}
    for name in ("a_one", "both", "no ne"):
        root = ElementTree.parse(Path("voc/Annotations", f"{name}.xml")).getroot()
        read[name] = VOCDetection.parse_voc_xml(root)["annotation"]
    assert read["a_one"]["filename"] == "a_one.jpg"
    assert read["a_one"]["size"] == {"width": "100", "height": "80", "depth": "3"}
    places = [(each["name"], [int(side) for side in each["bndbox"].values()]) for each in read["a_one"]["object"]]
    assert places == [("cat", [11, 21, 31, 60]), ("cat", [1, 1, 5, 5])]
    assert read["both"]["object"][0]["name"] == "object"
    assert "object" not in read["no ne"] or read["no ne"]["object"] == []
    assert Path("voc/ImageSets/Main/train-weaksup.txt").read_text() == "a_one\nboth\n"
    assert Path("voc/ImageSets/Main/test.txt").read_text() == "no ne\n"


def test_yolo_by_hand() -> None:
    good("boxes", "m", "--out", "yolo", "--format", "yolo")
    assert Path("yolo/labels/a_one.txt").read_text() == (
        "0 0.202500 0.500000 0.205000 0.500000\n0 0.025000 0.031250 0.050000 0.062500\n"
    )
    assert Path("yolo/labels/both.txt").read_text() == "2 0.600000 0.600000 0.800000 0.800000\n"
    assert Path("yolo/labels/no ne.txt").read_text() == ""
    content = yaml.safe_load(Path("yolo/data.yaml").read_text())
    lists = {"train": "train-weaksup.txt", "val": "test.txt", "test": "test.txt"}
    assert content == {"names": {0: "cat", 1: "dog", 2: "object"}, **lists}
    assert Path("yolo/test.txt").read_text() == "./images/no ne.jpg\n"
    assert Path("yolo/images.csv").read_text().splitlines() == [
        "file_name,image_id,path,split",
        "a_one.jpg,a/one,images/a/one.jpg,train-weaksup",
        "both.png,both,images/both.png,train-weaksup",
        "no ne.jpg,none,images/no ne.jpg,test",
    ]


@pytest.mark.parametrize("split", ["train-weaksup", "test"])
def test_a_yolo_description_has_train_and_val(split: str) -> None:
    good("boxes", "m", "--out", "yolo", "--format", "yolo", "--split", split)
    content = yaml.safe_load(Path("yolo/data.yaml").read_text())
    assert (content["train"], content["val"]) == (f"{split}.txt", f"{split}.txt")


def test_flat_names_are_unique_up_to_suffix_and_letters() -> None:
    paths = ["a/b.jpg", "a_b.png", "A/B.jpg", "a_b_2.jpg", "c.v1.jpg", "images/d"]
    assert flat_names(paths) == ["a_b.jpg", "a_b_2.png", "A_B_3.jpg", "a_b_2_2.jpg", "c.v1.jpg", "d"]


def with_images() -> None:
    """The workspace's images, in its root `images`."""
    for path, size in (("a/one.jpg", (100, 80)), ("both.png", (20, 10)), ("no ne.jpg", (40, 30))):
        place = Path("images/images", path)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(place)


@pytest.mark.parametrize(("form", "folder"), [("yolo", "images"), ("voc", "JPEGImages")])
def test_an_export_with_images_is_read_by_our_own_reader(form: Literal["yolo", "voc"], folder: str) -> None:
    assert "missing, so it cannot be copied" in error("boxes", "m", "--out", "out", "--format", form, "--images")
    assert not Path("out").exists()
    with_images()
    good("boxes", "m", "--out", "out", "--format", form, "--images")
    good("boxes", "m", "--out", "out", "--format", form, "--images")
    listing = READERS[form](Path("out"), DataParams(name="out", source="out", reader=form))
    assert listing.images["path"].tolist() == [f"{folder}/{name}" for name in ("a_one.jpg", "both.png", "no ne.jpg")]
    assert listing.images["split"].tolist() == ["train-weaksup", "train-weaksup", "test"]
    found = listing.annotations[list(BOX_COLUMNS)].to_numpy()
    expected = read_boxes("localization", "m").corners()
    np.testing.assert_allclose(found, expected, atol=0.01 if form == "yolo" else 0.5)


def test_images_are_copied_for_trainers_alone() -> None:
    assert "--images: of the formats voc and yolo alone" in error("boxes", "m", "--out", "x.json", "--images")


def test_supervision_reads_every_box() -> None:
    supervision = pytest.importorskip("supervision")
    with_images()
    good("boxes", "m", "--out", "yolo", "--format", "yolo", "--images")
    good("boxes", "m", "--out", "voc", "--format", "voc", "--images")
    good("boxes", "m", "--out", "boxes.json")
    sets = (
        supervision.DetectionDataset.from_yolo("yolo/images", "yolo/labels", "yolo/data.yaml"),
        supervision.DetectionDataset.from_pascal_voc("voc/JPEGImages", "voc/Annotations"),
        supervision.DetectionDataset.from_coco("images", "boxes.json"),
    )
    for found in sets:
        assert sum(len(boxes) for _, _, boxes in found) == 3


def test_globox_reads_every_box() -> None:
    globox = pytest.importorskip("globox")
    with_images()
    good("boxes", "m", "--out", "yolo", "--format", "yolo", "--images")
    good("boxes", "m", "--out", "voc", "--format", "voc")
    good("boxes", "m", "--out", "boxes.json")
    of = globox.AnnotationSet
    Path("yolo/images/both.png").rename("yolo/images/both.jpg")  # globox knows one suffix at a time
    labels = of.from_yolo_v5("yolo/labels", image_folder="yolo/images")
    for found in (labels, of.from_pascal_voc("voc/Annotations"), of.from_coco("boxes.json")):
        assert sum(len(each.boxes) for each in found) == 3


def test_pycocotools_reads_every_box() -> None:
    coco = pytest.importorskip("pycocotools.coco")
    good("boxes", "m", "--out", "boxes.json")
    assert len(coco.COCO("boxes.json").getAnnIds()) == 3


def test_csv_has_a_row_for_an_image_without_a_box() -> None:
    good("boxes", "m", "--out", "boxes.csv", "--format", "csv")
    with Path("boxes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["cat", "cat", "object", ""]
    assert (rows[0]["x1"], rows[0]["score"], rows[0]["path"]) == ("30.5", "0.9", "images/a/one.jpg")
    assert (rows[3]["image_id"], rows[3]["x0"], rows[3]["width"]) == ("none", "", "40")


def test_label_studio_by_hand() -> None:
    good("boxes", "m", "--out", "tasks", "--format", "label-studio", "--prefix", "http://localhost/")
    tasks = json.loads(Path("tasks/tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [
        "http://localhost/images/a/one.jpg", "http://localhost/images/both.png", "http://localhost/images/no%20ne.jpg",
    ]  # fmt: skip
    (first, _), (only,), () = (task["predictions"][0]["result"] for task in tasks)
    assert first["value"] == {
        "x": 10, "y": 25, "width": 20.5, "height": 50, "rotation": 0, "rectanglelabels": ["cat"],
    }  # fmt: skip
    assert (first["original_width"], first["original_height"], first["type"]) == (100, 80, "rectanglelabels")
    assert only["value"]["rectanglelabels"] == ["object"]
    view = ElementTree.parse("tasks/config.xml").getroot()
    assert [label.get("value") for label in view.iter("Label")] == ["cat", "dog", "object"]
    control = view.find("RectangleLabels")
    assert control is not None
    assert (control.get("name"), control.get("toName")) == (first["from_name"], first["to_name"])


def test_nothing_but_an_unchanged_earlier_export_is_replaced() -> None:
    for form, name in (("coco", "out.json"), ("csv", "out.csv"), ("voc", "out"), ("yolo", "out")):
        good("boxes", "m", "--out", name, "--format", form)
        good("boxes", "pseudo_boxes", "--out", name, "--format", form)
    assert not Path("out/Annotations").exists()
    Path("mine.json").write_text('{"images": [], "description": "made from a wsol export"}')
    Path("mine.csv").write_text(",".join(CSV_COLUMNS) + "\n")
    for name, form in (("mine.json", "coco"), ("mine.csv", "csv")):
        before = Path(name).read_text()
        assert f"{name}: exists and was not written by wsol" in error("boxes", "m", "--out", name, "--format", form)
        assert Path(name).read_text() == before
        good("boxes", "m", "--out", name, "--format", form, "--overwrite")
    assert "a folder" in error("boxes", "m", "--out", "out")
    assert "a file" in error("boxes", "m", "--out", "mine.json", "--format", "voc")
    with Path("mine.json").open("a") as file:
        file.write(" ")
    assert "mine.json: was changed since" in error("boxes", "m", "--out", "mine.json")


FOLDERS = (
    (("boxes", "m", "--format", "yolo"), "labels/both.txt", "images/both.png"),
    (("boxes", "m", "--format", "voc"), "Annotations/both.xml", "JPEGImages/both.jpg"),
    (("boxes", "m", "--format", "label-studio"), "tasks.json", "corrected.json"),
    (("masks", "targets/m"), "both.png", "a/two.png"),
)


@pytest.mark.parametrize(("words", "own", "put"), FOLDERS)
def test_what_the_user_put_into_an_exported_folder_stays(words: tuple[str, ...], own: str, put: str) -> None:
    write_maps("targets/m", Kind.TRISTATE, [("a/one", -1, [[1, 0], [255, 0]])])
    good(*words, "--out", "out")
    Path("out", put).parent.mkdir(exist_ok=True)
    Path("out", put).write_text("mine")
    for more in ((), ("--split", "train-weaksup"), ("--overwrite",)):
        good(*words, "--out", "out", *more)
        assert Path("out", put).read_text() == "mine"
    Path("out", own).write_text("corrected by hand")
    assert f"out/{own}: was changed since" in error(*words, "--out", "out")
    assert Path("out", own).read_text() == "corrected by hand"
    good(*words, "--out", "out", "--overwrite")
    assert Path("out", own).read_text(errors="replace") != "corrected by hand"
    assert Path("out", put).read_text() == "mine"


def test_a_folder_of_the_user_gets_files_beside_his() -> None:
    Path("mine/labels").mkdir(parents=True)
    Path("mine/labels/both.txt").write_text("mine")
    words = ("boxes", "m", "--out", "mine", "--format", "yolo")
    assert "mine/labels/both.txt: exists and was not written by wsol" in error(*words)
    assert [path.name for path in Path("mine").rglob("*")] == ["labels", "both.txt"]
    Path("mine/labels/both.txt").rename("mine/labels/other.txt")
    good(*words)
    good(*words, "--split", "test")
    assert sorted(path.name for path in Path("mine/labels").rglob("*")) == ["no ne.txt", "other.txt"]


def test_an_input_is_never_an_output() -> None:
    table = DATA / "boxes/m.parquet"
    before = table.read_bytes()
    for name in (table, "params.yaml", DATA / "index.parquet"):
        assert "is an input" in error("boxes", "m", "--out", name, "--overwrite")
    assert table.read_bytes() == before
    good("boxes", "m", "--out", "data/exported.json")
    good("boxes", "m", "--out", "data/exported.json")


def test_what_cannot_be_exported_is_said() -> None:
    assert "did you mean 'pseudo_boxes'?; there are m, pseudo_boxes" in error("boxes", "pseudo_box", "--out", "x.json")
    assert "no '../index'" in error("boxes", "../index", "--out", "x.json")
    assert "is no table of boxes" in error("boxes", "index", "--out", "x.json")
    assert "did you mean 'test'" in error("boxes", "m", "--split", "tests", "--out", "x.json")
    write_table(
        DATA / "boxes/odd.parquet",
        pd.DataFrame([("x", 0, 0, 1, 1, 1, 0)], columns=["image_id", *BOX_COLUMNS, "score", "label"]),
    )
    assert "image 'x' is not in the index" in error("boxes", "odd", "--out", "x.json")
    assert not Path("x.json").exists()


# Masks


def write_maps(name: str, kind: Kind, rows: list[tuple[str, int, list[list[float]]]]) -> None:
    with create(DATA / f"{name}.h5", kind, 2, 2) as writer:
        for image_id, label, content in rows:
            writer.append([image_id], [label], np.array(content, kind.dtype)[None])


def test_labels_are_enlarged_without_mixing() -> None:
    write_maps("targets/m", Kind.TRISTATE, [("a/one", -1, [[1, 0], [255, 0]]), ("both", -1, [[0, 1], [0, 0]])])
    good("masks", "targets/m", "--out", "labels")
    with Image.open("labels/a/one.png") as picture:
        mask = np.asarray(picture)
        assert picture.mode == "P"
    assert mask.shape == (80, 100)
    assert (mask[:40, :50] == 1).all()
    assert (mask[40:, :50] == 255).all()
    assert (mask[:, 50:] == 0).all()
    assert np.unique(np.asarray(Image.open("labels/both.png"))).tolist() == [0, 3]
    assert not np.asarray(Image.open("labels/none.png")).any()
    assert Path("labels/classes.txt").read_text().split() == ["background", "cat", "dog", "object"]


def test_where_classes_overlap_the_higher_score_wins() -> None:
    write_maps(
        "outputs/m/maps", Kind.SCORE, [("a/one", 0, [[0.9, 0.1], [0.9, 0.1]]), ("a/one", 1, [[0.1, 0.8], [0.1, 0.8]])]
    )
    results = read_masks("localization", "m", threshold=0.3)
    mask = results.read("a/one", 4, 1)
    assert mask.tolist() == [[1, 1, 2, 2]]
    assert results.read("a/one", 8, 1).tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]]
    assert read_masks("localization", "m", threshold=0.85).read("a/one", 4, 1).tolist() == [[1, 0, 0, 0]]
    assert results.classes == ("cat", "dog")


@pytest.mark.parametrize("value", ["nan", "7", "-0.1", "inf"])
def test_thresholds_lie_in_0_to_1(value: str) -> None:
    assert "must lie in [0, 1)" in error("masks", "m", "--out", "masks", "--threshold", value)
    assert "must lie in [0, 1]" in error("boxes", "m", "--out", "boxes.json", "--min-score", value)
    assert not any(Path(name).exists() for name in ("masks", "boxes.json"))


def test_a_score_map_needs_a_threshold() -> None:
    write_maps("outputs/m/maps", Kind.SCORE, [("a/one", -1, [[0.9, 0.1], [0.9, 0.1]])])
    assert "no threshold is calibrated" in error("masks", "m", "--out", "masks")
    Path(DATA / "thresholds").mkdir()
    Path(DATA / "thresholds/m.json").write_text('{"threshold": 0.5, "scale": "value", "calibrated_by": "constant"}')
    good("masks", "m", "--out", "masks")
    assert np.asarray(Image.open("masks/a/one.png"))[:, :50].all()
    with pytest.raises(InputError, match="no 'x' to export; there are m"):
        read_masks("localization", "x")


@pytest.mark.parametrize("name", ["../up", "/tmp/up"])
def test_masks_are_not_written_outside_their_folder(tmp_path: Path, name: str) -> None:
    images = pd.DataFrame({"image_id": ["a", name], "width": 2, "height": 1})
    results = MaskResults("m", images, ("cat",), lambda _, width, height: np.zeros((height, width), np.uint8))
    with pytest.raises(InputError, match=f"image '{name}': an id that leads out of the folder"):
        write_pngs(results, tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_coco_masks_are_read_by_a_coco_reader() -> None:
    content = [("a/one", 0, [[1, 0], [0, 0]]), ("a/one", 1, [[0, 0], [0, 1]]), ("none", 1, [[0, 0], [0, 0]])]
    write_maps("targets/pseudo_masks", Kind.MASK, content)  # type: ignore[arg-type]
    good("masks", "pseudo_masks", "--out", "masks.json", "--format", "coco", "--split", "train-weaksup")
    coco = COCO("masks.json")
    assert len(coco.getImgIds()) == 2
    first, second = coco.loadAnns(coco.getAnnIds())
    masks = [coco.annToMask(each) for each in (first, second)]
    expected = np.zeros((80, 100), np.uint8)
    expected[:40, :50] = 1
    np.testing.assert_array_equal(masks[0], expected)
    np.testing.assert_array_equal(masks[1], expected[::-1, ::-1])
    assert [(each["image_id"], each["category_id"], each["area"]) for each in (first, second)] == [
        (1, 1, 2000), (1, 2, 2000),
    ]  # fmt: skip
    assert first["bbox"] == [0, 0, 50, 40]


def test_folders_of_segmentations() -> None:
    folder = Path("data/detection/segments/sec/a")
    folder.mkdir(parents=True)
    Image.fromarray(np.full((80, 100), 2, np.uint8)).save(folder / "one.png")
    good("masks", "segments/sec", "--set", "detection", "--out", "masks")
    assert (np.asarray(Image.open("masks/a/one.png")) == 2).all()
    Image.fromarray(np.zeros((8, 10), np.uint8)).save(folder / "one.png")
    assert "not a mask of 100 x 80" in error("masks", "segments/sec", "--set", "detection", "--out", "masks")
    assert (np.asarray(Image.open("masks/a/one.png")) == 2).all()
