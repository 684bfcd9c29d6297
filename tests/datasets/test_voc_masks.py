"""PASCAL VOC 2012 in miniature: palette masks of classes and objects, void, and the lists of the segmentation set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsol_core.configuration.presets import preset_parameters
from wsol_core.core.errors import InputError
from wsol_core.data.class_masks import ClassMasks
from wsol_core.data.index import read_annotations, read_index
from wsol_core.datasets.listing import VOID, DataParams
from wsol_core.datasets.prepare import prepare
from wsol_core.datasets.readers.voc_masks import NAMES, read_instances
from wsol_core.datasets.readers.xml_objects import Objects

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 6, 4
CAT, DOG = NAMES.index("cat") + 1, NAMES.index("dog") + 1
SPLITS = {"train-weaksup": "ImageSets/Segmentation/trainaug.txt", "test": "ImageSets/Segmentation/val.txt"}


def palette_png(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values, np.uint8), "P")
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    picture.save(path)


def objects(*rows: tuple[str, tuple[int, int, int, int]]) -> Objects:
    boxes = np.array([box for _, box in rows], np.float32).reshape(-1, 4)
    return Objects([name for name, _ in rows], boxes, [False] * len(rows))


def annotate(root: Path, name: str, found: Objects) -> None:
    parts = []
    for label, (x0, y0, x1, y1) in zip(found.names, found.boxes.astype(int).tolist(), strict=True):
        box = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        parts.append(f"<object><name>{label}</name><bndbox>{box}</bndbox></object>")
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(exist_ok=True)
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{''.join(parts)}</annotation>")
    noise = np.random.default_rng(len(name)).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "JPEGImages" / f"{name}.jpg")


CLASSES = [
    [0, CAT, CAT, VOID, DOG, DOG],
    [0, CAT, CAT, VOID, DOG, DOG],
    [0, 0, 0, VOID, VOID, VOID],
    [CAT, 0, 0, 0, 0, 0],
]
NUMBERS = [
    [0, 1, 1, 255, 2, 2],
    [0, 1, 1, 255, 2, 2],
    [0, 0, 0, 255, 255, 255],
    [3, 0, 0, 0, 0, 0],
]
SHOWN = objects(("cat", (1, 0, 3, 2)), ("dog", (4, 0, 6, 2)), ("cat", (0, 3, 1, 4)))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`val` has both masks; of `trainaug` one image has a mask of classes and one has none; a fourth is in no list."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "VOC2012"
    sets = root / "ImageSets"
    for folder, lists in (("Main", {"train": "aug\n", "val": "val\nunused\n"}), ("Segmentation", {"val": "val\n"})):
        (sets / folder).mkdir(parents=True)
        for name, content in lists.items():
            (sets / folder / f"{name}.txt").write_text(content)
    (sets / "Segmentation" / "trainaug.txt").write_text(
        "/JPEGImages/aug.jpg /SegmentationClassAug/aug.png\n\nplain\n", encoding="utf-8"
    )
    for name in ("val", "aug", "plain", "unused"):
        annotate(root, name, SHOWN)
    palette_png(root / "SegmentationClass/val.png", CLASSES)
    palette_png(root / "SegmentationObject/val.png", NUMBERS)
    palette_png(root / "SegmentationClassAug/aug.png", CLASSES)
    return root


def prepared(root: Path, **options: Any) -> Path:
    output = root.parent / "data"
    params = DataParams(name="voc2012", source="files.parquet", reader="voc", splits=SPLITS, **options)
    prepare(params, root, "detection", output)
    return output


def class_masks(data: Path) -> ClassMasks:
    return ClassMasks(
        data / "truth/masks", read_index(data / "index.parquet"), read_annotations(data / "truth/annotations.parquet")
    )


def test_lists_decide_and_masks_are_the_published_ones(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = prepared(root)
    assert "unlisted" not in capsys.readouterr().err
    table = read_index(data / "index.parquet").table
    assert dict(zip(table["image_id"], table["split"], strict=True)) == {
        "aug": "train-weaksup",
        "plain": "train-weaksup",
        "val": "test",
    }
    assert read_annotations(data / "truth/annotations.parquet").groupby("image_id")["instance"].agg(list).to_dict() == {
        "aug": [1, 2, 3],
        "plain": [0, 0, 0],
        "val": [1, 2, 3],
    }
    with Image.open(data / "truth/masks/val.png") as mask:
        assert mask.mode == "L"
        assert np.asarray(mask).tolist() == NUMBERS
    truth = class_masks(data)
    assert truth.images["image_id"].tolist() == ["aug", "val"]
    expected = np.select([np.array(CLASSES) == CAT, np.array(CLASSES) == DOG], [1, 2], CLASSES)
    for name in ("aug", "val"):
        assert truth.read(name).tolist() == expected.tolist()


def test_classes_that_are_left_out_become_background_and_void_stays(root: Path) -> None:
    expected = np.select([np.array(CLASSES) == CAT, np.array(CLASSES) == DOG], [0, 1], CLASSES)
    assert class_masks(prepared(root, classes=["dog"])).read("val").tolist() == expected.tolist()


@pytest.mark.parametrize("path", ["ImageSets/Segmentation/none.txt", "../list.txt", "ImageSets"])
def test_a_list_that_is_not_there_is_refused(root: Path, path: str) -> None:
    (root.parent / "list.txt").write_text("val\n")
    params = DataParams(name="v", source="files.parquet", reader="voc", splits=SPLITS | {"test": path})
    with pytest.raises(InputError, match=f"{path}: no such list of images"):
        prepare(params, root, "detection", root.parent / "data")


@pytest.mark.parametrize("line", ["../../secret", "/etc/passwd", "/JPEGImages/../../up.jpg"])
def test_a_name_that_leads_out_of_the_root_is_a_bad_image(root: Path, line: str) -> None:
    with (root / "ImageSets/Segmentation/val.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(InputError, match="1 path outside the root"):
        prepared(root)


def test_classes_decide_over_numbers(tmp_path: Path) -> None:
    """Numbers of another class, or of no object, are not believed; boxes then tell which object a pixel belongs to."""
    found = objects(("cat", (0, 0, 6, 1)), ("dog", (0, 0, 1, 1)), ("cat", (2, 0, 4, 1)))
    palette_png(tmp_path / "SegmentationClass/a.png", [[CAT, CAT, CAT, CAT, DOG, NAMES.index("cow") + 1]])
    palette_png(tmp_path / "SegmentationObject/a.png", [[1, 2, 7, 3, 2, 1]])
    instances = read_instances(tmp_path, "a", found)
    assert instances is not None
    assert instances.tolist() == [[1, 1, 3, 3, 2, VOID]]


def test_classes_alone_and_numbers_alone(tmp_path: Path) -> None:
    palette_png(tmp_path / "SegmentationClassAug/a.png", CLASSES)
    palette_png(tmp_path / "SegmentationObject/b.png", [[1, 2, 3, 4, 255, 0]])
    alone = read_instances(tmp_path, "a", SHOWN)
    assert alone is not None
    assert alone.tolist() == [[1 if value == 3 else value for value in row] for row in NUMBERS[:3]] + [
        [3, 0, 0, 0, 0, 0]
    ]
    numbers = read_instances(tmp_path, "b", SHOWN)
    assert numbers is not None
    assert numbers.tolist() == [[1, 2, 3, VOID, VOID, 0]]
    assert read_instances(tmp_path, "c", SHOWN) is None
    assert read_instances(tmp_path, "../VOC/SegmentationObject/b", SHOWN) is None


def test_classes_of_another_set_are_not_vocs(tmp_path: Path) -> None:
    palette_png(tmp_path / "SegmentationClass/a.png", [[1]])
    palette_png(tmp_path / "SegmentationObject/a.png", [[1]])
    numbers = read_instances(tmp_path, "a", objects(("wolf", (0, 0, 1, 1))))
    assert numbers is not None
    assert numbers.tolist() == [[1]]


@pytest.mark.parametrize(
    ("classes", "numbers", "message"), [([[21]], [[1]], "21 is no class"), ([[CAT]], [[1, 1]], "differ in size")]
)
def test_masks_that_do_not_fit_are_refused(tmp_path: Path, classes: Any, numbers: Any, message: str) -> None:
    palette_png(tmp_path / "SegmentationClass/a.png", classes)
    palette_png(tmp_path / "SegmentationObject/a.png", numbers)
    with pytest.raises(ValueError, match=message):
        read_instances(tmp_path, "a", SHOWN)


def test_a_mask_in_colour_is_a_bad_image(root: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "SegmentationClass/val.png")
    with pytest.raises(InputError, match="1 unreadable mask"):
        prepared(root)


def test_the_preset_reads_the_lists_of_the_paper() -> None:
    params = preset_parameters("voc12", ROOT).data["detection"]
    assert (params.reader, params.splits) == ("voc", SPLITS)
