"""Localization cues by hand: thresholds, ties, conflicts, images without classes or without a sure position."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import cues
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, IGNORE, Kind, MapStore, create
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.methods.sec.cues import (
    CueParams,
    background_region,
    class_regions,
    find_cues,
    stack_regions,
    write_cues,
)

PARAMS = CueParams(maps="cam", saliency="saliency")


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def test_class_regions_are_strictly_above_a_share_of_the_maximum() -> None:
    maps = np.array([[[0.25, 0.5], [2.5, 1.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.3, 0.3], [0.3, 0.3]]])
    assert class_regions(maps, 0.2).tolist() == [[[False, False], [True, True]], [[False] * 2] * 2, [[True] * 2] * 2]
    assert class_regions(maps[:0], 0.2).shape == (0, 2, 2)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.1, 2), (0.14, 2), (0.15, 3), (0.99, 19)])
def test_background_region_is_the_lowest_share(share: float, count: int) -> None:
    saliency = np.random.default_rng(0).permutation(20).reshape(4, 5) / 20
    region = background_region(saliency, share)
    assert region.sum() == count
    assert np.array_equal(region, saliency < count / 20)


def test_ties_of_saliency_are_no_cues() -> None:
    assert not background_region(np.full((5, 6), 0.5), 0.9).any()
    assert background_region(np.array([[0.0, 0.0, 0.1, 0.1]]), 0.5).tolist() == [[True, True, False, False]]
    assert not background_region(np.array([[0.0, 0.0, 0.1, 0.1]]), 0.49).any()
    assert not background_region(np.zeros((1, 1)), 0.1).any()


def test_the_smallest_region_wins() -> None:
    large, middle, small = mask("####", "####"), mask("###.", "...."), mask(".#..", ".#..")
    regions = np.stack([small, large, middle])
    cues = stack_regions(regions, np.array([0, 1, 2]))
    assert cues.tolist() == [[2, 0, 2, 1], [1, 0, 1, 1]]
    order = [2, 0, 1]
    assert np.array_equal(stack_regions(regions[order], np.array([0, 1, 2])[order]), cues)
    assert cues.dtype == np.uint8


def test_the_lower_number_wins_between_regions_of_one_size_and_empty_ones_do_nothing() -> None:
    regions = np.stack([mask("##."), mask(".##"), mask("...")])
    assert stack_regions(regions, np.array([7, 3, 1])).tolist() == [[7, 3, 3]]
    assert stack_regions(regions[2:], np.array([1])).tolist() == [[IGNORE] * 3]


def test_conflicts_against_a_naive_rule() -> None:
    generator = np.random.default_rng(1)
    for _ in range(50):
        regions = generator.random((4, 3, 5)) < generator.random((4, 1, 1))
        found = stack_regions(regions, np.array([0, 2, 5, 9]))
        for y, x in np.ndindex(3, 5):
            claims = [(regions[k].sum(), number) for k, number in enumerate((0, 2, 5, 9)) if regions[k, y, x]]
            assert found[y, x] == (min(claims)[1] if claims else IGNORE)


def test_cues_of_an_image_without_classes_are_background_alone() -> None:
    saliency = np.arange(16).reshape(4, 4) / 16
    cues = find_cues(np.zeros((0, 2, 2)), [], saliency, PARAMS.model_copy(update={"background": 0.5}))
    assert cues.tolist() == [[0, 0], [IGNORE, IGNORE]]
    assert (find_cues(np.zeros((0, 3, 3)), [], np.ones((3, 3)), PARAMS) == IGNORE).all()


def test_a_class_without_a_sure_position_has_no_cue() -> None:
    maps = np.stack([np.zeros((2, 5)), np.eye(2, 5)])
    cues = find_cues(maps, [3, 4], np.arange(10).reshape(2, 5)[::-1] / 10, PARAMS)
    assert cues.tolist() == [[5, IGNORE, IGNORE, IGNORE, IGNORE], [0, 5, IGNORE, IGNORE, IGNORE]]


def test_stores_of_labels_hold_every_byte_and_nothing_else(tmp_path: Path) -> None:
    with create(tmp_path / "a.h5", Kind.LABELS, 2, 2) as writer:
        writer.append(["a"], [CLASS_AGNOSTIC], np.array([[[0, 1], [254, IGNORE]]]))
        for image_id, value in (("b", -1), ("c", 256), ("d", 0.5), ("e", np.nan)):
            with pytest.raises(InputError, match=f"'{image_id}' has values other than whole numbers from 0 to 255"):
                writer.append([image_id], [CLASS_AGNOSTIC], np.array([[[value, 0], [0, 0]]]))
    with MapStore(tmp_path / "a.h5") as found:
        assert found.kind is Kind.LABELS
        assert found[0].tolist() == [[0, 1], [254, IGNORE]]


def store(path: Path, rows: dict[tuple[str, int], np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with create(path, Kind.SCORE, *next(iter(rows.values())).shape) as writer:
        for image_id, label in sorted(rows):
            writer.append([image_id], [label], rows[image_id, label][None])
    return path


@pytest.fixture
def project(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """Image 00 shows both classes, 01 none; class k lights up row k; the left column is least salient."""
    monkeypatch.chdir(tmp_path)
    table = small_index.table.copy()
    table["labels"] = [[1, 0], [], *table["labels"][2:]]
    index = ImageIndex(table, small_index.classes, "squares", "images")
    write_index(Path("data/detection/index.parquet"), index)
    lit = np.zeros((2, 3, 4))
    lit[[0, 1], [0, 1]] = 1
    rows = {(image_id, label): lit[label] for image_id in table["image_id"] for label in (0, 1)}
    store(Path("data/detection/outputs/cam/maps.h5"), rows)
    saliency = np.tile([0.0, 0.5, 0.6, 1.0], (6, 1))
    store(
        Path("data/detection/outputs/phase-one/saliency.h5"),
        {(name, CLASS_AGNOSTIC): saliency for name in table["image_id"]},
    )
    params = {"maps": "cam", "saliency": "phase-one", "background": 0.25}
    Path("params.yaml").write_text(yaml.safe_dump({"cues": {"cues-sec": params}}))
    return index


@pytest.mark.usefixtures("project")
def test_stage_writes_the_cues_of_training_images_twice_alike() -> None:
    cues.main("cues-sec")
    path = Path("data/detection/targets/cues-sec.h5")
    first = path.read_bytes()
    with MapStore(path) as found:
        assert found.kind is Kind.LABELS
        assert found.image_ids.tolist() == [f"{number:02d}" for number in range(20)]
        assert set(found.labels.tolist()) == {CLASS_AGNOSTIC}
        none = [0, 255, 255, 255]
        assert found[0].tolist() == [[0, 1, 1, 1], [0, 2, 2, 2], none]
        assert found[1].tolist() == [none] * 3
        assert found[2].tolist() == [[0, 1, 1, 1], none, none]
        assert found[3].tolist() == [none, [0, 2, 2, 2], none]
    cues.main("cues-sec")
    assert path.read_bytes() == first


def test_a_class_agnostic_map_stands_for_one_label_only(project: ImageIndex, tmp_path: Path) -> None:
    rows = {(name, CLASS_AGNOSTIC): np.eye(3, 4) for name in project.table["image_id"]}
    with MapStore(store(tmp_path / "any.h5", rows)) as maps:
        single = ImageIndex(project.table.iloc[2:], project.classes, "squares", "images")
        write_cues(maps, maps, single, PARAMS, tmp_path / "seeds.h5")
        with pytest.raises(InputError, match=r"any.h5: no map of image '00' for label 0; cues need one per label"):
            write_cues(maps, maps, project, PARAMS, tmp_path / "seeds.h5")


def test_missing_maps_and_too_many_classes_are_refused(project: ImageIndex, tmp_path: Path) -> None:
    with (
        MapStore(Path("data/detection/outputs/cam/maps.h5")) as maps,
        MapStore(Path("data/detection/outputs/phase-one/saliency.h5")) as saliency,
    ):
        more = pd.concat([project.table, project.table.iloc[:1].assign(image_id="new")])
        with pytest.raises(InputError, match="no map of image 'new' for label 0"):
            write_cues(maps, saliency, ImageIndex(more, project.classes, "s"), PARAMS, tmp_path / "s.h5")
        with pytest.raises(InputError, match=r"cam/maps.h5: no map of image '00' for label -1"):
            write_cues(maps, maps, project, PARAMS, tmp_path / "s.h5")
        many = ImageIndex(project.table, tuple(map(str, range(255))), "squares")
        with pytest.raises(InputError, match="'squares' has 255 classes; cues can tell 254 apart"):
            write_cues(maps, saliency, many, PARAMS, tmp_path / "s.h5")
    assert not (tmp_path / "s.h5").exists()
