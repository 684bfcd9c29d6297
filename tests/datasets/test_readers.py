import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.datasets.listing import DataParams, Listing
from wsol_core.datasets.prepare import READERS
from wsol_core.datasets.readers.coco_masks import instance_mask, polygons_mask, runs_mask, unpack
from wsol_core.datasets.readers.xml_objects import read_objects
from wsol_core.datasets.validate import check_listing


def read(root: Path, reader: str, **options: Any) -> Listing:
    return READERS[reader](root, DataParams(name="mine", source="files.parquet", reader=reader, **options))


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def rows(listing: Listing) -> list[tuple]:
    return list(listing.images.itertuples(index=False, name=None))


def boxes(listing: Listing) -> list[list[float]]:
    return listing.annotations[list(BOX_COLUMNS)].to_numpy().tolist()


def png(path: Path, values: list[list[int]], mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.array(values, dtype=np.uint8))
    if mode == "P":
        picture = picture.convert("P")
        picture.putdata([value for row in values for value in row])
    picture.save(path)


def test_folder(tmp_path: Path) -> None:
    write(tmp_path, {"dog/b.jpg": "", "cat/deep/a.PNG": "", "cat/notes.txt": "", "top.jpg": ""})
    listing = read(tmp_path, "folder")
    assert listing.classes == ("cat", "dog")
    assert rows(listing) == [
        ("cat/deep/a", "cat/deep/a.PNG", "train-weaksup", [0]),
        ("dog/b", "dog/b.jpg", "train-weaksup", [1]),
    ]
    assert listing.annotations.empty
    assert listing.masks("dog/b") is None


def test_unlabelled(tmp_path: Path) -> None:
    write(tmp_path / "root", {"sky/b.jpg": "", "a.PNG": "", "sky/notes.txt": "", ".hidden.png": ""})
    listing = read(tmp_path / "root", "unlabelled")
    assert listing.problems == (("sky/notes.txt", "sky/notes.txt", "no image by name and first bytes"),)
    assert listing.classes == ()
    assert rows(listing) == [("a.PNG", "a.PNG", "train-weaksup", []), ("sky/b.jpg", "sky/b.jpg", "train-weaksup", [])]
    assert listing.annotations.empty
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no image in .*empty"):
        read(tmp_path / "empty", "unlabelled")


def test_folder_with_splits_and_a_link(tmp_path: Path) -> None:
    write(tmp_path / "root", {"train/cat/a.jpg": "", "val/cat/b.jpg": "", "test/dog/c.jpg": ""})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root/train/owl").symlink_to(tmp_path / "elsewhere")
    listing = read(tmp_path / "root", "folder")
    assert listing.classes == ("cat", "dog")
    assert [row[2:] for row in rows(listing)] == [("train-weaksup", [0]), ("train-fullsup", [0]), ("test", [1])]
    assert listing.problems == ()
    assert check_listing(tmp_path / "root", listing) == [
        ("train/owl", "train/owl", "linked folder, not followed (see follow_links)")
    ]
    write(tmp_path, {"elsewhere/d.jpg": ""})
    followed = read(tmp_path / "root", "folder", follow_links=True)
    assert [row[1] for row in rows(followed)][:2] == ["train/cat/a.jpg", "train/owl/d.jpg"]
    assert check_listing(tmp_path / "root", followed, follow_links=True) == []


def test_folder_of_linked_classes_says_what_was_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"store/cat/a.jpg": ""})
    (tmp_path / "root").mkdir()
    (tmp_path / "root/cat").symlink_to(tmp_path / "store/cat")
    with pytest.raises(InputError, match=r"no images; .*passed over: 1, 'cat' \(linked folder, .*follow_links"):
        read(tmp_path / "root", "folder")


def test_images_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    for place, name in enumerate(("a", "b.jfif", "c.v1.final", "d.JPG", "e.dat")):
        (tmp_path / "owl").mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / "owl" / name, ("JPEG", "PNG", "WEBP", "TIFF", "BMP")[place])
    write(tmp_path, {"owl/BMx.txt": "BMW is a car", "owl/P1 notes": "P1 is first", "owl/empty": ""})
    listing = read(tmp_path, "folder")
    assert listing.images["path"].tolist() == [
        f"owl/{name}" for name in ("a", "b.jfif", "c.v1.final", "d.JPG", "e.dat")
    ]
    assert [problem.path for problem in listing.problems] == ["owl/BMx.txt", "owl/P1 notes", "owl/empty"]


def test_images_of_one_name_keep_their_suffixes_as_ids(tmp_path: Path) -> None:
    write(tmp_path, {"owl/a.jpg": "", "owl/a.png": "", "owl/b.jpg": ""})
    assert read(tmp_path, "folder").images["image_id"].tolist() == ["owl/a.jpg", "owl/a.png", "owl/b"]


@pytest.mark.parametrize("name", ["01.png", "01.JPG", "01"])
def test_voc_pictures_of_other_suffixes(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"ImageSets/Main/trainval.txt": "01\n02\n", "Annotations/01.xml": xml(("cat", 0, (1, 1, 3, 2)))})
    (tmp_path / "JPEGImages").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "JPEGImages" / name, "PNG")
    assert read(tmp_path, "voc").images["path"].tolist() == [f"JPEGImages/{name}", "JPEGImages/02.jpg"]


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a subfolder per class"):
        read(tmp_path, "folder")


CUB = {
    "images.txt": "1 001.Owl/a.jpg\n2 002.Jay/b.jpg\n7 /etc/c.jpg\n",
    "classes.txt": "1 001.Owl\n2 002.Jay\n",
    "image_class_labels.txt": "1 1\n2 2\n7 3\n",
    "train_test_split.txt": "1 1\n2 0\n7 1\n",
    "bounding_boxes.txt": "1 1.5 2.0 3.0 4.0\n7 0 0 1 1\n2 0 0 5 6\n",
}


def test_cub(tmp_path: Path) -> None:
    write(tmp_path, CUB)
    png(tmp_path / "segmentations/001.Owl/a.png", [[0, 51, 127], [128, 204, 255]])
    listing = read(tmp_path, "cub")
    assert listing.classes == ("001.Owl", "002.Jay")
    assert rows(listing) == [
        ("001.Owl/a", "images/001.Owl/a.jpg", "train-weaksup", [0]),
        ("002.Jay/b", "images/002.Jay/b.jpg", "test", [1]),
        ("/etc/c", "/etc/c.jpg", "train-weaksup", [-1]),
    ]
    assert boxes(listing) == [[1.5, 2, 4.5, 6], [0, 0, 5, 6], [0, 0, 1, 1]]
    mask = listing.masks("001.Owl/a")
    assert mask is not None
    assert mask.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert listing.masks("002.Jay/b") is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_test_split.txt", "1 1\n", "train_test_split.txt: no line for image 2"),
        ("bounding_boxes.txt", "1 one 2 3 4\n2 0 0 5 6\n7 0 0 1 1\n", "bounding_boxes.txt: image 1: not as in CUB"),
        ("images.txt", "1\n", "images.txt, line 1: not as in CUB"),
        ("images.txt", "\n", "images.txt: no image in it"),
        ("train_test_split.txt", "1 2\n2 0\n7 1\n", "image 1: '2' is neither 0 nor 1"),
        ("classes.txt", None, "classes.txt: missing"),
        ("images.txt", None, "no images.txt"),
    ],
)
def test_cub_files_that_are_not_as_published(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    write(tmp_path, {key: value for key, value in CUB.items() if key != name} | ({name: content} if content else {}))
    with pytest.raises(InputError, match=message):
        read(tmp_path, "cub")


def xml(*objects: tuple[str, int, tuple[int, int, int, int]]) -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    parts = [
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
        + "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, box, strict=True))
        + "</bndbox></object>"
        for name, difficult, box in objects
    ]
    return f"<annotation>{''.join(parts)}</annotation>"


def test_voc(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "ImageSets/Main/trainval.txt": "01\n02\n03\n../../05\n",
            "ImageSets/Main/test.txt": "04\n",
            "ImageSets/Main/train_trainval.txt": "01 -1\n02  1\n03 -1\n",
            "ImageSets/Main/cat_trainval.txt": "01 -1\n02  0\n03 -1\n",
            "Annotations/01.xml": xml(("dog", 0, (1, 1, 3, 2)), ("cat", 1, (2, 2, 2, 2)), ("dog", 0, (5, 5, 9, 9))),
            "Annotations/03.xml": "<annotation><object>",
            "Annotations/04.xml": xml(),
        },
    )
    png(tmp_path / "SegmentationObject/01.png", [[0, 1, 255], [2, 3, 3]], "P")
    listing = read(tmp_path, "voc")
    assert listing.classes == ("cat", "dog", "train")
    assert [row[0] for row in rows(listing)] == ["01", "02", "03", "../../05", "04"]
    assert [row[3] for row in rows(listing)] == [[0, 1], [0, 2], [], [], []]
    assert [row[2] for row in rows(listing)] == ["train-weaksup"] * 4 + ["test"]
    assert boxes(listing) == [[0, 0, 3, 2], [1, 1, 2, 2], [4, 4, 9, 9]]
    assert listing.annotations["difficult"].tolist() == [False, True, False]
    assert listing.annotations["instance"].tolist() == [1, 2, 3]
    assert listing.problems == (("03", "JPEGImages/03.jpg", "unreadable annotation"),)
    mask = listing.masks("01")
    assert mask is not None
    assert mask.tolist() == [[0, 1, 255], [2, 3, 3]]


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (("train", "val"), {"train": "train-weaksup", "val": "test"}),
        (("train", "val", "trainval"), {"train": "train-weaksup", "val": "test"}),
        (("train", "val", "test"), {"train": "train-weaksup", "val": "train-weaksup", "test": "test"}),
        (("train", "val", "trainval", "test"), {"trainval": "train-weaksup", "test": "test"}),
        (("trainval",), {"trainval": "train-weaksup"}),
    ],
)
def test_voc_splits(tmp_path: Path, sets: tuple[str, ...], expected: dict[str, str]) -> None:
    write(tmp_path, {f"ImageSets/Main/{name}.txt": f"{name}\n" for name in sets})
    assert {row[0]: row[2] for row in rows(read(tmp_path, "voc"))} == expected


def test_voc_without_image_sets(tmp_path: Path) -> None:
    write(tmp_path, {"ImageSets/Main/test.txt": "1\n"})
    with pytest.raises(InputError, match=r"no ImageSets/Main/trainval\.txt"):
        read(tmp_path, "voc")


ENTITIES = '<!DOCTYPE a [<!ENTITY b "cat">]>' + xml(("&b;", 0, (1, 1, 2, 2)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_that_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.xml").write_bytes(xml(("cat", 0, (1, 1, 2, 2))).encode(encoding))
    objects = read_objects(tmp_path / "a.xml")
    assert objects is not None
    assert (objects.names, objects.boxes.tolist(), objects.difficult) == (["cat"], [[0, 0, 2, 2]], [False])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("content", [ENTITIES, xml(("", 0, (1, 1, 2, 2))), "", "<a>"])
def test_xml_that_is_refused(tmp_path: Path, content: str, encoding: str) -> None:
    (tmp_path / "a.xml").write_bytes(content.encode(encoding))
    assert read_objects(tmp_path / "a.xml") is None


@pytest.mark.parametrize(
    ("images", "annotations"), [("", "Annotations/val/"), ("Data/CLS-LOC/", "Annotations/CLS-LOC/val/")]
)
def test_imagenet(tmp_path: Path, images: str, annotations: str) -> None:
    write(
        tmp_path,
        {
            f"{images}train/n02/n02_1.JPEG": "",
            f"{images}train/n01/n01_1.JPEG": "",
            f"{images}train/loose.JPEG": "",
            f"{images}val/v1.JPEG": "",
            f"{images}val/v2.JPEG": "",
            f"{images}val/v3.JPEG": "",
            f"{images}val/v4.JPEG": "",
            f"{annotations}v1.xml": xml(("n02", 0, (0, 1, 5, 6)), ("n02", 0, (2, 2, 3, 3))),
            f"{annotations}v2.xml": xml(("n09", 0, (1, 1, 5, 6))),
            f"{annotations}v4.xml": xml(),
        },
    )
    listing = read(tmp_path, "imagenet")
    assert listing.classes == ("n01", "n02")
    assert {row[0]: (row[2], row[3]) for row in rows(listing)} == {
        "train/n01/n01_1": ("train-weaksup", [0]),
        "train/n02/n02_1": ("train-weaksup", [1]),
        "val/v1": ("test", [1]),
        "val/v2": ("test", [-1]),
        "val/v3": ("test", []),
        "val/v4": ("test", []),
    }
    assert boxes(listing)[:2] == [[-1, 0, 5, 6], [1, 1, 3, 3]]
    assert [(problem.image_id, problem.reason) for problem in listing.problems] == [
        ("val/v3", "no annotation"),
        ("val/v4", "unreadable annotation"),
    ]


def test_imagenet_lacks_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder train"):
        read(tmp_path, "imagenet")
    write(tmp_path, {"train/n01/a.jpg": "", "val/b.jpg": ""})
    with pytest.raises(InputError, match="no folder Annotations/val"):
        read(tmp_path, "imagenet")


def coco(*names: str, categories: dict[int, str] | None = None, **annotation: Any) -> str:
    images = [{"id": n, "file_name": name, "width": 6, "height": 4} for n, name in enumerate(names, 1)]
    shown = [{"image_id": n, "category_id": 3, "bbox": [1, 1, 2, 3]} | annotation for n in range(1, len(names) + 1)]
    kinds = [{"id": number, "name": name} for number, name in (categories or {3: "cat", 2: "dog"}).items()]
    return json.dumps({"images": images, "annotations": shown, "categories": kinds})


def test_coco(tmp_path: Path) -> None:
    other = json.loads(coco("d.jpg", categories={3: "dog", 9: "owl"}))
    other["annotations"].append({"image_id": 1, "category_id": 9})
    other["annotations"].append({"image_id": 1, "category_id": 4, "bbox": [0, 0, 1, 1], "iscrowd": 1})
    write(
        tmp_path,
        {"train-weaksup.json": coco("sub/a.b.jpg", "c.jpg"), "test.json": json.dumps(other), "images/c.jpg": ""},
    )
    listing = read(tmp_path, "coco")
    assert listing.classes == ("dog", "cat", "owl")
    assert rows(listing) == [
        ("sub/a.b", "images/sub/a.b.jpg", "train-weaksup", [1]),
        ("c", "images/c.jpg", "train-weaksup", [1]),
        ("d", "images/d.jpg", "test", [-1, 0, 2]),
    ]
    assert boxes(listing) == [[1, 1, 3, 4]] * 3 + [[0, 0, 1, 1]]
    assert listing.annotations["label"].tolist() == [1, 1, 0, -1]
    assert listing.annotations["difficult"].tolist() == [False, False, False, True]
    assert listing.masks("c") is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("train", "val"), ["train-weaksup", "test"]),
        (("train", "val", "test"), ["train-weaksup", "train-fullsup", "test"]),
        (("train", "test"), ["train-weaksup", "test"]),
        (("train",), ["train-weaksup"]),
        (("annotations/instances_train2017", "annotations/instances_val2017"), ["train-weaksup", "test"]),
    ],
)
def test_coco_usual_names(tmp_path: Path, files: tuple[str, ...], expected: list[str]) -> None:
    write(tmp_path, {f"{name}.json": coco(f"{Path(name).stem}.jpg") for name in files})
    write(tmp_path, {f"{Path(name).stem.removeprefix('instances_')}/{Path(name).stem}.jpg": "" for name in files})
    listing = read(tmp_path, "coco")
    assert listing.images["split"].tolist() == expected
    assert all((tmp_path / path).is_file() for path in listing.images["path"])


def test_coco_splits_by_parameter_and_duplicate_numbers(tmp_path: Path) -> None:
    content = json.loads(coco("a.jpg", "b.jpg"))
    content["images"][1]["id"] = 1
    content["annotations"] = []
    write(tmp_path, {"x.json": json.dumps(content)})
    listing = read(tmp_path, "coco", splits={"train-weaksup": "x.json"})
    assert [(problem.path, problem.reason) for problem in listing.problems] == [
        ("a.jpg", "duplicate id"),
        ("b.jpg", "duplicate id"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not COCO JSON"),
        ('{"images": [{}], "annotations": [], "categories": []}', "not COCO JSON"),
        ('{"images": [], "annotations": [{"image_id": 5}], "categories": []}', "image 5, which is not listed"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "without id or name"),
    ],
)
def test_coco_that_is_malformed(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path, {"train.json": content})
    with pytest.raises(InputError, match=message):
        read(tmp_path, "coco")


def test_coco_without_files_or_outside_the_root(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set `splits`"):
        read(tmp_path, "coco")
    write(tmp_path, {"root/a": "", "train.json": coco("a.jpg")})
    with pytest.raises(InputError, match="inside the data set's root"):
        read(tmp_path / "root", "coco", splits={"train-weaksup": "../train.json"})


def runs(mask: np.ndarray) -> list[int]:
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def pack(counts: list[int]) -> str:
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + (32 if more else 0))
            if not more:
                break
    return text


def test_run_lengths_plain_and_packed() -> None:
    rng = np.random.default_rng(0)
    for density in (0.0, 0.02, 0.5, 1.0):
        mask = rng.random((37, 53)) < density
        counts = runs(mask)
        np.testing.assert_array_equal(runs_mask(37, 53, counts), mask)
        assert unpack(pack(counts)) == counts


@pytest.mark.parametrize("counts", [[1, 2], [24, 1], [-1, 25], []])
def test_run_lengths_that_do_not_fit(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="add up"):
        runs_mask(4, 6, counts)


def test_polygons_cover_the_pixels_whose_centre_they_hold() -> None:
    expected = np.zeros((12, 10), dtype=bool)
    expected[3:8, 2:6] = True
    np.testing.assert_array_equal(polygons_mask(12, 10, [[2, 3, 6, 3, 6, 8, 2, 8]]), expected)
    triangle = polygons_mask(100, 100, [[0, 0, 100, 0, 0, 100]])
    assert abs(int(triangle.sum()) - 5000) < 110
    assert not polygons_mask(4, 4, []).any()


def test_the_smaller_object_lies_on_top() -> None:
    small, large = [[1, 1, 3, 1, 3, 3, 1, 3]], {"size": [4, 6], "counts": [0, 24]}
    for objects, top, below in (([small, large], 1, 2), ([large, small], 2, 1)):
        painted = instance_mask(4, 6, objects)
        assert painted[1:3, 1:3].tolist() == [[top] * 2] * 2
        assert (painted == below).sum() == 20
    with pytest.raises(ValueError, match="another size"):
        instance_mask(6, 4, [large])


def test_objects_are_painted_as_if_sorted_by_area() -> None:
    rng = np.random.default_rng(0)
    for height, width, count in [(1, 1, 3), (5, 3, 0), (9, 14, 1), (9, 14, 12), (20, 7, 254)] * 5:
        masks = [rng.random((height, width)) < rng.choice([0, 0.1, 0.5, 1]) for _ in range(count)]
        expected = np.zeros((height, width), dtype=np.uint8)
        for place in sorted(range(count), key=lambda place: -int(masks[place].sum())):
            expected[masks[place]] = place + 1
        objects = [{"size": [height, width], "counts": runs(mask)} for mask in masks]
        np.testing.assert_array_equal(instance_mask(height, width, objects), expected)


def test_many_objects_take_no_more_memory_than_one() -> None:
    corners = [[[x, y, x + 10, y, x + 10, y + 10, x, y + 10]] for x in range(0, 500, 50) for y in range(0, 500, 50)]
    peaks = []
    for objects in (corners[:1], corners):
        tracemalloc.start()
        instance_mask(500, 500, objects)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


CSV = "image,split,class,x1,y1,x2,y2,note\n"


def test_csv(tmp_path: Path) -> None:
    lines = "sub/b.jpg,valid,owl,1,2,3.5,4,\na.jpg,train,owl,0,0,2,2,x\na.jpg,train,cat,1,1,3,3,\nc.png,test,cat,,,,,\n"
    write(tmp_path, {"boxes.csv": CSV + lines, "images/a.jpg": ""})
    listing = read(tmp_path, "csv")
    assert listing.classes == ("cat", "owl")
    assert rows(listing) == [
        ("a", "images/a.jpg", "train-weaksup", [0, 1]),
        ("c", "images/c.png", "test", [0]),
        ("sub/b", "images/sub/b.jpg", "train-fullsup", [1]),
    ]
    assert boxes(listing) == [[1, 2, 3.5, 4], [0, 0, 2, 2], [1, 1, 3, 3]]
    assert listing.annotations["label"].tolist() == [1, 1, 0]


def test_a_csv_row_of_an_image_alone_is_no_class(tmp_path: Path) -> None:
    write(tmp_path, {"boxes.csv": f"{CSV}a.jpg,train,,,,,,\nb.jpg,train,cat,0,0,2,2,\nb.jpg,train,,,,,,\n"})
    listing = read(tmp_path, "csv")
    assert listing.classes == ("cat",)
    assert rows(listing) == [("a", "a.jpg", "train-weaksup", []), ("b", "b.jpg", "train-weaksup", [0])]
    assert boxes(listing) == [[0, 0, 2, 2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no boxes.csv at the root"),
        ("image,split\na.jpg,train\n", "no column 'class'"),
        ('image,"', "not a table"),
        (f"{CSV}a.jpg,dev,cat,0,0,1,1,\n", "line 2: 'dev': is no split"),
        (f"{CSV}a.jpg,train,cat,0,0,1,1,\nb.jpg,train,cat,0,0,1,,\n", "line 3: 'b.jpg': a box needs all"),
        (f"{CSV}a.jpg,train,cat,0,zero,1,1,\n", "line 2: 'a.jpg': a corner is no number"),
        (f"{CSV}a.jpg,train,,0,0,1,1,\n", "line 2: 'a.jpg': a box needs a class"),
        (f"{CSV}a.jpg,train,cat,0,0,1,1,\na.jpg,test,cat,0,0,1,1,\n", "line 3: 'a.jpg': is in two splits"),
    ],
)
def test_csv_that_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    write(tmp_path, {} if content is None else {"boxes.csv": content})
    with pytest.raises(InputError, match=message):
        read(tmp_path, "csv")
