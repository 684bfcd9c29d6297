"""Proposals from maps: regions above thresholds, their rank, and their recall."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import evaluate_proposals as recall_stage
from stages import map_proposals as stage
from stages import proposals as choice_stage
from tests.small_workspace import build
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table, write_table
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.data.index import SPLITS, ImageIndex
from wsol_core.evaluation.proposals import COUNTS, IOUS, evaluate
from wsol_core.proposals.map_proposals import MapProposalParams, propose, ranked_regions, regions
from wsol_core.proposals.objectness import objectness
from wsol_core.proposals.selection import proposal_rows

PARAMS = MapProposalParams(maps="any", resolution=8, step=0.25)


def one_map(*blocks: tuple[int, int, int, int, float]) -> np.ndarray:
    """An 8x8 map with blocks `x0, y0, x1, y1, score`."""
    score_map = np.zeros((8, 8), np.float32)
    for x0, y0, x1, y1, score in blocks:
        score_map[y0:y1, x0:x1] = score
    return score_map


def index_of(count: int, objects_in: tuple[str, ...] = SPLITS) -> ImageIndex:
    rows = [(f"p{k}", f"p{k}.png", "", objects_in[k % len(objects_in)], [0], 80, 40) for k in range(count)]
    columns = ["image_id", "path", "digest", "split", "labels", "width", "height"]
    return ImageIndex(pd.DataFrame(rows, columns=columns), ("thing",), "toy")


def test_regions_of_every_threshold_by_hand() -> None:
    score_map = one_map((0, 0, 4, 4, 0.3), (1, 1, 3, 3, 0.9), (6, 0, 8, 2, 0.6))
    boxes = (regions(score_map, PARAMS) * 8).tolist()
    assert boxes == [
        [0, 0, 4, 4], [6, 0, 8, 2],
        [0, 0, 4, 4], [6, 0, 8, 2],
        [1, 1, 3, 3], [6, 0, 8, 2],
        [1, 1, 3, 3],
    ]  # fmt: skip


def test_regions_are_ranked_by_the_mean_inside_and_distinct() -> None:
    score_map = one_map((0, 0, 4, 4, 0.3), (1, 1, 3, 3, 0.9), (6, 0, 8, 2, 0.6))
    boxes = ranked_regions(score_map[None], 80, 40, PARAMS)
    assert {tuple(box) for box in boxes.tolist()} == {(10, 5, 30, 15), (60, 0, 80, 10), (0, 0, 40, 20)}
    means = objectness(score_map, boxes, 80, 40)
    assert (np.diff(means) < 0).all()


def test_maps_of_several_labels_are_all_cut() -> None:
    maps = np.stack([one_map((0, 0, 4, 4, 0.3)), one_map((4, 4, 8, 8, 0.9))])
    assert ranked_regions(maps, 8, 8, PARAMS).tolist() == [[4, 4, 8, 8], [0, 0, 4, 4]]


@pytest.mark.parametrize("value", [0.0, 1.0, 0.4])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5)])
def test_a_constant_map_is_the_whole_image(value: float, shape: tuple[int, int]) -> None:
    maps = np.full((1, *shape), value, np.float32)
    assert ranked_regions(maps, 30, 50, PARAMS).tolist() == [[0, 0, 30, 50]]


def save(path: Path, kind: Kind, names: list[str]) -> None:
    with create(path, kind, 8, 8) as writer:
        for name in names:
            writer.append([name], [-1], one_map((0, 0, 4, 4, 1))[None])


def test_an_image_without_a_map_and_a_store_of_labels_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", Kind.MASK, ["p0", "p2"])
    with MapStore(tmp_path / "a.h5") as store, pytest.raises(InputError, match=r"a\.h5: no map of image 'p1'"):
        propose(index_of(3), store, PARAMS)
    save(tmp_path / "b.h5", Kind.TRISTATE, ["p0"])
    with MapStore(tmp_path / "b.h5") as store, pytest.raises(InputError, match=r"b\.h5: holds labels"):
        propose(index_of(1), store, PARAMS)


# Recall


def ground_truth(*rows: tuple[str, float, float, float, float, bool]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["image_id", "x0", "y0", "x1", "y1", "difficult"])
    return table.assign(label=0, instance=0)


def naive_iou(one: np.ndarray, other: np.ndarray) -> float:
    across = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    down = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return across * down / (areas - across * down)


def test_recall_equals_a_loop_over_objects() -> None:
    rng = np.random.default_rng(0)
    index, columns = index_of(6, ("test",)), ["x0", "y0", "x1", "y1"]

    def some(count: int) -> np.ndarray:
        low = rng.integers(0, 30, (count, 2))
        return np.hstack([low, low + rng.integers(5, 35, (count, 2))]).astype(np.float32)

    found = pd.concat([proposal_rows(name, some(400)) for name in index.table["image_id"]])
    truth = ground_truth(*[(f"p{k % 6}", *box, k == 0) for k, box in enumerate(some(20).tolist())])
    figures = evaluate(found, index, truth)["test"]
    best = []
    for row in truth[~truth["difficult"]].itertuples():
        own = found.loc[found["image_id"] == row.image_id, columns].to_numpy()
        ious = [naive_iou(np.array([row.x0, row.y0, row.x1, row.y1]), box) for box in own]
        best.append([max(ious[:count]) for count in COUNTS])
    for place, count in enumerate(COUNTS):
        shares = [np.mean([own[place] >= iou - 1e-6 for own in best]) for iou in IOUS]
        assert figures[f"recall_{count}"] == pytest.approx(shares[0], abs=1e-6)
        assert figures[f"average_recall_{count}"] == pytest.approx(np.mean(shares), abs=1e-6)
    assert figures["recall_100"] < figures["recall_300"] < 1
    assert (figures["proposals"], figures["objects"]) == (400, 19)


def test_splits_without_objects_have_no_recall() -> None:
    index = index_of(3)
    found = pd.concat([proposal_rows(name, np.array([[0, 0, 9, 9]], np.float32)) for name in index.table["image_id"]])
    truth = ground_truth(("p0", 0, 0, 9, 9, False), ("p1", 0, 0, 9, 9, True))
    figures = evaluate(found, index, truth)
    assert list(figures) == [SPLITS[0]]
    assert figures[SPLITS[0]]["average_recall_100"] == 1
    assert evaluate(found, index, truth[:0]) == {}


def test_stages_make_choose_and_measure_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    source = "map_proposals: {regions: {maps: foreground, resolution: 64, step: 0.1}}\n"
    kept = "proposals: {source: regions, min_side: 3, max_proposals: 2}\n"
    Path("params.yaml").write_text(f"preset: small\n{source}{kept}")
    folder = tmp_path / "data/detection"
    stage.main("regions")
    found = read_table(folder / "proposals/regions.parquet")[0]
    write_table(folder / "proposals/first.parquet", found.drop_duplicates("image_id").assign(score=np.float32(1)))
    choice_stage.main("detection")
    recall_stage.main("detection")
    outputs = [
        folder / "proposals/regions.parquet",
        folder / "proposals.parquet",
        Path("results/small/proposals/detection.json"),
    ]
    first = [path.read_bytes() for path in outputs]
    assert read_table(outputs[1])[0].groupby("image_id").size().max() == 2
    figures = json.loads(outputs[2].read_text())
    assert list(figures) == ["first", "regions"]
    assert figures["regions"]["test"]["recall_100"] == 1
    assert figures["first"]["test"]["recall_100"] == 0
    assert figures["regions"]["test"]["proposals"] > 2
    stage.main("regions")
    choice_stage.main("detection")
    recall_stage.main("detection")
    assert [path.read_bytes() for path in outputs] == first
