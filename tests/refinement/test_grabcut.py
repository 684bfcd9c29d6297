"""GrabCut of maps: masks along edges, the cases in which a mask stays, and the stage."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from stages import refine_maps as stage
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.refinement.grabcut import GrabCutParams, cut_maps, grab_cut

SIDE = 48
PARAMS = GrabCutParams(side=SIDE)
TRUTH = np.zeros((SIDE, SIDE), bool)
TRUTH[10:34, 14:40] = True


def picture(seed: int = 0) -> npt.NDArray[np.uint8]:
    """A red rectangle on green, both noisy."""
    noise = np.random.default_rng(seed).integers(0, 40, (SIDE, SIDE, 3))
    colours = np.where(TRUTH[:, :, None], [180, 40, 40], [40, 150, 60])
    return np.asarray(colours + noise, dtype=np.uint8)


def blob() -> npt.NDArray[np.float32]:
    """A coarse map of it, too small and shifted."""
    scores = np.full((6, 6), 0.1, np.float32)
    scores[1:4, 2:5] = 0.6
    scores[2, 3] = 0.9
    return scores


def iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_a_coarse_mask_moves_to_the_edges() -> None:
    cut = grab_cut(picture(), blob(), "a", PARAMS)
    own = cv2.resize(blob(), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) > 0.5
    assert cut.refined
    assert iou(cut.mask, TRUTH) > 0.95 > iou(own, TRUTH)


def test_the_undecided_score_is_the_edge_of_the_object() -> None:
    """A map cut at .2 gives what the map stretched to .5 gives."""
    low = np.interp(blob(), (0, 0.5, 1), (0, 0.2, 1)).astype(np.float32)
    found = grab_cut(picture(), low, "a", PARAMS.model_copy(update={"undecided": 0.2}))
    assert iou(found.mask, TRUTH) > 0.95


@pytest.mark.parametrize("scores", [np.zeros((3, 5)), np.ones((1, 1)), np.full((4, 4), 0.5)])
def test_without_two_sides_the_mask_stays(scores: npt.NDArray[np.float64]) -> None:
    cut = grab_cut(picture(), scores, "a", PARAMS)
    assert not cut.refined
    assert cut.mask.all() == bool((scores > 0.5).all())


def test_a_mask_that_would_change_too_much_stays() -> None:
    cut = grab_cut(picture(), blob(), "a", PARAMS.model_copy(update={"grows": 1.0}))
    assert not cut.refined
    assert 0 < iou(cut.mask, TRUTH) < 0.95
    plain = np.full((SIDE, SIDE, 3), 90, np.uint8)
    assert grab_cut(plain, blob(), "a", PARAMS).mask.shape == (SIDE, SIDE)


def test_the_draw_follows_the_image_alone() -> None:
    """Whatever was cut before, an image's mask is the same."""
    first = grab_cut(picture(), blob(), "a", PARAMS).mask
    grab_cut(picture(1), blob(), "b", PARAMS)
    np.testing.assert_array_equal(grab_cut(picture(), blob(), "a", PARAMS).mask, first)


@pytest.fixture
def workspace(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    monkeypatch.chdir(tmp_path)
    write_index(Path("data/localization/index.parquet"), small_index)
    with create(Path("data/localization/outputs/ddt/maps.h5"), Kind.SCORE, 6, 6) as writer:
        for image_id in small_index.table["image_id"]:
            writer.append([image_id] * 2, [0, 1], np.stack([blob(), np.zeros_like(blob())]))
    Path("params.yaml").write_text(f"grabcut: {{side: {SIDE}}}\n")
    return small_index


def test_the_stage_is_the_same_whatever_the_number_of_processes(
    workspace: ImageIndex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contents, path = [], Path("data/localization/outputs/ddt-grabcut/maps.h5")
    for workers in "12":
        monkeypatch.setenv("WSOL_WORKERS", workers)
        stage.main("ddt", "grabcut")
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    count = len(workspace.table)
    assert f"of {2 * count} masks of ddt stay unrefined" in capsys.readouterr().out
    with MapStore(path) as store, MapStore(Path("data/localization/outputs/ddt/maps.h5")) as source:
        assert (store.image_ids == source.image_ids).all()
        assert (store.labels == source.labels).all()
        assert store.shape == (SIDE, SIDE)
        assert store.kind == Kind.MASK
        assert not store[1].any()


@pytest.mark.usefixtures("workspace")
def test_an_unknown_refinement_is_named() -> None:
    with pytest.raises(InputError, match="no refinement 'graph-cut'; there are crf, grabcut"):
        stage.main("ddt", "graph-cut")
    assert not Path("data/localization/outputs/ddt-graph-cut").exists()


def test_a_map_without_an_image_is_named(workspace: ImageIndex, tmp_path: Path) -> None:
    few = ImageIndex(workspace.table.iloc[:1], workspace.classes, workspace.name, workspace.source)
    with (
        MapStore(Path("data/localization/outputs/ddt/maps.h5")) as store,
        pytest.raises(InputError, match="is not in the index"),
    ):
        cut_maps(store, few, PARAMS, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()
