import json
import pickle
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from wsol_core.core.errors import InputError
from wsol_core.core.files import write_table
from wsol_core.core.map_store import Kind, create
from wsol_core.data.index import ImageIndex, write_annotations, write_index
from wsol_core.data.label_masks import LabelMasks, read_class_names
from wsol_core.external.ground_truth import Truth, read_ground_truth
from wsol_core.external.names import ImageNames
from wsol_core.external.predicted_boxes import read_boxes
from wsol_core.external.ranked_classes import read_ranked_classes
from wsol_core.external.score_maps import agnostic, open_maps

BOX = ["x0", "y0", "x1", "y1"]
SQUARE = [1, 2, 11, 2, 11, 7, 1, 7]


def no_mask(_: str) -> None:
    return None


@pytest.fixture
def truth() -> Truth:
    """Two images of 40x20, cat and dog."""
    images = pd.DataFrame({"image_id": ["a/one", "a/two"], "width": 40, "height": 20, "labels": [[0], [1]]})
    boxes = pd.DataFrame({"image_id": ["a/one", "a/two"], "label": [0, 1], "difficult": False})
    boxes[BOX] = np.array([[0, 0, 10, 10], [5, 5, 40, 20]], dtype=np.float32)
    return Truth(images, boxes, ("cat", "dog"), no_mask, {7: "a/one", 8: "a/two"}, {1: 0, 18: 1})


def coco_file(folder: Path, **changes) -> Path:
    content = {
        "images": [
            {"id": 7, "file_name": "one.jpg", "width": 40, "height": 20},
            {"id": 3, "file_name": "two.jpg", "width": 30, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2, 10, 5], "segmentation": [SQUARE]},
            {"id": 2, "image_id": 3, "category_id": 1, "bbox": [0, 0, 30, 30], "iscrowd": 0},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "cat"}],
    }  # fmt: skip
    path = folder / "truth.json"
    path.write_text(json.dumps(content | changes))
    return path


# ---------------------------------------------------------------- names


def test_an_image_is_found_by_id_file_name_number_and_last_part():
    names = ImageNames(["a/one", "b/two", "c/two", "12"], {5: "b/two"})
    assert [names.find(name) for name in ("a/one", "a/one.JPG", "one.png", 5, "5", "two", "12", "x/one", "three")] == [
        "a/one", "a/one", "a/one", "b/two", "b/two", None, "12", "a/one", None,
    ]  # fmt: skip


def test_a_name_keeps_a_dot_that_starts_no_image_suffix():
    assert ImageNames(["001.Albatross/x_1.5"]).find("001.Albatross/x_1.5") == "001.Albatross/x_1.5"


# ---------------------------------------------------------------- score maps


def test_a_folder_gives_maps_of_any_size_and_kind(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "one.jpg.npy", np.full((3, 5), 0.25))
    Image.fromarray(np.array([[0, 51, 255]], dtype=np.uint8)).save(tmp_path / "two.png")
    Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)).save(tmp_path / "three.png")
    np.save(tmp_path / "four.npy", np.array([[True]]))
    (tmp_path / "notes.txt").write_text("not a map")
    with open_maps(tmp_path) as maps:
        assert list(maps.names) == ["a/one.jpg", "four", "three", "two"]
        read = {name: maps.read(name, -1) for name in maps.names}
    assert read["a/one.jpg"].shape == (3, 5)
    assert read["two"].tolist() == [[0, np.float32(0.2), 1]]
    assert read["three"].tolist() == [[0, 1]]
    assert read["four"].tolist() == [[1]]
    assert all(score_map.dtype == np.float32 for score_map in read.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([[0.5, np.nan]]), "not finite"),
        (np.array([[0.5, np.inf]]), "not finite"),
        (np.array([[0.5, 1.01]]), r"\[0, 1\], here from 0.5 to 1.01"),
        (np.array([[-0.1, 0.5]]), r"\[0, 1\]"),
        (np.zeros((2, 3, 3)), r"shape \(h, w\), here float64 of shape \(2, 3, 3\)"),
        (np.zeros(3), "shape"),
        (np.zeros((0, 3)), "shape"),
        (np.zeros((2, 2), dtype=complex), "complex"),
        (np.array([["a"]]), "<U1"),
        (np.array([[255]], dtype=np.uint8), "scale them"),
        (np.array([[0.5, 1.00001]]), r"from 0.5 to 1.00001;"),
        (np.array([[0.5, -2e-6]]), r"from -2e-06 to 0.5;"),
        (np.array([[1e300]]), "not finite"),
    ],
)
def test_a_bad_map_is_named(tmp_path, content, message):
    np.save(tmp_path / "bird.npy", content)
    with open_maps(tmp_path) as maps, pytest.raises(InputError, match=rf"bird\.npy: .*{message}"):
        maps.read("bird", -1)


def test_rounding_beyond_the_range_is_clipped(tmp_path):
    np.save(tmp_path / "bird.npy", np.array([[-1e-7, 0.5, 1.0000001]]))
    with open_maps(tmp_path) as maps:
        assert maps.read("bird", -1).tolist() == [[0, 0.5, 1]]


def test_a_map_that_claims_more_than_its_file_holds_is_refused_at_once(tmp_path):
    np.save(tmp_path / "bird.npy", np.zeros((2, 2), np.float32))
    content = (tmp_path / "bird.npy").read_bytes()
    (tmp_path / "bird.npy").write_bytes(content.replace(b"(2, 2), }      ", b"(200000, 200000)}"[:14] + b" "))
    with open_maps(tmp_path) as maps, pytest.raises(InputError, match="not a readable map"):
        maps.read("bird", -1)


class Trap:
    opened = False

    def __reduce__(self):
        return setattr, (Trap, "opened", True)


@pytest.mark.parametrize("kind", ["object array", "bare pickle"])
def test_nothing_is_unpickled(tmp_path, kind):
    if kind == "object array":
        np.save(tmp_path / "bird.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    else:
        (tmp_path / "bird.npy").write_bytes(pickle.dumps(Trap()))
    with open_maps(tmp_path) as maps, pytest.raises(InputError, match=r"bird\.npy: not a readable map"):
        maps.read("bird", -1)
    assert not Trap.opened


def test_damaged_and_coloured_files_are_named(tmp_path):
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (2, 2)).save(tmp_path / "colour.png")
    Image.new("P", (2, 2)).save(tmp_path / "palette.png")
    with (tmp_path / "many.npy").open("wb") as stream:
        np.savez(stream, a=np.zeros((1, 1)))
    with open_maps(tmp_path) as maps:
        for name, message in (
            ("cut", "readable"), ("text", "readable"), ("colour", "RGB"), ("palette", "grey"), ("many", "several"),
        ):  # fmt: skip
            with pytest.raises(InputError, match=rf"{name}\.\w+: .*{message}"):
                maps.read(name, -1)


def test_folder_refuses_nothing_two_maps_and_links_that_lead_out(tmp_path):
    inside = tmp_path / "maps"
    inside.mkdir()
    with pytest.raises(InputError, match="map in it"), open_maps(inside):
        pass
    with pytest.raises(InputError, match="neither a folder"), open_maps(tmp_path / "nowhere"):
        pass
    np.save(inside / "a.npy", np.zeros((1, 1)))
    Image.new("L", (1, 1)).save(inside / "a.png")
    with pytest.raises(InputError, match="second map"), open_maps(inside):
        pass
    (inside / "a.png").unlink()
    np.save(tmp_path / "secret.npy", np.zeros((1, 1)))
    (inside / "b.npy").symlink_to(tmp_path / "secret.npy")
    with pytest.raises(InputError, match="out of the folder"), open_maps(inside):
        pass


def test_a_map_store_and_a_plain_file_are_read_alike(tmp_path):
    maps = np.random.default_rng(0).random((3, 4, 6), dtype=np.float32).astype(np.float16)
    with create(tmp_path / "store.h5", Kind.SCORE, 4, 6) as writer:
        writer.append(["a", "b", "b"], [-1, 0, 2], maps)
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["maps"], file["image_id"], file["label"] = maps, ["a", "b", "b"], [-1, 0, 2]
    for name in ("store.h5", "plain.h5"):
        with open_maps(tmp_path / name) as source:
            assert list(source.names) == ["a", "b"]
            assert source.labels("b") == [0, 2]
            np.testing.assert_array_equal(source.read("b", 2), maps[2].astype(np.float32))
            np.testing.assert_array_equal(agnostic(source, "a", 5), maps[0])
            np.testing.assert_array_equal(agnostic(source, "b", 0), maps[1])
            np.testing.assert_array_equal(agnostic(source, "b", None), maps[1:].max(axis=0))
            assert agnostic(source, "b", 1) is None


def test_a_plain_file_may_have_no_labels_bytes_or_numbers_for_names(tmp_path):
    for ids, names in ((np.array([b"x", b"y"]), ["x", "y"]), (np.array([7, 12]), ["12", "7"])):
        with h5py.File(tmp_path / "plain.h5", "w") as file:
            file["maps"], file["image_id"] = np.zeros((2, 1, 1)), ids
        with open_maps(tmp_path / "plain.h5") as source:
            assert list(source.names) == names
            assert source.labels(names[0]) == [-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"image_id": ["a"]}, "needs the datasets"),
        ({"maps": np.zeros((1, 2, 2)), "image_id": [["a"]]}, "one dimension"),
        ({"maps": np.zeros((1, 2, 2)), "image_id": ["a"], "label": [[1]]}, "one dimension"),
        ({"maps": np.zeros((1, 2, 2))}, "needs the datasets"),
        ({"maps": np.zeros((2, 2)), "image_id": ["a", "b"]}, "of shape"),
        ({"maps": np.zeros((3, 2, 2)), "image_id": ["a", "b"]}, "of shape"),
        ({"maps": np.zeros((2, 2, 2)), "image_id": ["a", "b"], "label": [1]}, "of shape"),
        ({"maps": np.zeros((2, 2, 2)), "image_id": ["a", "a"]}, "two maps"),
        ({"maps": np.zeros((0, 2, 2)), "image_id": np.array([], dtype="S1")}, "no map"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, content, message):
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        for key, values in content.items():
            file[key] = values
    with pytest.raises(InputError, match=message), open_maps(tmp_path / "maps.h5"):
        pass


@pytest.mark.parametrize("kind", ["external link", "soft link", "raw file", "virtual"])
def test_maps_that_lie_elsewhere_are_never_followed(tmp_path, kind):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["maps"] = np.zeros((1, 2, 2))
    (tmp_path / "raw").write_bytes(np.zeros((1, 2, 2)).tobytes())
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["image_id"] = ["a"]
        if kind == "external link":
            file["maps"] = h5py.ExternalLink("other.h5", "maps")
        elif kind == "soft link":
            file["own"], file["maps"] = np.zeros((1, 2, 2)), h5py.SoftLink("/own")
        elif kind == "raw file":
            file.create_dataset("maps", (1, 2, 2), "f8", external=[(str(tmp_path / "raw"), 0, 32)])
        else:
            layout = h5py.VirtualLayout((1, 2, 2), "f8")
            layout[:] = h5py.VirtualSource("other.h5", "maps", (1, 2, 2))
            file.create_virtual_dataset("maps", layout)
    with (
        pytest.raises(
            InputError, match=r"no data set 'maps' in the file itself|the values of '/maps' lie in other files"
        ),
        open_maps(tmp_path / "maps.h5"),
    ):
        pass


def test_what_is_no_file_of_scores_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InputError, match="not a readable HDF5"), open_maps(tmp_path / "text.h5"):
        pass
    with create(tmp_path / "labels.h5", Kind.TRISTATE, 1, 1) as writer:
        writer.append(["a"], [-1], np.full((1, 1, 1), 255))
    with pytest.raises(InputError, match="tri-state"), open_maps(tmp_path / "labels.h5"):
        pass
    with h5py.File(tmp_path / "nan.h5", "w") as file:
        file["maps"], file["image_id"] = np.full((1, 1, 1), np.nan), ["bird"]
    with open_maps(tmp_path / "nan.h5") as maps, pytest.raises(InputError, match="'bird': the map has values"):
        maps.read("bird", -1)


# ---------------------------------------------------------------- ground truth


def test_coco(tmp_path):
    truth = read_ground_truth(coco_file(tmp_path))
    assert truth.classes == ("cat", "dog")
    assert truth.images.to_dict("records") == [
        {"image_id": "one", "labels": [1], "width": 40, "height": 20},
        {"image_id": "two", "labels": [0], "width": 30, "height": 30},
    ]
    assert truth.boxes[BOX].to_numpy().tolist() == [[1, 2, 11, 7], [0, 0, 30, 30]]
    assert truth.names.find(7) == "one"
    assert (truth.find_class(18, ""), truth.find_class("dog", "")) == (1, 1)
    mask = truth.mask("one")
    assert mask is not None
    assert mask.shape == (20, 40)
    assert mask[3:6, 2:10].all()
    assert truth.mask("two") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 7, "file_name": "one.jpg"}, {"id": 3, "file_name": "two.jpg"}]}, "height"),
        ({"images": []}, "not listed"),
        ({"images": [], "annotations": []}, "no image"),
        ({"categories": []}, "unknown class"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [35, 0, 40, 20]}]}, "'one' .40x20. .*convention"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [50, 0, 9, 9]}]}, "outside"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [5, 5, 0, 9]}]}, "empty"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [5, 5, float("nan"), 9]}]}, "empty"),
    ],
)
def test_bad_coco_is_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_ground_truth(coco_file(tmp_path, **changes))


def test_an_image_with_an_object_that_has_no_mask_has_none(tmp_path):
    masked = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 5], "segmentation": [SQUARE]}
    bare = {"image_id": 7, "category_id": 1, "bbox": [20, 2, 10, 5]}
    (tmp_path / "half").mkdir()
    assert read_ground_truth(coco_file(tmp_path, annotations=[masked])).mask("one") is not None
    assert read_ground_truth(coco_file(tmp_path / "half", annotations=[masked, bare])).mask("one") is None


def test_one_box_in_a_hundred_may_reach_outside(tmp_path):
    fine = [{"image_id": 3, "category_id": 1, "bbox": [0, 0, 5, 5]}] * 99
    truth = read_ground_truth(
        coco_file(tmp_path, annotations=[*fine, {"image_id": 7, "category_id": 1, "bbox": [30, 0, 20, 20]}])
    )
    assert truth.cut == 1
    assert truth.boxes[BOX].to_numpy()[0].tolist() == [30, 0, 40, 20]


FINE = [{"image_id": 3, "category_id": 1, "bbox": [0, 0, 5, 5]}] * 8


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([5, 5, 0, 9], "empty box"),
        ([50, 0, 9, 9], "box outside the image"),
        ([5, 5, float("nan"), 9], "box of no four finite numbers"),
        ([5, 5, 10**400, 9], "box of no four finite numbers"),
        ([5, 5, 9], "box of no four finite numbers"),
        ("5 5 9 9", "box of no four finite numbers"),
    ],
)
def test_a_bad_box_costs_the_box(tmp_path, box, reason):
    bad = {"image_id": 7, "category_id": 18, "bbox": box}
    truth = read_ground_truth(coco_file(tmp_path, annotations=[*FINE, bad]))
    assert truth.counts == {"objects_cut": 0, "objects_left_out": 1}
    assert truth.left_out[["image_id", "reason"]].to_numpy().tolist() == [["one", reason]]
    assert len(truth.boxes) == 8
    assert truth.images["image_id"].tolist() == ["one", "two"]


def test_many_boxes_outside_are_of_another_convention(tmp_path):
    bad = [{"image_id": 7, "category_id": 18, "bbox": [50, 0, 9, 9]}] * 4
    with pytest.raises(InputError, match="4 of 12 boxes are so; is it of another convention"):
        read_ground_truth(coco_file(tmp_path, annotations=[*FINE, *bad]))


@pytest.mark.parametrize("changes", [{"width": 10**30}, {"height": 0}, {"width": float("inf")}, {"width": "wide"}])
def test_sizes_that_no_image_has_are_refused(tmp_path, changes):
    image = {"id": 7, "file_name": "one.jpg", "width": 40, "height": 20}
    with pytest.raises(InputError, match="an image without id, file_name, width or height"):
        read_ground_truth(coco_file(tmp_path, images=[image | changes], annotations=[]))


def test_masks_of_giant_images_are_not_painted(tmp_path):
    image = {"id": 7, "file_name": "one.jpg", "width": 100_000, "height": 100_000}
    shown = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 5], "segmentation": [SQUARE]}
    truth = read_ground_truth(coco_file(tmp_path, images=[image], annotations=[shown]))
    with pytest.raises(InputError, match="'one': more than 89478485 pixels"):
        truth.mask("one")


def xml(width: str = "40", box: tuple = (1, 1, 10, 5), name: str = "cat") -> str:
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return (
        f"<annotation><size><width>{width}</width><height>20</height></size>"
        f"<object><name>{name}</name><difficult>1</difficult><bndbox>{corners}</bndbox></object></annotation>"
    )


def test_voc_folder_and_image_set(tmp_path):
    folder = tmp_path / "Annotations"
    folder.mkdir()
    (folder / "one.xml").write_text(xml())
    (folder / "two.xml").write_text(xml(name="dog"))
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("two\n")
    (tmp_path / "SegmentationObject").mkdir()
    Image.fromarray(np.array([[0, 3, 255]], dtype=np.uint8)).save(tmp_path / "SegmentationObject" / "two.png")
    for place in (folder, tmp_path):
        truth = read_ground_truth(place)
        assert truth.images["image_id"].tolist() == ["one", "two"]
        assert truth.images[["width", "height"]].to_numpy().tolist() == [[40, 20]] * 2
        assert truth.classes == ("cat", "dog")
        assert truth.boxes[BOX].to_numpy().tolist() == [[0, 0, 10, 5]] * 2
        assert truth.boxes["difficult"].all()
    chosen = read_ground_truth(tmp_path / "ImageSets" / "Main" / "test.txt")
    assert chosen.images["image_id"].tolist() == ["two"]
    mask = chosen.mask("two")
    assert mask is not None
    assert mask.tolist() == [[0, 1, 255]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (xml(width=""), "size"),
        ("<annotation>", "not a readable"),
        ('<!DOCTYPE a [<!ENTITY e "x">]>' + xml(), "not a readable"),
        (xml(box=(0, 0, 400, 400)), "outside"),
    ],
)
def test_bad_voc_is_refused(tmp_path, content, message):
    (tmp_path / "one.xml").write_text(content)
    with pytest.raises(InputError, match=message):
        read_ground_truth(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "missing", "a/b"])
def test_an_image_set_names_files_of_its_folder(tmp_path, name):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "secret.xml").write_text(xml())
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text(name)
    with pytest.raises(InputError, match=r"outside the folder|missing"):
        read_ground_truth(tmp_path / "ImageSets" / "Main" / "test.txt")


def test_an_image_set_is_text(tmp_path):
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_ground_truth(tmp_path / "ImageSets" / "Main" / "test.txt")


def giant_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pieces = (header, b"IDAT" + zlib.compress(b"\0"), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(piece) - 4) + piece + struct.pack(">I", zlib.crc32(piece)) for piece in pieces
    )


def cub_folder(root: Path) -> Path:
    (root / "images" / "001.Bird").mkdir(parents=True)
    for name in ("x", "y"):
        Image.new("RGB", (40, 20)).save(root / "images" / "001.Bird" / f"{name}.jpg")
    (root / "images.txt").write_text("1 001.Bird/x.jpg\n2 001.Bird/y.jpg\n")
    (root / "classes.txt").write_text("1 001.Bird\n")
    (root / "image_class_labels.txt").write_text("1 1\n2 1\n")
    (root / "train_test_split.txt").write_text("1 1\n2 0\n")
    (root / "bounding_boxes.txt").write_text("1 0 0 9 9\n2 5.0 6.0 10.0 11.0\n")
    return root


def test_cub_counts_its_test_split(tmp_path):
    truth = read_ground_truth(cub_folder(tmp_path))
    assert truth.images.to_dict("records") == [{"image_id": "001.Bird/y", "labels": [0], "width": 40, "height": 20}]
    assert truth.boxes[BOX].to_numpy().tolist() == [[5, 6, 15, 17]]
    assert truth.mask("001.Bird/y") is None
    assert truth.elsewhere == {"001.Bird/x"}


def test_cub_needs_its_images_for_their_size(tmp_path):
    root = cub_folder(tmp_path)
    (root / "images" / "001.Bird" / "y.jpg").unlink()
    with pytest.raises(InputError, match=r"y\.jpg: not a readable image"):
        read_ground_truth(root)
    (root / "images.txt").write_text("1 001.Bird/x.jpg\n2 ../../y.jpg\n")
    with pytest.raises(InputError, match="outside the root"):
        read_ground_truth(root)


def test_cub_sizes_of_images_that_are_turned_or_giant(tmp_path):
    root = cub_folder(tmp_path)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 20)).save(root / "images" / "001.Bird" / "y.jpg", exif=exif)
    assert read_ground_truth(root).images[["width", "height"]].to_numpy().tolist() == [[20, 40]]
    (root / "images" / "001.Bird" / "y.jpg").write_bytes(giant_png(20_000, 30_000))
    assert read_ground_truth(root).images[["width", "height"]].to_numpy().tolist() == [[20_000, 30_000]]


METADATA = {
    "image_ids.txt": "v/b.jpg\nv/a.jpg\n",
    "class_labels.txt": "v/a.jpg,0\nv/b.jpg,2\n",
    "image_sizes.txt": "v/a.jpg,40,20\nv/b.jpg,30,30\n",
    "localization.txt": "v/a.jpg,1,2,11,7\nv/b.jpg,0,0,30,30\nv/b.jpg,3,3,6,6\n",
}


def metadata(root: Path, **changes: str) -> Path:
    for name, content in METADATA.items():
        (root / name).write_text(changes.get(name.removesuffix(".txt"), content))
    return root


def test_metadata_folder_with_boxes(tmp_path):
    truth = read_ground_truth(metadata(tmp_path))
    assert truth.images.to_dict("records") == [
        {"image_id": "v/a", "width": 40, "height": 20, "labels": [0]},
        {"image_id": "v/b", "width": 30, "height": 30, "labels": [2]},
    ]
    assert truth.boxes["image_id"].tolist() == ["v/a", "v/b", "v/b"]
    assert truth.boxes["label"].tolist() == [0, 2, 2]
    assert truth.boxes[BOX].to_numpy().tolist() == [[1, 2, 11, 7], [0, 0, 30, 30], [3, 3, 6, 6]]
    assert truth.find_class("2", "") == 2
    assert truth.names.find("v/a.jpg") == "v/a"


def test_metadata_folder_with_masks(tmp_path):
    root, masks = (
        metadata(tmp_path, localization="v/a.jpg,m1.png,i.png\nv/a.jpg,m2.png,i.png\nv/b.jpg,m1.png,\n"),
        tmp_path / "m",
    )
    masks.mkdir()
    for name, row in (("m1", [255, 0, 0, 0]), ("m2", [0, 255, 0, 0]), ("i", [0, 255, 255, 0])):
        Image.fromarray(np.array([row], dtype=np.uint8)).save(masks / f"{name}.png")
    truth = read_ground_truth(root, masks)
    assert len(truth.boxes) == 0
    found = [truth.mask(name) for name in ("v/a", "v/b")]
    assert [None if mask is None else mask.tolist() for mask in found] == [[[1, 1, 255, 0]], [[1, 0, 0, 0]]]
    with pytest.raises(InputError, match="not a readable PNG"):
        read_ground_truth(root).mask("v/a")
    (masks / "m2.png").write_bytes(giant_png(20_000, 20_000))
    with pytest.raises(InputError, match=r"m2\.png: not a readable PNG"):
        read_ground_truth(root, masks).mask("v/a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_labels": "v/a.jpg,0\n"}, "class_labels.*no line for image 'v/b'"),
        ({"class_labels": "v/a.jpg,0\nv/b.jpg,cat\n"}, "class_labels.*whole number"),
        ({"class_labels": "v/a.jpg,0\nv/b.jpg,-1\n"}, "negative"),
        ({"image_sizes": "v/a.jpg,40\nv/b.jpg,30\n"}, "2 columns"),
        ({"localization": "v/a.jpg,1,2,3,4\n"}, "localization.*no line"),
        ({"localization": METADATA["localization.txt"] + "v/c.jpg,1,2,3,4\n"}, "'v/c' is not in image_ids"),
        ({"localization": "v/a.jpg,1,2,x,7\nv/b.jpg,0,0,30,30\n"}, "not a number"),
        ({"localization": "v/a.jpg,1,2,110,70\nv/b.jpg,0,0,300,30\n"}, "outside"),
        ({"image_ids": "v/a.jpg\nv/a.jpg\nv/b.jpg\n"}, "twice"),
        ({"image_ids": ""}, "not a table"),
    ],
)
def test_bad_metadata_is_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_ground_truth(metadata(tmp_path, **changes))


def test_metadata_masks_stay_in_their_folder(tmp_path):
    root = tmp_path / "metadata"
    root.mkdir()
    Image.new("L", (1, 1)).save(tmp_path / "secret.png")
    truth = read_ground_truth(metadata(root, localization="v/a.jpg,../secret.png,\nv/b.jpg,../secret.png,\n"))
    with pytest.raises(InputError, match="outside the folder"):
        truth.mask("v/a")


def test_a_prepared_data_set_counts_its_test_split(tmp_path):
    index = pd.DataFrame(
        [("a", "a.jpg", "", "test", [0], 4, 2), ("b", "b.jpg", "", "train-weaksup", [0], 4, 2)],
        columns=["image_id", "path", "digest", "split", "labels", "width", "height"],
    )
    write_index(tmp_path / "index.parquet", ImageIndex(index, ("cat",), "x"))
    boxes = pd.DataFrame({"image_id": ["a", "b"], "label": 0, "difficult": False, "instance": 1})
    boxes[BOX] = np.array([[0, 0, 2, 2], [0, 0, 1, 1]], dtype=np.float32)
    write_annotations(tmp_path / "truth/annotations.parquet", boxes)
    (tmp_path / "truth/masks").mkdir()
    Image.fromarray(np.array([[0, 2], [0, 0]], dtype=np.uint8)).save(tmp_path / "truth/masks/a.png")
    truth = read_ground_truth(tmp_path)
    assert truth.images["image_id"].tolist() == ["a"]
    assert truth.boxes[BOX].to_numpy().tolist() == [[0, 0, 2, 2]]
    assert truth.elsewhere == {"b"}
    assert read_ground_truth(tmp_path, split="train-weaksup").images["image_id"].tolist() == ["b"]
    with pytest.raises(InputError, match="no image of this split; it has 2 in others"):
        read_ground_truth(tmp_path, split="train-fullsup")
    mask = truth.mask("a")
    assert mask is not None
    assert mask.tolist() == [[0, 1], [0, 0]]


def test_no_ground_truth_says_what_it_may_be(tmp_path):
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(InputError, match="a folder of VOC"):
            read_ground_truth(path)


# ---------------------------------------------------------------- predicted boxes


def results(path: Path, *rows: dict) -> Path:
    path.write_text(json.dumps(rows))
    return path


ROW = {"image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 4], "score": 0.5}


def test_coco_results(tmp_path, truth):
    path = results(
        tmp_path / "boxes.json", ROW, ROW | {"image_id": "two.jpg", "category_id": "cat"}, ROW | {"score": 0.75}
    )
    boxes, cut, left_out = read_boxes(path, truth)
    assert (cut, len(left_out)) == (0, 0)
    assert boxes["image_id"].tolist() == ["a/one", "a/one", "a/two"]
    assert boxes["score"].tolist() == [0.75, 0.5, 0.5]
    assert boxes["label"].tolist() == [1, 1, 0]
    assert boxes[BOX].to_numpy().tolist() == [[1, 2, 4, 6]] * 3
    empty, *_ = read_boxes(results(tmp_path / "boxes.json"), truth)
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"image_id": 99}, "no ground truth for image '99'"),
        (ROW | {"category_id": 2}, "unknown class '2'"),
        (ROW | {"category_id": "kat"}, "unknown class 'kat'; did you mean 'cat'"),
        (ROW | {"bbox": [1, 2, 3]}, "not COCO results"),
        (ROW | {"bbox": None}, "not COCO results"),
        (ROW | {"score": "high"}, "not COCO results"),
        (ROW | {"score": float("nan")}, "'a/one' has a score that is not finite"),
        (ROW | {"bbox": [1, 2, float("inf"), 4]}, "not finite"),
        (ROW | {"bbox": [10, 2, 39, 15]}, "'a/one' .40x20. has a box .*another convention"),
        (ROW | {"bbox": [41, 2, 3, 4]}, "outside"),
        (ROW | {"bbox": [1, 2, 0, 4]}, "empty"),
        (ROW | {"bbox": [0.1, 0.2, 0.5, 0.5]}, "not shares"),
        ({"image_id": 7}, "not COCO results .KeyError"),
        (ROW | {"image_id": [7]}, "numbers or names"),
        (ROW | {"category_id": None}, "numbers or names"),
    ],
)
def test_bad_coco_results_are_refused(tmp_path, truth, row, message):
    with pytest.raises(InputError, match=message):
        read_boxes(results(tmp_path / "boxes.json", row), truth)


def test_bad_boxes_are_left_out_and_numbers_may_be_floats(tmp_path, truth):
    rows = [ROW | {"image_id": 7.0, "category_id": 18.0}, ROW, ROW, ROW | {"bbox": [1, 2, 0, 4], "score": 0.01}]
    found = read_boxes(results(tmp_path / "boxes.json", *rows, ROW | {"bbox": [1, 2, float("inf"), 4]}), truth)
    assert len(found.boxes) == 3
    assert found.left_out["reason"].tolist() == ["empty box", "box of no four finite numbers"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "are a list"),
        ("[" * 100_000, "nested too deeply"),
        ('["\\ud800"]', "half a surrogate pair"),
        ('[{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1%s}]' % ("0" * 400), "OverflowError"),
        ("[1%s]" % ("0" * 5000), "not JSON"),
    ],
)
def test_what_is_no_list_of_results_is_refused(tmp_path, truth, text, message):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_boxes(tmp_path / "boxes.json", truth)


def test_voc_results(tmp_path, truth):
    (tmp_path / "comp4_det_test_cat.txt").write_text("one 0.5 1 1 10 10\ntwo 0.25 3 4 40 20\n")
    (tmp_path / "comp4_det_test_dog.txt").write_text("")
    for path in (tmp_path, tmp_path / "comp4_det_test_cat.txt"):
        boxes, *_ = read_boxes(path, truth)
        assert boxes["image_id"].tolist() == ["a/one", "a/two"]
        assert boxes[BOX].to_numpy().tolist() == [[0, 0, 10, 10], [2, 3, 40, 20]]
        assert boxes["label"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"boxes.txt": ""}, "comp4_det_test_CLASS"),
        ({"comp4_det_test_cow.txt": ""}, "unknown class 'cow'"),
        ({"comp4_det_test_cat.txt": "", "comp4_det_val_cat.txt": ""}, "several image sets"),
        ({"comp4_det_test_cat.txt": "", "comp3_det_test_cat.txt": ""}, "two files"),
        ({"comp4_det_test_cat.txt": "one 0.5 1 1 10\n"}, "lines must be"),
        ({"comp4_det_test_cat.txt": "one high 1 1 10 10\n"}, "lines must be"),
        ({"comp4_det_test_cat.txt": "three 0.5 1 1 10 10\n"}, "no ground truth for image 'three'"),
        ({"comp4_det_test_cat.txt": "one 0.5 1 1 60 10\n"}, "convention"),
    ],
)
def test_bad_voc_results_are_refused(tmp_path, truth, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_boxes(tmp_path, truth)


def test_a_table_of_the_pipeline(tmp_path, truth):
    table = pd.DataFrame({"image_id": ["a/one", "elsewhere"], "score": 1.0, "label": -1})
    table[BOX] = np.array([[0, 0, 5, 5], [0, 0, 900, 900]], dtype=np.float32)
    write_table(tmp_path / "boxes.parquet", table)
    with pytest.raises(InputError, match="no ground truth for image 'elsewhere'"):
        read_boxes(tmp_path / "boxes.parquet", truth)
    boxes, *_ = read_boxes(tmp_path / "boxes.parquet", replace(truth, elsewhere=frozenset({"elsewhere"})))
    assert boxes[["image_id", "label"]].to_numpy().tolist() == [["a/one", -1]]
    write_table(tmp_path / "boxes.parquet", table.assign(label=2))
    with pytest.raises(InputError, match="unknown class number 2"):
        read_boxes(tmp_path / "boxes.parquet", truth)
    write_table(tmp_path / "boxes.parquet", table.drop(columns="score"))
    with pytest.raises(InputError, match="no column 'score'"):
        read_boxes(tmp_path / "boxes.parquet", truth)


def test_no_boxes_are_refused(tmp_path, truth):
    with pytest.raises(InputError, match="COCO results"):
        read_boxes(tmp_path / "boxes.csv", truth)


# ---------------------------------------------------------------- ranked classes


def test_ranked_classes(tmp_path, truth):
    (tmp_path / "c.csv").write_text("image_id,class,score\none.jpg,cat,0.1\na/one,18,0.9\n8,dog,3\n")
    assert read_ranked_classes(tmp_path / "c.csv", truth).tolist() == [[1, 0, -1, -1, -1], [1, -1, -1, -1, -1]]


def test_of_many_classes_the_first_five_are_kept(tmp_path, truth):
    many = Truth(truth.images, truth.boxes, tuple("abcdefg"), no_mask)
    rows = [f"a/two,{name},{score}" for score, name in enumerate("abcdefg")]
    (tmp_path / "c.csv").write_text("\n".join(["image_id,class,score", *rows]))
    assert read_ranked_classes(tmp_path / "c.csv", many).tolist() == [[-1] * 5, [6, 5, 4, 3, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,class\none,cat\n", "no column 'score'"),
        ("image_id,class,score\nthree,cat,1\n", "no ground truth for image 'three'"),
        ("image_id,class,score\none,dogg,1\n", "unknown class 'dogg'; did you mean 'dog'"),
        ("image_id,class,score\none,cat,high\n", "'one' has a score"),
        ("image_id,class,score\none,cat,nan\n", "'one' has a score"),
        ("image_id,class,score\none,cat,1\na/one,cat,2\n", "a class twice"),
        ("", "not a readable CSV"),
    ],
)
def test_bad_ranked_classes_are_refused(tmp_path, truth, text, message):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_ranked_classes(tmp_path / "c.csv", truth)


# ---------------------------------------------------------------- label masks


def test_label_masks_are_indices_with_or_without_palette(tmp_path):
    values = np.array([[0, 15, 255]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "grey.png")
    coloured = Image.fromarray(values, mode="P")
    coloured.putpalette([200, 10, 10] * 256)
    coloured.save(tmp_path / "palette.png")
    masks = LabelMasks(tmp_path)
    assert list(masks) == ["grey", "palette"]
    assert [masks.read(name).tolist() for name in masks] == [values.tolist()] * 2


def test_bad_label_masks_are_refused(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        LabelMasks(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no PNG"):
        LabelMasks(tmp_path)
    Image.new("RGB", (1, 1)).save(tmp_path / "colour.png")
    (tmp_path / "text.png").write_text("no picture")
    masks = LabelMasks(tmp_path)
    for name, message in (("colour", "mode RGB"), ("text", "not a readable PNG")):
        with pytest.raises(InputError, match=message):
            masks.read(name)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "out.png").symlink_to(tmp_path / "text.png")
    with pytest.raises(InputError, match="out of the folder"):
        LabelMasks(tmp_path / "sub")


def test_class_names(tmp_path):
    (tmp_path / "names.txt").write_text("background\n\ncat\n")
    assert read_class_names(tmp_path / "names.txt") == ("background", "cat")
    for text in ("", "cat\ncat\n"):
        (tmp_path / "names.txt").write_text(text)
        with pytest.raises(InputError, match="each once"):
            read_class_names(tmp_path / "names.txt")
    with pytest.raises(InputError, match="missing, or not a regular file"):
        read_class_names(tmp_path / "missing.txt")
