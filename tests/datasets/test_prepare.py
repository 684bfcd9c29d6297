import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from stages import prepare as stage
from wsol_core.core.errors import InputError
from wsol_core.data.images import decode
from wsol_core.data.index import read_annotations, read_index
from wsol_core.data.paths import is_inside
from wsol_core.datasets.listing import DataParams, Problem
from wsol_core.datasets.prepare import prepare, split_off
from wsol_core.datasets.readers import folder
from wsol_core.datasets.validate import check_listing

WIDTH, HEIGHT = 20, 10


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def picture(root: Path, *names: str) -> None:
    for name in names:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (len(name), 0, 0)).save(place)


def run(root: Path, reader: str, **options: Any) -> Path:
    output = root.parent / "data" / "mine"
    prepare(DataParams(name="mine", source="files.parquet", reader=reader, **options), root, "mine", output)
    return output


def cub(root: Path, lines: list[tuple[str, int, int, tuple[float, ...]]]) -> None:
    """Lines of path, class, is-train, box."""
    numbered = list(enumerate(lines, 1))
    (root / "classes.txt").write_text("1 owl\n2 jay\n")
    (root / "images.txt").write_text("".join(f"{n} {path}\n" for n, (path, *_) in numbered))
    (root / "image_class_labels.txt").write_text("".join(f"{n} {label}\n" for n, (_, label, *_) in numbered))
    (root / "train_test_split.txt").write_text("".join(f"{n} {train}\n" for n, (_, _, train, _) in numbered))
    boxes = "".join(f"{n} {' '.join(map(str, box))}\n" for n, (*_, box) in numbered)
    (root / "bounding_boxes.txt").write_text(boxes)


GOOD = (2, 2, 5, 5)
BAD = {
    "owl/truncated.jpg": "truncated",
    "owl/zero.jpg": "zero bytes",
    "owl/text.jpg": "not an image",
    "owl/bomb.jpg": "larger than max_pixels",
    "owl/gone.jpg": "listed but missing",
    "owl/twice.jpg": "duplicate id",
    "owl/label.jpg": "label out of range",
    "owl/outside.jpg": "box outside the image",
    "owl/nan.jpg": "box of no four finite numbers",
    "owl/over.jpg": "box reaches outside the image",
    "owl/empty.jpg": "empty box",
    "owl/link.jpg": "link out of the root, not followed (see follow_links)",
    "../owl/up.jpg": "path outside the root",
    "/etc/absolute.jpg": "path outside the root",
}


@pytest.fixture
def bad(root: Path) -> Path:
    names = ("good", "rounded", "twice", "label", "outside", "nan", "over", "empty", "unlisted", "truncated")
    picture(root / "images", *(f"owl/{name}.jpg" for name in names))
    owls = root / "images" / "owl"
    (owls / "truncated.jpg").write_bytes((owls / "good.jpg").read_bytes()[:-50])
    (owls / "zero.jpg").write_bytes(b"")
    (owls / "text.jpg").write_text("404")
    (owls / "bomb.jpg").write_bytes(b"P4 60000 60000\n")
    picture(root.parent, "owl/up.jpg", "linked.jpg")
    (owls / "link.jpg").symlink_to(root.parent / "linked.jpg")
    boxes: dict[str, tuple[float, ...]] = {
        "owl/outside.jpg": (WIDTH + 5, 0, 4, 5),
        "owl/over.jpg": (0, 0, WIDTH + 2, 5),
        "owl/nan.jpg": (float("nan"), 0, 1, 1),
        "owl/empty.jpg": (3, 3, 0, 2),
    }
    lines = [(path, 3 if "label" in path else 1, 1, boxes.get(path, GOOD)) for path in BAD]
    lines += [("owl/twice.jpg", 1, 0, GOOD), ("owl/good.jpg", 1, 1, GOOD)]
    cub(root, [*lines, ("owl/rounded.jpg", 2, 0, (-1, -0.5, WIDTH + 2, HEIGHT + 1.5))])
    return root


@pytest.mark.parametrize("reader", ["coco", "csv"])
def test_a_doubled_slash_does_not_lead_out_of_the_root(root: Path, reader: str) -> None:
    own = root.parent / "own.png"
    Image.new("L", (3, 3)).save(own)
    before = own.read_bytes()
    inner = str(own)[1:].removesuffix("png") + "jpg"
    picture(root / "images", inner)
    name, box = f"images//{inner}", [1, 1, 4, 4]
    shown = {"image_id": 1, "category_id": 1, "bbox": box, "segmentation": [[1, 1, 5, 1, 5, 5]]}
    entry = {"id": 1, "file_name": name, "width": WIDTH, "height": HEIGHT}
    content = {"images": [entry], "annotations": [shown], "categories": [{"id": 1, "name": "owl"}]}
    (root / "train.json").write_text(json.dumps(content))
    (root / "boxes.csv").write_text(f"image,split,class,x1,y1,x2,y2\n{name},train,owl,1,1,5,5\n")
    output = run(root, reader)
    assert read_index(output / "index.parquet").table["image_id"].tolist() == [inner.removesuffix(".jpg")]
    assert own.read_bytes() == before
    assert len(list((output / "truth" / "masks").rglob("*.png"))) == (reader == "coco")


@pytest.mark.parametrize("name", ["/etc/own", "../../own", "a/../../own"])
def test_ids_that_lead_out_of_the_root_are_bad_images(root: Path, name: str) -> None:
    picture(root, "owl/a.jpg")
    listing = folder.read(root, DataParams(name="mine", source="files.parquet", reader="folder"))
    listing = replace(listing, images=listing.images.assign(image_id=name))
    assert check_listing(root, listing) == [Problem(name, "owl/a.jpg", "path outside the root")]


def test_fail_reports_every_bad_image_together(bad: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(bad, "cub")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("1 truncated", "1 zero bytes", "2 path outside the root", "first ", "skip"):
        assert part in message
    assert "box" not in message
    assert message.count("jpg' (") == 5
    table = pd.read_csv("logs/bad_images_mine.csv")
    found = dict(zip(table["path"], table["reason"], strict=True))
    expected = {path if path.startswith("/") else f"images/{path}": reason for path, reason in BAD.items()}
    assert found == expected | {"images/owl/unlisted.jpg": "unlisted"}
    assert not list((bad.parent / "data").rglob("*.p*"))


def test_skip_leaves_them_out_and_lists_them(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = run(bad, "cub", on_bad_image="skip")
    index, annotations = read_index(output / "index.parquet"), read_annotations(output / "truth/annotations.parquet")
    stay = ["owl/empty", "owl/good", "owl/nan", "owl/outside", "owl/over", "owl/rounded"]
    assert index.table["image_id"].tolist() == stay
    assert index.table["split"].tolist() == ["train-weaksup"] * 5 + ["test"]
    assert index.table[["width", "height"]].to_numpy().tolist() == [[WIDTH, HEIGHT]] * 6
    assert annotations["image_id"].tolist() == ["owl/good", "owl/over", "owl/rounded"]
    assert annotations[["x0", "y0", "x1", "y1"]].to_numpy().tolist() == [
        [2, 2, 7, 7],
        [0, 0, WIDTH, 5],
        [0, 0, WIDTH, HEIGHT],
    ]
    assert annotations["instance"].tolist() == [0, 0, 0]
    skipped = pd.read_csv(output / "skipped.csv")
    assert skipped.columns.tolist() == ["image_id", "path", "reason"]
    assert len(skipped) == len(BAD) + 1
    assert skipped.equals(skipped.sort_values("path", ignore_index=True))
    assert (output / "truth/masks").is_dir()
    assert not list((output / "truth/masks").iterdir())
    warning = capsys.readouterr().err
    for part in ("1 box of no four finite numbers", "1 empty box", "1 unlisted", "1 duplicate id", "skipped.csv"):
        assert part in warning
    assert warning.splitlines()[0].startswith("warning: 'mine': ")


def test_the_same_bytes_twice_and_in_several_processes(bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def contents(workers: int) -> dict[str, bytes]:
        monkeypatch.setenv("WSOL_WORKERS", str(workers))
        output = bad.parent / f"out{workers}"
        params = DataParams(name="mine", source="files.parquet", reader="cub", on_bad_image="skip")
        prepare(params, bad, "mine", output)
        paths = (path for path in output.rglob("*") if path.is_file())
        return {path.relative_to(output).as_posix(): path.read_bytes() for path in paths}

    first = contents(1)
    assert set(first) == {"index.parquet", "truth/annotations.parquet", "skipped.csv"}
    assert contents(1) == first
    assert contents(2) == first


def test_images_of_one_name_both_stay(root: Path) -> None:
    picture(root, "owl/a.jpg", "owl/a.png", "owl/b.jpg")
    output = run(root, "folder")
    assert pd.read_csv(output / "skipped.csv").empty
    assert read_index(output / "index.parquet").table["image_id"].tolist() == ["owl/a.jpg", "owl/a.png", "owl/b"]


def test_no_training_image_is_left(root: Path) -> None:
    picture(root / "images", "a.jpg")
    cub(root, [("a.jpg", 1, 0, GOOD)])
    with pytest.raises(InputError, match=r"no training image is left: see data\.mine in params\.yaml"):
        run(root, "cub")


def test_where_no_image_is_left_the_reasons_are_named_and_listed(root: Path) -> None:
    for number in range(7):
        (root / "owl").mkdir(exist_ok=True)
        (root / f"owl/{number}.jpg").write_text("text")
    (root / "owl/7.jpg").symlink_to(root / "nothing")
    message = r"left: 1 link to nothing, 7 not an image; first 'owl/0.jpg' \(not an image\).*skipped\.csv"
    with pytest.raises(InputError, match=message):
        run(root, "folder", on_bad_image="skip")
    assert len(pd.read_csv("data/mine/skipped.csv")) == 8
    assert not Path("data/mine/truth").exists()


def test_links_out_of_the_root_are_followed_where_the_parameters_say_so(root: Path) -> None:
    picture(root.parent / "store", "jay/a.png", "b.png")
    picture(root, "owl/c.png")
    (root / "jay").symlink_to(root.parent / "store/jay")
    (root / "owl/b.png").symlink_to(root.parent / "store/b.png")
    output = run(root, "folder", on_bad_image="skip")
    assert pd.read_csv(output / "skipped.csv")[["path", "reason"]].to_numpy().tolist() == [
        ["jay", "linked folder, not followed (see follow_links)"],
        ["owl/b.png", "link out of the root, not followed (see follow_links)"],
    ]
    assert read_index(output / "index.parquet").classes == ("owl",)
    output = run(root, "folder", follow_links=True)
    assert read_index(output / "index.parquet").table["path"].tolist() == ["jay/a.png", "owl/b.png", "owl/c.png"]
    assert pd.read_csv(output / "skipped.csv").empty


def test_the_same_bytes_under_two_classes_are_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(root, "owl/a.png", "owl/bb.png", "jay/ccc.png")
    for copy in ("jay/other.png", "owl/again.png"):
        (root / copy).write_bytes((root / "owl/a.png").read_bytes())
    run(root, "folder")
    warning = capsys.readouterr().err
    assert "1 images are the same bytes under two classes: 'jay/other.png' = 'owl/a.png'" in warning
    (root / "jay/other.png").unlink()
    run(root, "folder")
    assert "same bytes" not in capsys.readouterr().err


def annotated_before_turn(root: Path, orientation: int) -> np.ndarray:
    """A COCO set of one JPEG of WIDTH x HEIGHT, its red object drawn and annotated in the file's own order."""
    pixels = np.zeros((HEIGHT * 8, WIDTH * 8, 3), np.uint8)
    pixels[16:40, 24:80] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (root / "images").mkdir()
    Image.fromarray(pixels).save(root / "images/a.png", exif=exif)
    shape = {"id": 1, "file_name": "a.png", "width": WIDTH * 8, "height": HEIGHT * 8}
    square = [[24, 16, 80, 16, 80, 40, 24, 40]]
    shown = {"image_id": 1, "category_id": 1, "bbox": [24, 16, 56, 24], "segmentation": square}
    content = {"images": [shape], "annotations": [shown], "categories": [{"id": 1, "name": "owl"}]}
    (root / "train.json").write_text(json.dumps(content))
    return decode(root / "images/a.png")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_annotations_made_before_the_turn_are_refused_or_turned_along(root: Path, orientation: int) -> None:
    displayed = annotated_before_turn(root, orientation)
    with pytest.raises(InputError, match=r"annotated before the turn that EXIF asks for \(see swapped_sizes\)"):
        run(root, "coco")
    output = run(root, "coco", swapped_sizes="turn")
    box = read_annotations(output / "truth/annotations.parquet")[["x0", "y0", "x1", "y1"]].to_numpy()[0]
    rows, columns = np.nonzero(displayed[..., 0] > 128)
    assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    with Image.open(output / "truth/masks/a.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask) == 1, displayed[..., 0] > 128)


def test_sizes_that_differ_otherwise(root: Path) -> None:
    annotated_before_turn(root, 1)
    content = json.loads((root / "train.json").read_text())
    del content["annotations"][0]["segmentation"]
    for size, reason in (((80, 160), "width and height swapped in the annotation"), ((40, 20), "another size than")):
        content["images"][0] |= dict(zip(("width", "height"), size, strict=True))
        (root / "train.json").write_text(json.dumps(content))
        if reason.startswith("another"):
            output = run(root, "coco")
            assert len(read_index(output / "index.parquet").table) == 1
            assert pd.read_csv(output / "skipped.csv")["reason"][0].startswith(reason)
        else:
            with pytest.raises(InputError, match=reason):
                run(root, "coco")


def test_masks_of_a_giant_image_that_is_none_are_not_painted(root: Path) -> None:
    annotated_before_turn(root, 1)
    content = json.loads((root / "train.json").read_text())
    content["images"][0] |= {"width": 1_000_000, "height": 1_000_000}
    content["annotations"][0]["segmentation"] = {"size": [1_000_000, 1_000_000], "counts": [0, 10**12]}
    (root / "train.json").write_text(json.dumps(content))
    start = time.monotonic()
    with pytest.raises(InputError, match="1 mask of another size"):
        run(root, "coco")
    assert time.monotonic() - start < 1


def test_classes_restrict_labels_boxes_images_and_masks(root: Path) -> None:
    picture(root, "images/a.png", "images/b.png")
    half = {"size": [HEIGHT, WIDTH], "counts": [0, 100, 100]}
    other = {"size": [HEIGHT, WIDTH], "counts": [100, 100]}
    shown = [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "segmentation": half},
        {"image_id": 1, "category_id": 2, "bbox": [10, 0, 10, 10], "segmentation": other},
        {"image_id": 2, "category_id": 1, "bbox": [1, 1, 2, 2]},
    ]
    images = [
        {"id": n, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT} for n, name in ((1, "a"), (2, "b"))
    ]
    kinds = [{"id": n, "name": name} for n, name in enumerate(("owl", "jay"), 1)]
    (root / "train.json").write_text(json.dumps({"images": images, "annotations": shown, "categories": kinds}))
    output = run(root, "coco")
    assert [labels.tolist() for labels in read_index(output / "index.parquet").table["labels"]] == [[0, 1], [0]]
    assert read_annotations(output / "truth/annotations.parquet")["instance"].tolist() == [1, 2, 0]
    with Image.open(output / "truth/masks" / "a.png") as mask:
        assert mask.mode == "L"
        np.testing.assert_array_equal(np.asarray(mask), np.repeat([[1, 2]], 10, axis=1).repeat(HEIGHT, 0))
    output = run(root, "coco", classes=["jay"])
    index = read_index(output / "index.parquet")
    assert (index.classes, index.table["image_id"].tolist(), index.table["labels"][0].tolist()) == (
        ("jay",),
        ["a"],
        [0],
    )
    assert read_annotations(output / "truth/annotations.parquet")[["label", "instance"]].to_numpy().tolist() == [[0, 2]]
    with Image.open(output / "truth/masks" / "a.png") as mask:
        assert np.unique(np.asarray(mask)[:, :10]).tolist() == [0]
    output = run(root, "coco", one_class=True)
    assert read_index(output / "index.parquet").table["image_id"].tolist() == ["b"]
    assert read_annotations(output / "truth/annotations.parquet")["image_id"].tolist() == ["b"]
    assert [path.name for path in (output / "truth/masks").iterdir()] == []
    for classes, message in ((["jai"], "did you mean 'jay'"), (["jay", "jay"], "named twice")):
        with pytest.raises(InputError, match=message):
            run(root, "coco", classes=classes)


@pytest.mark.parametrize(
    ("shape", "content", "reason"),
    [
        ((HEIGHT, WIDTH + 1), None, "mask of another size"),
        ((WIDTH, HEIGHT), None, "mask of swapped width and height"),
        ((HEIGHT, WIDTH), b"none", "unreadable mask"),
    ],
)
def test_bad_mask(root: Path, shape: tuple[int, int], content: bytes | None, reason: str) -> None:
    picture(root / "images", "a.jpg", "b.jpg")
    cub(root, [("a.jpg", 1, 1, GOOD), ("b.jpg", 1, 1, GOOD)])
    (root / "segmentations").mkdir()
    Image.fromarray(np.full(shape, 255, np.uint8)).save(root / "segmentations" / "a.png")
    if content:
        (root / "segmentations" / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        run(root, "cub")
    output = run(root, "cub", on_bad_image="skip")
    assert read_index(output / "index.parquet").table["image_id"].tolist() == ["b"]
    assert pd.read_csv(output / "skipped.csv")["reason"].tolist() == [reason]


def test_truth_appears_whole_or_not_at_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(root / "images", "a.jpg")
    cub(root, [("a.jpg", 1, 1, GOOD)])
    output = run(root, "cub")
    before = (output / "truth/annotations.parquet").read_bytes()

    def fails(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("wsol_core.datasets.prepare.write_annotations", fails)
    with pytest.raises(OSError, match="disk full"):
        run(root, "cub")
    assert (output / "truth/annotations.parquet").read_bytes() == before
    assert sorted(path.name for path in output.iterdir()) == ["index.parquet", "skipped.csv", "truth"]


def table(labels: list[list[int]], split: str = "train-weaksup") -> pd.DataFrame:
    return pd.DataFrame({"image_id": [f"i{n}" for n in range(len(labels))], "split": split, "labels": labels})


def test_split_off_takes_so_many_of_each_class_and_leaves_one() -> None:
    images = table([[0]] * 10 + [[1]] * 2 + [[2]])
    moved = split_off(images, "train-fullsup", 3, 0)
    taken = moved[moved["split"] == "train-fullsup"]["labels"].map(lambda row: row[0]).value_counts()
    assert taken.to_dict() == {0: 3, 1: 1}
    assert (images["split"] == "train-weaksup").all()
    again = split_off(images.iloc[::-1].reset_index(drop=True), "train-fullsup", 3, 0).iloc[::-1]
    assert again["split"].tolist() == moved["split"].tolist()
    assert split_off(images, "train-fullsup", 3, 1)["split"].tolist() != moved["split"].tolist()


def test_split_off_is_stable_when_other_images_go() -> None:
    images = table([[0]] * 50)
    before = split_off(images, "test", 5, 0)
    taken = before.index[before["split"] == "test"]
    kept = images.drop(index=[n for n in range(0, 50, 2) if n not in taken])
    assert (split_off(kept, "test", 5, 0)["split"] == "test").pipe(lambda s: s.index[s]).tolist() == taken.tolist()


def test_split_off_with_several_labels() -> None:
    rng = np.random.default_rng(0)
    images = table([sorted(set(rng.integers(0, 6, 3).tolist())) for _ in range(60)] + [[6, 0], []])
    moved = split_off(images, "train-fullsup", 2, 0)
    left = moved[moved["split"] == "train-weaksup"]["labels"].explode().dropna()
    taken = moved[moved["split"] == "train-fullsup"]["labels"].explode().value_counts()
    assert set(left) == set(range(7))
    assert all(taken[label] >= 2 for label in range(6))
    assert 6 not in taken


def test_split_off_leaves_a_given_split_alone_and_takes_none_of_test() -> None:
    images = pd.concat([table([[0]] * 5), table([[0]] * 5, "test")], ignore_index=True)
    pd.testing.assert_frame_equal(split_off(images, "test", 2, 0), images)
    pd.testing.assert_frame_equal(split_off(images, "train-fullsup", 0, 0), images)
    assert split_off(images, "train-fullsup", 2, 0)["split"].tolist()[5:] == ["test"] * 5


def test_stage_carves_a_folder_inside_the_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_WORKERS", "1")
    picture(root, *(f"{name}/{n}.png" for name in ("owl", "jay") for n in range(6)))
    Path("params.yaml").write_text(
        "data: {mine: {name: mine, source: root, reader: folder, fullsup_per_class: 1, test_per_class: 2}}"
    )
    stage.main("mine")
    index = read_index(Path("data/mine/index.parquet"))
    assert index.root == Path("root")
    counts = index.table.groupby("split")["labels"].apply(lambda rows: sorted(row[0] for row in rows)).to_dict()
    assert counts == {"test": [0, 0, 1, 1], "train-fullsup": [0, 1], "train-weaksup": [0] * 3 + [1] * 3}
    Path("params.yaml").write_text("data: {mine: {name: mine, source: nowhere, reader: folder}}")
    with pytest.raises(InputError, match="no folder 'nowhere'"):
        stage.main("mine")


def test_stage_prepares_a_folder_without_labels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_ROOT_SKIES", str(root))
    picture(root, "b.png", "a/c.png", "a/c.jpg")
    (root / "MANIFEST.tsv").write_text("no image")
    line = "data: {background: {name: skies, source: SOURCE, reader: unlabelled}}"
    Path("params.yaml").write_text(line.replace("SOURCE", "data/background/files.parquet"))
    stage.main("background")
    index = read_index(Path("data/background/index.parquet"))
    assert index.table["path"].tolist() == ["a/c.jpg", "a/c.png", "b.png"]
    assert index.table["labels"].map(len).tolist() == [0, 0, 0]
    assert set(index.table["split"]) == {"train-weaksup"}
    assert (index.classes, index.root) == ((), root.resolve())
    assert read_annotations(Path("data/background/truth/annotations.parquet")).empty
    skipped = pd.read_csv("data/background/skipped.csv")
    assert skipped[["path", "reason"]].to_numpy().tolist() == [["MANIFEST.tsv", "no image by name and first bytes"]]
    for number in range(7):
        (root / f"bad{number}.jpg").write_text("text")
    with pytest.raises(InputError, match=r"7 not an image; first 'bad0.jpg' \(not an image\), .*'bad4.jpg'"):
        stage.main("background")
    Path("params.yaml").write_text(line.replace("SOURCE", "nowhere"))
    with pytest.raises(InputError, match=r"data\.background\.source: no folder 'nowhere'"):
        stage.main("background")


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "../elsewhere"},
        {"source": "/elsewhere"},
        {"source": ""},
        {"name": "../x"},
        {"reader": "xml"},
        {"fullsup_per_class": -1},
        {"splits": {"train": "a.json"}},
        {"max_pixels": 0},
        {"swapped_sizes": "maybe"},
        {"clases": ["owl"]},
    ],
)
def test_parameters_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataParams.model_validate({"name": "mine", "source": "root", "reader": "coco"} | wrong)


def test_is_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    picture(root, "a/b.png")
    picture(tmp_path, "c.png")
    (root / "out").symlink_to(tmp_path)
    (root / "in.png").symlink_to(root / "a" / "b.png")
    (root / "link.png").symlink_to(tmp_path / "c.png")
    assert all(is_inside(root, path) for path in ("a/b.png", "in.png", "none/x.png", "a..b.png"))
    for path in ("../c.png", "a/../../c.png", "/etc/passwd", "out/c.png", "link.png", "a\0b"):
        assert not is_inside(root, path)
