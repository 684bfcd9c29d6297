"""Label masks: argmax and resizing by hand, the CRF, several splits, resuming, missing maps."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import segments
from wsol_core.core.crf_params import CRFParams
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.data.images import decode
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.data.label_masks import LabelMasks
from wsol_core.methods.sec.segments import EdgeParams, SegmentParams, crf_probabilities, segment, write_segments

NOWHERE = Path("nowhere.png")


def test_the_likeliest_class_of_each_pixel() -> None:
    """Four cells: background .6, class 1 of .4, class 2 of .7, and a tie, which the lower number wins."""
    maps = np.zeros((3, 1, 4), dtype=np.float32)
    maps[:, 0] = np.array([[0.4, 0.1, 0.3], [0.7, 0.4, 0.3], [0.9, 0.2, 0.7], [0.5, 0.5, 0.0]]).T
    mask = segment(NOWHERE, maps, 4, 1, None)
    assert mask.tolist() == [[0, 1, 2, 0]]
    assert mask.dtype == np.uint8
    wide = segment(NOWHERE, maps, 12, 5, None)
    assert wide.shape == (5, 12)
    assert (wide == wide[0]).all()
    assert wide[0, [1, 4, 7, 10]].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("maps", [np.zeros((4, 3, 3)), np.full((4, 3, 3), 0.25)])
def test_constant_maps_give_background(maps: np.ndarray) -> None:
    assert (segment(NOWHERE, maps, 7, 5, None) == 0).all()


def test_the_crf_draws_a_rough_map_to_the_edges() -> None:
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[10:30, 20:45] = 255
    rough = np.full((2, 4, 6), 0.3)
    rough[:, 1:3, 2:4] = 0.9
    crf = EdgeParams(appearance_weight=5, appearance_pixels=20, smoothness_pixels=1)
    probabilities = np.stack([1 - rough[0], rough[1]])
    found = crf_probabilities(probabilities, image, crf)
    assert found.shape == (2, 40, 60)
    assert np.allclose(found.sum(0), 1, atol=1e-4)
    assert np.array_equal(found.argmax(0) == 1, image[..., 0] == 255)


def test_the_crf_sees_a_reduced_image_and_the_mask_has_the_original_size(tmp_path: Path) -> None:
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[10:30, 20:44] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    rough = np.full((2, 4, 6), 0.3, dtype=np.float32)
    rough[:, 1:3, 2:4] = 0.9
    crf = EdgeParams(appearance_weight=5, appearance_pixels=10, smoothness_pixels=1, longest_side=30)
    mask = segment(tmp_path / "a.png", rough, 60, 40, crf)
    assert mask.shape == (40, 60)
    wrong = mask != (decode(tmp_path / "a.png")[..., 0] == 255)
    assert wrong.mean() < 0.02


@pytest.fixture
def project(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """Image k is background but for its k-th row, of class k mod 2; one image lies in a folder."""
    monkeypatch.chdir(tmp_path)
    table = small_index.table.copy()
    table.loc[20, "image_id"] = "z/20"
    table = table.sort_values("image_id").reset_index(drop=True)
    index = ImageIndex(table, small_index.classes, "squares", "images")
    write_index(Path("data/detection/index.parquet"), index)
    with create(Path("data/detection/outputs/sec/maps.h5"), Kind.SCORE, 24, 2) as writer:
        for image_id in table["image_id"]:
            maps = np.zeros((3, 24, 2))
            number = int(image_id[-2:])
            maps[[0, 1 + number % 2], number] = 1
            writer.append([image_id] * 3, [-1, 0, 1], maps)
    write(splits=["train-fullsup", "test"])
    return index


def write(**params: object) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"segments": {"sec": {"network": "sec"} | params}}))


@pytest.mark.usefixtures("project")
def test_stage_writes_masks_of_its_splits_twice_alike() -> None:
    segments.main("sec")
    masks = LabelMasks(Path("data/detection/segments/sec"))
    assert masks.image_ids == ["16", "17", "18", "19", "21", "22", "23", "z/20"]
    for name in masks:
        number = int(name[-2:])
        expected = np.zeros((48, 64), dtype=np.uint8)
        expected[2 * number : 2 * number + 2] = 1 + number % 2
        assert np.array_equal(masks.read(name), expected)
    first = {path: path.read_bytes() for path in Path("data/detection/segments").rglob("*") if path.is_file()}
    segments.main("sec")
    assert {path: path.read_bytes() for path in first} == first
    assert len(first) == 8
    assert not any(Path(".wsol").iterdir())


def test_a_killed_run_goes_on_and_leaves_no_half_file(project: ImageIndex, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "masks").mkdir(parents=True)
    done = np.full((48, 64), 2, dtype=np.uint8)
    Image.fromarray(done).save(scratch / "masks" / "21.png")
    (scratch / "masks" / ".22.png.77.tmp").write_bytes(b"half")
    with MapStore(Path("data/detection/outputs/sec/maps.h5")) as store:
        write_segments(store, project, SegmentParams(network="sec"), scratch, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == [
        "20.png", "21.png", "22.png", "23.png",
    ]  # fmt: skip
    assert (LabelMasks(tmp_path / "out").read("21") == 2).all()


def test_a_damaged_mask_is_discarded_with_a_word(
    project: ImageIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "scratch/masks"
    masks.mkdir(parents=True)
    (masks / "21.png").write_bytes(b"")
    Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(masks / "22.png")
    with MapStore(Path("data/detection/outputs/sec/maps.h5")) as store:
        write_segments(store, project, SegmentParams(network="sec"), tmp_path / "scratch", tmp_path / "out")
    assert all(LabelMasks(tmp_path / "out").read(name).shape == (48, 64) for name in ("21", "22"))
    said = capsys.readouterr().err
    assert said.count("warning: ") == 2
    assert "21.png: not a readable mask" in said


def test_missing_maps_and_too_many_classes_are_refused(project: ImageIndex, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    with MapStore(Path("data/detection/outputs/sec/maps.h5")) as store:
        more = ImageIndex(project.table, ("red", "green", "blue"), "squares", "images")
        with pytest.raises(InputError, match=r"sec/maps\.h5: image '21' has not a map of each class; make"):
            write_segments(store, more, SegmentParams(network="sec"), tmp_path / "scratch", tmp_path / "out")
        many = ImageIndex(project.table, tuple(map(str, range(255))), "squares", "images")
        with pytest.raises(InputError, match="'squares' has 255 classes; masks can tell 254 apart"):
            write_segments(store, many, SegmentParams(network="sec"), tmp_path / "scratch", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_crf_is_asked_for_by_default() -> None:
    assert SegmentParams(network="sec").crf is None
    assert SegmentParams.model_validate({"network": "sec", "crf": {}}).crf == EdgeParams()
    assert EdgeParams().appearance_pixels == CRFParams().appearance_pixels
