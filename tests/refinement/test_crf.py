"""Dense CRF, by the optional extra and by the built-in lattice: by hand, on made-up pictures, and the stage."""

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from stages import refine_maps as refine_stage
from tests.small_workspace import make_index
from wsol_core.core.crf_params import CRFParams
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.core.regions import upsample
from wsol_core.data.index import write_index
from wsol_core.refinement.crf import library, mean_field
from wsol_core.refinement.refine import RefineParams, reduce, refine, refine_maps, unary_energy

Picture = npt.NDArray[np.uint8]
SQUARE = np.s_[12:36, 16:48]


def picture() -> Picture:
    """A red rectangle on green, 48 x 64, with a little noise."""
    image = np.full((48, 64, 3), (20, 120, 20), np.uint8)
    image[SQUARE] = (200, 30, 30)
    return image + np.random.default_rng(0).integers(0, 8, image.shape, dtype=np.uint8)


def blob() -> npt.NDArray[np.float32]:
    """A coarse map of the rectangle: sure in its middle, blurred at its sides."""
    scores = np.full((6, 8), 0.1, np.float32)
    scores[1:5, 2:6] = 0.6
    scores[2:4, 3:5] = 0.9
    return scores


def iou(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.fixture(params=["extra", "built-in"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name: str = request.param
    if name == "extra":
        pytest.importorskip("pydensecrf.densecrf")
    else:
        monkeypatch.setitem(sys.modules, "pydensecrf", None)
    library.cache_clear()
    yield name
    library.cache_clear()


def test_unary_by_hand() -> None:
    energy = unary_energy(np.array([[0.25, 0.0, 1.0]], np.float32))[:, 0]
    assert energy.shape == (2, 3)
    assert energy.dtype == np.float32
    np.testing.assert_allclose(energy[:, 0], [-np.log(0.75), -np.log(0.25)], rtol=1e-6)
    np.testing.assert_allclose(energy[:, 1], [1e-4, -np.log(1e-4)], rtol=1e-3)
    np.testing.assert_allclose(energy[:, 2], [-np.log(1e-4), 1e-4], rtol=1e-3)


def test_the_undecided_score_has_even_odds() -> None:
    """Against .2, the score .5 has odds 1 / (1 / 4) = 4, so probability .8."""
    energy = unary_energy(np.array([[0.2, 0.5]], np.float32), undecided=0.2)[:, 0]
    np.testing.assert_allclose(np.exp(-energy), [[0.5, 0.2], [0.5, 0.8]], rtol=1e-5)


def test_reduce_never_enlarges() -> None:
    assert reduce(np.zeros((100, 50, 3), np.uint8), 40).shape == (40, 20, 3)
    assert reduce(np.zeros((10, 5, 3), np.uint8), 40).shape == (10, 5, 3)
    assert reduce(np.zeros((900, 1, 3), np.uint8), 30).shape == (30, 1, 3)


@pytest.mark.usefixtures("engine")
def test_no_iterations_give_the_scores_back() -> None:
    scores = np.random.default_rng(1).uniform(0.1, 0.9, (48, 64)).astype(np.float32)
    np.testing.assert_allclose(refine(picture(), scores, RefineParams(iterations=0)), scores, atol=1e-5)


@pytest.mark.usefixtures("engine")
def test_one_step_of_smoothness_by_hand() -> None:
    """Two pixels of scores .9 and .5; their kernel is e = exp(-.5), over the row's sum 1 / 1.6065 and e / 1.6065.

    Times weight 2 the left one hears 2 (.9 + .5 e) / 1.6065 = 1.4979 for foreground and .5021 for background, the
    right one 2 (.9 e + .5) / 1.6065 = 1.3021 and .6979. Log odds: ln 9 + .9958 = 3.1930 and .6042.
    """
    params = RefineParams(iterations=1, appearance_weight=0, smoothness_weight=2, smoothness_pixels=1)
    refined = refine(np.zeros((1, 2, 3), np.uint8), np.array([[0.9, 0.5]], np.float32), params)
    np.testing.assert_allclose(refined, [[0.9606, 0.6466]], atol=0.02)


def exact(image: Picture, scores: npt.NDArray[np.float32], params: RefineParams) -> npt.NDArray[np.float64]:
    """Mean field with the whole kernel matrices, normalised symmetrically."""
    place = np.argwhere(np.ones(scores.shape)).astype(float)
    colour = image.reshape(-1, 3).astype(float)
    apart, unlike = (((each[:, None] - each[None]) ** 2).sum(2) for each in (place, colour))
    smoothness = np.exp(-apart / (2 * params.smoothness_pixels**2))
    appearance = np.exp(-apart / (2 * params.appearance_pixels**2) - unlike / (2 * params.appearance_levels**2))
    kernel = sum(
        weight * each / np.sqrt(each.sum(0)[:, None] * each.sum(0)[None])
        for weight, each in ((params.smoothness_weight, smoothness), (params.appearance_weight, appearance))
    )
    energy = unary_energy(scores).reshape(2, -1).astype(float)
    beliefs = np.exp(-energy)
    for _ in range(params.iterations):
        beliefs = np.exp(-energy + beliefs @ kernel)
        beliefs /= beliefs.sum(0)
    return np.asarray(beliefs[1].reshape(scores.shape))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("seed", range(3))
def test_the_lattice_is_near_the_exact_mean_field(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = reduce(picture(), 16) + rng.integers(0, 20, (12, 16, 3), dtype=np.uint8)
    scores = rng.uniform(0.2, 0.8, (12, 16)).astype(np.float32)
    params = RefineParams(
        iterations=5, appearance_weight=2, appearance_pixels=6, smoothness_weight=1, smoothness_pixels=2
    )
    found, expected = refine(image, scores, params), exact(image, scores, params)
    assert np.abs(expected - scores).mean() > 0.1
    assert np.abs(found - expected).max() < 0.06
    assert np.abs(found - expected).mean() < 0.02


@pytest.mark.usefixtures("engine")
def test_a_refined_map_follows_the_edges() -> None:
    truth = np.zeros((48, 64), bool)
    truth[SQUARE] = True
    refined = refine(picture(), blob(), RefineParams(appearance_pixels=20))
    coarse = cv2.resize(blob(), (64, 48), interpolation=cv2.INTER_LINEAR)
    assert refined.shape == (48, 64)
    assert refined.dtype == np.float32
    assert iou(refined > 0.5, truth) > 0.97 > 0.9 > iou(coarse > 0.5, truth)
    assert ((refined >= 0) & (refined <= 1)).all()


@pytest.mark.usefixtures("engine")
def test_degenerate_maps_and_images() -> None:
    params = RefineParams(longest_side=32)
    assert refine(picture(), np.zeros((4, 4), np.float32), params).max() < 0.01
    assert refine(picture(), np.ones((1, 1), np.float32), params).min() > 0.99
    np.testing.assert_allclose(refine(picture(), np.full((3, 5), 0.5, np.float32), params), 0.5, atol=1e-3)
    assert refine(np.zeros((1, 1, 3), np.uint8), blob(), params).shape == (1, 1)
    assert refine(np.zeros((3, 90, 3), np.uint8), blob(), params).shape == (1, 32)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("labels", "height", "width"), [(21, 1, 1), (1, 7, 5), (3, 1, 30), (4, 20, 1), (3, 11, 17)])
def test_marginals_of_any_shape(labels: int, height: int, width: int) -> None:
    rng = np.random.default_rng(labels)
    unaries = rng.uniform(0, 5, (labels, height, width))
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = mean_field(unaries, image, CRFParams())
    assert found.shape == unaries.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(found, mean_field(unaries, image, CRFParams()))


@pytest.mark.usefixtures("engine")
def test_marginals_move_with_labels_and_mirrors_of_the_picture() -> None:
    """Not exactly: pixels meet the lattice elsewhere."""
    unaries = np.stack([*unary_energy(upsample(blob(), 48, 64)), np.full((48, 64), 0.7, np.float32)])
    params = CRFParams(appearance_pixels=20)
    found = mean_field(unaries, picture(), params)
    permuted = mean_field(unaries[[2, 0, 1]], picture(), params)
    np.testing.assert_allclose(permuted, found[[2, 0, 1]], atol=1e-4)
    mirrored = mean_field(unaries[:, :, ::-1], picture()[:, ::-1], params)[:, :, ::-1]
    assert (mirrored.argmax(0) == found.argmax(0)).mean() > 0.98


def test_the_built_in_lattice_agrees_with_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydensecrf.densecrf")
    library.cache_clear()
    rng = np.random.default_rng(3)
    image = np.clip(picture() + rng.normal(0, 20, picture().shape), 0, 255).astype(np.uint8)
    unaries = rng.uniform(0, 3, (5, *image.shape[:2])).astype(np.float32)
    expected = mean_field(unaries, image, CRFParams())
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    library.cache_clear()
    found = mean_field(unaries, image, CRFParams())
    library.cache_clear()
    assert np.abs(expected - np.exp(-unaries) / np.exp(-unaries).sum(0)).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_the_extra_one_warning_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    library.cache_clear()
    for _ in range(2):
        refine(picture(), blob(), RefineParams(iterations=1))
    library.cache_clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: dense CRF")
    assert "pip install -e '.[crf]'" in line


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unaries \(2, 3, 4\) for an image \(4, 3, 3\)"):
        mean_field(np.ones((2, 3, 4)), np.zeros((4, 3, 3), np.uint8), CRFParams())


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    index = make_index(count=3)
    data = tmp_path / "data/localization"
    write_index(data / "index.parquet", index)
    for path in index.table["path"]:
        (index_path := tmp_path / index.source / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(index_path), picture()[:, :, ::-1])
    with create(data / "outputs/ddt/maps.h5", Kind.SCORE, 6, 8) as writer:
        for image_id in index.table["image_id"]:
            writer.append([image_id] * 2, [0, 1], np.stack([blob(), np.zeros_like(blob())]))
    (tmp_path / "params.yaml").write_text("crf: {resolution: 24, appearance_pixels: 20}\n")
    monkeypatch.chdir(tmp_path)
    return data


def test_stage_refines_every_row_the_same_whatever_the_number_of_processes(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = []
    for workers in "12":
        monkeypatch.setenv("WSOL_WORKERS", workers)
        refine_stage.main("ddt", "crf")
        contents.append((workspace / "outputs/ddt-crf/maps.h5").read_bytes())
    assert contents[0] == contents[1]
    with (
        MapStore(workspace / "outputs/ddt/maps.h5") as source,
        MapStore(workspace / "outputs/ddt-crf/maps.h5") as store,
    ):
        assert (store.image_ids == source.image_ids).all()
        assert (store.labels == source.labels).all()
        assert store.shape == (24, 24)
        truth = np.zeros((24, 24), bool)
        truth[6:18, 6:18] = True
        assert iou(store[0] > 0.5, truth) > 0.9
        assert store[1].max() < 0.01


def test_stage_names_what_is_wrong(workspace: Path) -> None:
    with (
        MapStore(workspace / "outputs/ddt/maps.h5") as store,
        pytest.raises(InputError, match=r"picture02' is not in the"),
    ):
        refine_maps(store, make_index(count=2), RefineParams(), workspace / "out.h5")
    image = workspace / "../../images/localization/0/picture02.png"
    image.write_bytes(b"")
    with pytest.raises(InputError, match=r"picture02\.png: zero bytes"):
        refine_stage.main("ddt", "crf")
    assert not (workspace / "outputs/ddt-crf/maps.h5").exists()
