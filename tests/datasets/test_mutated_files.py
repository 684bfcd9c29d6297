"""Every reader on damaged files: an index that is right, or one line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.mutations import few_and_many, survive
from wsol_core.core.texts import read_yaml
from wsol_core.data.images import decode, inspect
from wsol_core.data.index import read_annotations, read_index
from wsol_core.datasets.listing import DataParams
from wsol_core.datasets.prepare import prepare

WIDTH, HEIGHT = 12, 8
XML = (
    '<?xml version="1.0"?><annotation><filename>0.png</filename><size><width>12</width><height>8</height></size>'
    "<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax>"
    "<ymax>7</ymax></bndbox></object></annotation>"
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "none").write_text("no folder, so that no scan is remembered")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("WSOL_WORKERS", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def text(root: Path, name: str, content: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content)
    return root / name


def picture(root: Path, name: str, value: int = 0, form: str = "PNG") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / name, form)
    return root / name


def mask(root: Path, name: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)).save(root / name)
    return root / name


def folder(root: Path) -> list[Path]:
    picture(root, "jay/good.png", 99)
    return [picture(root, "owl/a.jpg", 1, "JPEG")]


def unlabelled(root: Path) -> list[Path]:
    picture(root, "good.png", 99)
    return [picture(root, "a.jpg", 1, "JPEG")]


def cub(root: Path) -> list[Path]:
    picture(root, "images/1.Owl/a.png", 1)
    picture(root, "images/2.Big Jay/b.png", 2)
    return [
        text(root, "images.txt", "1 1.Owl/a.png\n2 2.Big Jay/b.png\n"),
        text(root, "classes.txt", "1 1.Owl\n2 2.Big Jay\n"),
        text(root, "image_class_labels.txt", "1 1\n2 2\n"),
        text(root, "train_test_split.txt", "1 1\n2 0\n"),
        text(root, "bounding_boxes.txt", "1 1.0 1.0 5.0 5.0\n2 0.0 0.0 12.0 8.0\n"),
        mask(root, "segmentations/1.Owl/a.png"),
    ]


def voc(root: Path) -> list[Path]:
    picture(root, "JPEGImages/0.jpg", 1, "JPEG")
    picture(root, "JPEGImages/1.png", 2)
    text(root, "Annotations/1.xml", XML.format(name="dog"))
    return [
        text(root, "Annotations/0.xml", XML.format(name="cat")),
        text(root, "ImageSets/Main/trainval.txt", "0\n1\n"),
        mask(root, "SegmentationObject/0.png"),
    ]


def imagenet(root: Path) -> list[Path]:
    picture(root, "train/n1/a.jpg", 1, "JPEG")
    picture(root, "val/0.jpg", 2, "JPEG")
    return [text(root, "Annotations/val/0.xml", XML.format(name="n1"))]


def coco(root: Path) -> list[Path]:
    names = ("a.png", "b.png", "c.png")
    for number, name in enumerate(names):
        picture(root, f"images/{name}", number)
    shapes = [
        [[1, 1, 9, 1, 9, 6]],
        {"size": [HEIGHT, WIDTH], "counts": [10, 50, 36]},
        {"size": [8, 12], "counts": "f00P"},
    ]
    content = {
        "images": [{"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 8, 5], "segmentation": shape, "iscrowd": 0}
            for n, shape in enumerate(shapes)
        ],
        "categories": [{"id": 1, "name": "owl"}, {"id": 2, "name": "jay"}],
    }
    return [text(root, "train.json", json.dumps(content))]


def csv(root: Path) -> list[Path]:
    picture(root, "a.png", 1)
    picture(root, "b.png", 2)
    rows = "image,split,class,x1,y1,x2,y2\na.png,train,owl,1,1,5,5\nb.png,val,jay,,,,\n"
    return [text(root, "boxes.csv", rows)]


def yolo(root: Path) -> list[Path]:
    picture(root, "train/images/a.png", 1)
    picture(root, "valid/images/a.png", 2)
    text(root, "valid/labels/a.txt", "1 0.5 0.5 1 1\n")
    return [
        text(root, "data.yaml", "path: ../mine\ntrain: train.txt\nval: ../valid/images\nnames: {0: owl, 1: jay}\n"),
        text(root, "train.txt", "./train/images/a.png\n"),
        text(root, "train/labels/a.txt", "0 0.5 0.5 0.2 0.4 0.9\n1 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n"),
    ]


LAYOUTS = {each.__name__: each for each in (folder, unlabelled, cub, voc, imagenet, coco, csv, yolo)}


@pytest.mark.parametrize("seeds", few_and_many())
@pytest.mark.parametrize("reader", LAYOUTS)
@pytest.mark.filterwarnings("ignore")
def test_readers(root: Path, reader: str, seeds: range) -> None:
    files = LAYOUTS[reader](root)
    params = DataParams.model_validate(
        {"name": "mine", "source": "files.parquet", "reader": reader, "on_bad_image": "skip"}
    )
    output = root.parent / "data/mine"

    def use() -> None:
        prepare(params, root, "mine", output)
        check(output)

    use()
    for path in files:
        survive(path, use, seeds)


def check(output: Path) -> None:
    """Ids stand once, labels are classes, boxes lie inside, and every mask is of its image's size."""
    index, boxes = read_index(output / "index.parquet"), read_annotations(output / "truth/annotations.parquet")
    table = index.table.set_index("image_id")
    assert table.index.is_unique
    assert all(0 <= label < len(index.classes) for labels in table["labels"] for label in labels)
    assert boxes["image_id"].isin(table.index).all()
    sides = table.loc[boxes["image_id"], ["width", "height"]].to_numpy()
    assert (boxes[["x0", "y0"]].to_numpy() >= 0).all()
    assert (boxes[["x1", "y1"]].to_numpy() <= sides).all()
    assert (boxes[["x0", "y0"]].to_numpy() < boxes[["x1", "y1"]].to_numpy()).all()
    for path in (output / "truth/masks").rglob("*.png"):
        name = path.relative_to(output / "truth/masks").as_posix()[:-4]
        with Image.open(path) as painted:
            assert painted.size == tuple(table.loc[name, ["width", "height"]])
    skipped = pd.read_csv(output / "skipped.csv")
    assert skipped["reason"].notna().all()


@pytest.mark.parametrize("seeds", few_and_many())
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF"])
@pytest.mark.filterwarnings("ignore")
def test_images(root: Path, form: str, seeds: range) -> None:
    path = picture(root, "a.png", 1, form)

    def use() -> None:
        look = inspect(path)
        if look.problem is None:
            assert decode(path).shape == (look.height, look.width, 3)
        else:
            assert "\n" not in look.problem

    survive(path, use, seeds)


@pytest.mark.parametrize("seeds", few_and_many())
def test_yaml(root: Path, seeds: range) -> None:
    path = text(root, "a.yaml", "base: &base {a: 1, b: [x, y]}\nother:\n  <<: *base\n  c: !!float 1\n  d: 2001-01-01\n")
    survive(path, lambda: read_yaml(path), seeds)
