"""Pseudo masks of maps: filled boxes, components and shares of cells against naive references, and the stage."""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from stages import pseudo_masks as stage
from wsol_core.core.boxes import rasterize
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, IGNORE, Kind, MapStore, create
from wsol_core.core.params import load
from wsol_core.core.regions import largest_component
from wsol_core.methods.ddt.colocalization import pseudo_box
from wsol_core.methods.wsfl.pseudo_masks import PseudoMaskParams, area_shares, pseudo_mask

SHAPES = [(1, 1), (14, 14), (5, 9), (2, 30), (28, 20), (40, 40)]
SIDES = [1, 4, 14, 28]
Mask = npt.NDArray[np.bool_]


def random_scores(shape: tuple[int, int], count: int = 20) -> npt.NDArray[np.float32]:
    """Maps `(N, h, w)` from nearly empty to nearly full, none above .5 in one of them."""
    generator = np.random.default_rng(shape)
    levels = np.linspace(0, 0.95, count)[:, None, None]
    return (generator.random((count, *shape)) * 0.5 + levels / 2).astype(np.float16).astype(np.float32)


def naive_shares(mask: Mask, side: int) -> list[list[Fraction]]:
    """Cell by cell: the area that it shares with the pixels that are set, over its own area."""
    height, width = mask.shape

    def overlap(cell: int, pixel: int, pixels: int) -> Fraction:
        low, high = Fraction(cell * pixels, side), Fraction((cell + 1) * pixels, side)
        return max(Fraction(0), min(high, Fraction(pixel + 1)) - max(low, Fraction(pixel)))

    area = Fraction(height * width, side * side)
    pixels = list(zip(*np.nonzero(mask), strict=True))
    return [
        [sum((overlap(r, int(y), height) * overlap(c, int(x), width) for y, x in pixels), Fraction(0)) / area
         for c in range(side)] for r in range(side)
    ]  # fmt: skip


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_box_is_that_of_the_largest_component_on_the_image(shape: tuple[int, int], side: int) -> None:
    """As in the paper: the box in pixels of the image, and its cells."""
    height, width = 4 * shape[0], 8 * shape[1]
    for scores in random_scores(shape):
        box = pseudo_box(scores.astype(np.float16), width, height)
        expected = rasterize(box[None], [width], [height], side)[0]
        found = pseudo_mask(scores, PseudoMaskParams(resolution=side))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("side", [1, 4, 7])
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 9), (2, 13), (8, 3), (14, 14)])
def test_shares_and_components_equal_the_naive_rule(shape: tuple[int, int], side: int) -> None:
    for scores in random_scores(shape, 6):
        mask = largest_component(scores > 0.5)
        shares = naive_shares(mask, side)
        np.testing.assert_array_equal(area_shares(mask, side), np.array(shares, dtype=np.float32))
        soft = pseudo_mask(scores, PseudoMaskParams(resolution=side, shape="component", soft=True))
        hard = pseudo_mask(scores, PseudoMaskParams(resolution=side, shape="component"))
        if not mask.any():
            assert soft.all()
            assert hard.all()
            continue
        least = min(Fraction(1, 2), max(max(row) for row in shares))
        np.testing.assert_array_equal(soft, np.array(shares, dtype=np.float32))
        np.testing.assert_array_equal(hard, [[share >= least for share in row] for row in shares])


def test_cells_that_are_half_covered_belong_to_the_mask() -> None:
    """24 columns on 14 cells: the mask ends in the middle of the fourth, where no pixel ends."""
    mask = np.zeros((24, 24), dtype=bool)
    mask[:, :6] = True
    found = pseudo_mask(mask.astype(np.float32), PseudoMaskParams(resolution=14, shape="component"))
    assert area_shares(mask, 14)[:, 3].tolist() == [0.5] * 14
    assert found.sum(1).tolist() == [4] * 14


def test_the_smallest_component_leaves_the_cell_that_it_covers_most() -> None:
    scores = np.zeros((28, 28), dtype=np.float32)
    scores[5, 26] = 1
    found = pseudo_mask(scores, PseudoMaskParams(resolution=7, shape="component"))
    assert np.argwhere(found).tolist() == [[1, 6]]
    soft = pseudo_mask(scores, PseudoMaskParams(resolution=7, shape="component", soft=True))
    assert soft[1, 6] == soft.sum() == 1 / 16


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (14, 14)])
@pytest.mark.parametrize("changes", [{}, {"shape": "component"}, {"shape": "component", "soft": True}])
def test_without_an_object_and_of_a_full_map_all_is_foreground(shape: tuple[int, int], changes: dict[str, Any]) -> None:
    params = PseudoMaskParams(resolution=5, **changes)
    for value in (0.0, 0.5, 0.75, 1.0):
        assert pseudo_mask(np.full(shape, value, dtype=np.float32), params).tolist() == [[1.0] * 5] * 5


def test_only_the_largest_component_counts() -> None:
    scores = np.zeros((8, 8), dtype=np.float32)
    scores[1:4, 1:4] = scores[6, 6] = 0.75
    box = pseudo_mask(scores, PseudoMaskParams(resolution=8))
    component = pseudo_mask(scores, PseudoMaskParams(resolution=8, shape="component"))
    assert np.argwhere(box).tolist() == [[y, x] for y in range(1, 4) for x in range(1, 4)]
    assert np.array_equal(component, box)
    scores[2, 2] = 0
    assert pseudo_mask(scores, PseudoMaskParams(resolution=8))[2, 2] == 1
    assert pseudo_mask(scores, PseudoMaskParams(resolution=8, shape="component"))[2, 2] == 0


def naive_margin(scores: npt.NDArray[np.float32], params: PseudoMaskParams) -> list[list[float]]:
    """The masks of two maps, cut at .5 after the margin is added and taken away, held against each other."""
    plain = params.model_copy(update={"margin": 0.0})
    possible, sure = (
        pseudo_mask(np.where(scores > 0.5 + step, 1, 0).astype(np.float32), plain)
        if (scores > 0.5 + step).any()
        else np.zeros((params.resolution, params.resolution))
        for step in (-params.margin, params.margin)
    )
    return [
        [1.0 if a == b == 1 else 0.0 if a == b == 0 else IGNORE for a, b in zip(*rows, strict=True)]
        for rows in zip(possible, sure, strict=True)
    ]


@pytest.mark.parametrize("shape", ["box", "component"])
@pytest.mark.parametrize("grid", SHAPES)
def test_cells_of_one_threshold_alone_are_ignored(grid: tuple[int, int], shape: Literal["box", "component"]) -> None:
    for side, margin in itertools.product(SIDES, (0.1, 0.25)):
        params = PseudoMaskParams(resolution=side, shape=shape, margin=margin)
        for scores in random_scores(grid):
            found = pseudo_mask(scores, params)
            assert found.dtype == np.float32
            if (scores > 0.5 - margin).any():
                assert found.tolist() == naive_margin(scores, params)


def test_a_margin_by_hand() -> None:
    """A sure core within an unsure rim; and a second object that is the largest at the lower threshold alone."""
    scores = np.zeros((6, 6), dtype=np.float32)
    scores[1, 0:5] = 0.45
    scores[1, 1:3] = 0.75
    params = PseudoMaskParams(resolution=6, shape="component", margin=0.1)
    unsure = [255.0, 1.0, 1.0, 255.0, 255.0, 0.0]
    assert pseudo_mask(scores, params)[1].tolist() == unsure
    assert pseudo_mask(scores, params).sum() == sum(unsure)
    scores[3:6, 0:4] = 0.45
    apart = pseudo_mask(scores, params)
    assert apart[1].tolist() == [0, 255, 255, 0, 0, 0]
    assert (apart[3:, :4] == 255).all()
    assert not (apart == 1).any()


@pytest.mark.parametrize("grid", [(1, 1), (3, 7)])
@pytest.mark.parametrize(("value", "label"), [(0.0, 1), (0.25, 1), (0.5, 255), (0.55, 255), (0.75, 1), (1.0, 1)])
@pytest.mark.parametrize("shape", ["box", "component"])
def test_a_margin_of_constant_maps(
    shape: Literal["box", "component"], value: float, label: int, grid: tuple[int, int]
) -> None:
    """All is foreground above the margin, and below it as of any map without an object; within it all is ignored."""
    params = PseudoMaskParams(resolution=4, shape=shape, margin=0.1)
    assert (pseudo_mask(np.full(grid, value, dtype=np.float32), params) == label).all()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return tmp_path


def write(name: str, ids: list[str], labels: list[int], maps: npt.NDArray[np.float32], **params: Any) -> None:
    """A method's maps, and the parameters that name it."""
    with create(Path(f"data/localization/outputs/{name}/maps.h5"), Kind.SCORE, *maps.shape[1:]) as writer:
        writer.append(ids, labels, maps)
    Path("params.yaml").write_text(yaml.safe_dump({"pseudo_masks": {"maps": name, **params}}))


TARGETS = Path("data/localization/targets/pseudo_masks.h5")


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, Kind.MASK),
        ({"shape": "component"}, Kind.MASK),
        ({"shape": "component", "soft": True}, Kind.SCORE),
        ({"margin": 0.2}, Kind.TRISTATE),
    ],
)
def test_the_stage_writes_a_mask_of_every_map(changes: dict[str, Any], kind: Kind) -> None:
    maps = random_scores((20, 20), 300)
    ids = [f"{number:03d}" for number in range(300)]
    write("ddt", ids, [number % 3 for number in range(300)], maps, resolution=6, **changes)
    stage.main()
    params = load(PseudoMaskParams, "pseudo_masks")
    with MapStore(TARGETS) as store:
        assert (store.kind, store.shape) == (kind, (6, 6))
        assert store.image_ids.tolist() == ids
        assert set(store.labels.tolist()) == {CLASS_AGNOSTIC}
        expected = np.stack([pseudo_mask(scores, params) for scores in maps])
        np.testing.assert_allclose(store[:], expected, atol=5e-4 if kind is Kind.SCORE else 0)
        seen = np.unique(store[:])
        assert (IGNORE in seen) == (kind is Kind.TRISTATE)
        assert (len(seen) > 3) == (kind is Kind.SCORE)


@pytest.mark.usefixtures("workspace")
def test_several_maps_of_an_image_are_one_line() -> None:
    write("cam", ["a", "b", "b"], [0, 0, 1], np.ones((3, 4, 4), np.float32))
    with pytest.raises(InputError, match=r"outputs/cam/maps\.h5: several maps of image 'b'; name a method"):
        stage.main()
    assert not TARGETS.exists()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("shape", ["box", "component"])
def test_shares_of_a_box_are_refused(shape: str) -> None:
    write("ddt", ["a"], [0], np.ones((1, 4, 4), np.float32), soft=True, shape=shape)
    if shape == "box":
        with pytest.raises(InputError, match="pseudo_masks: soft: of no effect on the shape box"):
            stage.main()
    else:
        stage.main()
        assert TARGETS.exists()


@pytest.mark.usefixtures("workspace")
def test_without_a_margin_the_file_is_that_of_plain_masks() -> None:
    """To the last byte."""
    maps, ids = random_scores((9, 13), 8), [str(number) for number in range(8)]
    write("ddt", ids, [0] * 8, maps, resolution=4, shape="component", margin=0.0)
    stage.main()
    masks = []
    for scores in maps:
        mask = largest_component(scores > 0.5)
        shares = naive_shares(mask, 4)
        least = min(Fraction(1, 2), max(max(row) for row in shares))
        masks.append([[not mask.any() or share >= least for share in row] for row in shares])
    plain = Path("plain.h5")
    with create(plain, Kind.MASK, 4, 4) as writer:
        writer.append(ids, [CLASS_AGNOSTIC] * 8, np.array(masks))
    assert TARGETS.read_bytes() == plain.read_bytes()


@pytest.mark.usefixtures("workspace")
def test_shares_with_a_margin_are_refused() -> None:
    write("ddt", ["a"], [0], np.ones((1, 4, 4), np.float32), soft=True, shape="component", margin=0.1)
    with pytest.raises(InputError, match=r"pseudo_masks: margin: shares of cells \(soft\) are of one threshold"):
        stage.main()
    assert not TARGETS.exists()
