"""Per-class heat maps against masks, boxes and each other: naive references, tables made by hand, bad input."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from stages import evaluate_heat_maps as stage
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.data.index import ANNOTATION_COLUMNS, ImageIndex, write_annotations, write_index
from wsol_core.evaluation.heat_maps import evaluate
from wsol_core.metrics.detection import average_precision

NAMES = ("cat", "dog", "owl")
WIDTH, HEIGHT, SIDE = 60, 40, 8
Array = npt.NDArray[Any]
Key = tuple[str, int]
Box = tuple[int, int, int, int]


class Workspace:
    """Images of `WIDTH x HEIGHT` with objects, and stores of maps."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data/detection"
        (self.data / "truth/masks").mkdir(parents=True)
        self._splits: dict[str, str] = {}
        self._objects: list[tuple[Any, ...]] = []

    def add(self, name: str, *objects: tuple[int, Box], masked: bool = True, split: str = "test") -> None:
        """An image whose objects fill their boxes, later ones above earlier ones."""
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for instance, (label, (x0, y0, x1, y1)) in enumerate(objects, start=1):
            mask[y0:y1, x0:x1] = instance
            self._objects.append((name, label, x0, y0, x1, y1, False, instance if masked else 0))
        self._splits[name] = split
        if masked:
            Image.fromarray(mask).save(self.data / "truth/masks" / f"{name}.png")

    def store(self, name: str, maps: dict[Key, Array]) -> Path:
        path = self.data / "outputs" / name / "maps.h5"
        with create(path, Kind.SCORE, SIDE, SIDE) as writer:
            for (image_id, label), score_map in sorted(maps.items()):
                writer.append([image_id], [label], score_map[None].astype(np.float16))
        return path

    def index(self) -> ImageIndex:
        rows: list[tuple[Any, ...]] = [
            (name, f"{name}.jpg", "", split, [], WIDTH, HEIGHT) for name, split in sorted(self._splits.items())
        ]
        columns = ["image_id", "path", "digest", "split", "labels", "width", "height"]
        return ImageIndex(pd.DataFrame(rows, columns=columns), NAMES, "made-up")

    def annotations(self) -> pd.DataFrame:
        types = {"difficult": "bool", **dict.fromkeys(BOX_COLUMNS, "float32")}
        return pd.DataFrame(self._objects, columns=list(ANNOTATION_COLUMNS)).astype(types)

    def evaluate(self, **maps: dict[Key, Array]) -> tuple[dict[str, Any], pd.DataFrame]:
        opened = {name: MapStore(self.store(name, own)) for name, own in maps.items()}
        return evaluate(opened, self.index(), self.annotations(), self.data / "truth/masks")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def peaked(x: int, y: int, score: float = 1.0) -> Array:
    """A map whose greatest cell is `x, y`."""
    score_map = np.full((SIDE, SIDE), 0.125 * score)
    score_map[y, x] = score
    return score_map


def pixel(x: int, y: int) -> tuple[float, float]:
    """The middle of a cell in the image."""
    return (x + 0.5) * WIDTH / SIDE, (y + 0.5) * HEIGHT / SIDE


LEFT, RIGHT, SMALL = (0, 0, 20, 40), (40, 0, 60, 40), (2, 2, 7, 7)


def random_workspace(workspace: Workspace, masked: bool) -> tuple[dict[Key, Array], dict[Key, list[Box]]]:
    """Eight images of one to four objects; maps for all but two of the pairs of image and class."""
    rng = np.random.default_rng(1)
    boxes: dict[Key, list[Box]] = {}
    for number in range(8):
        objects = []
        for _ in range(rng.integers(1, 5)):
            x0, y0 = rng.integers(0, (WIDTH - 5, HEIGHT - 5))
            x1, y1 = rng.integers((x0 + 4, y0 + 4), (WIDTH, HEIGHT), endpoint=True)
            objects.append((int(rng.integers(3)), (int(x0), int(y0), int(x1), int(y1))))
        workspace.add(str(number), *objects, masked=masked)
        for label, box in objects:
            boxes.setdefault((str(number), label), []).append(box)
    maps = {key: rng.integers(0, 1025, (SIDE, SIDE)) / 1024 for key in list(boxes)[2:]}
    return maps, boxes


def upsampled(score_map: Array) -> Array:
    return np.clip(cv2.resize(score_map.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), 0, 1)


def naive_saliency(maps: dict[Key, Array], truth: dict[Key, Array]) -> float:
    zeros = np.zeros((SIDE, SIDE))
    scores = np.concatenate([upsampled(maps.get(key, zeros)).ravel() for key in truth])
    return float(average_precision_score(np.concatenate([mask.ravel() for mask in truth.values()]), scores))


def test_saliency_of_masks_is_that_of_all_pixels(workspace: Workspace) -> None:
    maps, boxes = random_workspace(workspace, masked=True)
    objects = workspace.annotations()
    truth = {}
    for name, label in boxes:
        mask = np.asarray(Image.open(workspace.data / "truth/masks" / f"{name}.png"))
        own = objects[(objects["image_id"] == name) & (objects["label"] == label)]["instance"]
        if np.isin(mask, own).any():
            truth[name, label] = np.isin(mask, own)
    figures, table = workspace.evaluate(one=maps)
    found = figures["test"]["stores"]["one"]
    assert found["saliency_ap"] == pytest.approx(naive_saliency(maps, truth), abs=1e-4)
    assert found["saliency_ap_boxes"] is None
    assert found["saliency_pairs"] == len(truth)
    for label in range(3):
        of_class = {key: mask for key, mask in truth.items() if key[1] == label}
        assert table["saliency_ap"][label] == pytest.approx(naive_saliency(maps, of_class), abs=1e-4)
    assert set(table["truth"]) == {"masks"}


def test_saliency_of_boxes_where_there_are_no_masks(workspace: Workspace) -> None:
    maps, boxes = random_workspace(workspace, masked=False)
    truth = {key: np.zeros((HEIGHT, WIDTH), bool) for key in boxes}
    for key, own in boxes.items():
        for x0, y0, x1, y1 in own:
            truth[key][y0:y1, x0:x1] = True
    figures, table = workspace.evaluate(one=maps)
    found = figures["test"]["stores"]["one"]
    assert found["saliency_ap_boxes"] == pytest.approx(naive_saliency(maps, truth), abs=1e-4)
    assert found["saliency_ap"] is None
    assert set(table["truth"]) == {"boxes"}


def test_points_and_centres_are_those_of_a_look_at_every_box(workspace: Workspace) -> None:
    maps, boxes = random_workspace(workspace, masked=True)
    figures, table = workspace.evaluate(one=maps)
    expected: dict[str, list[float]] = {"point_ap": [], "point_ap_centre": []}
    for label, column in product(range(3), expected):
        outcomes = []
        for key, score_map in maps.items():
            if key[1] != label:
                continue
            full = upsampled(score_map)
            y, x = divmod(int(full.argmax()), WIDTH)
            if column == "point_ap_centre":
                x, y = (WIDTH - 1) // 2, (HEIGHT - 1) // 2
            hit = any(a - 18 <= x < c + 18 and b - 18 <= y < d + 18 for a, b, c, d in boxes[key])
            outcomes.append((-float(full.max()), key[0], hit))
        hits = np.array([hit for *_, hit in sorted(outcomes)], bool)
        expected[column].append(average_precision(hits, sum(key[1] == label for key in boxes), "all"))
    for column, values in expected.items():
        assert table[column].tolist() == pytest.approx(values)
    found = figures["test"]["stores"]["one"]
    assert found["point_map"] == pytest.approx(np.mean(expected["point_ap"]), abs=1e-6)
    assert found["point_map_centre"] == pytest.approx(np.mean(expected["point_ap_centre"]), abs=1e-6)
    assert 0 < found["point_map"] < 1


def test_two_phases_by_hand(workspace: Workspace) -> None:
    """The first phase finds the cats, the second looks elsewhere; the centre of the image is one cat's."""
    workspace.add("a", (0, SMALL))
    workspace.add("b", (0, LEFT), (1, RIGHT))
    first = {("a", 0): peaked(0, 0, 0.5), ("b", 0): peaked(1, 4), ("b", 1): peaked(7, 4)}
    second = {("a", 0): peaked(7, 7, 0.5), ("b", 0): peaked(1, 1), ("b", 1): peaked(7, 4)}
    figures, table = workspace.evaluate(first=first, second=second)
    stores = figures["test"]["stores"]
    assert [stores[name]["point_map"] for name in ("first", "second")] == [1, 0.75]
    assert stores["first"]["point_map_centre"] == 0.75
    assert table[table["store"] == "second"]["point_ap"].tolist()[:2] == [0.5, 1]
    assert table["images"].tolist() == [2, 1, 0] * 2
    (x, y), (right, low) = pixel(0, 0), pixel(7, 7)
    steps = [np.hypot(right - x, low - y), 3 * HEIGHT / SIDE, 0]
    found = figures["test"]["peak_distance"]["first to second"]
    assert found["pairs"] == 3
    assert found["pixels"] == pytest.approx(np.mean(steps), abs=2)
    assert found["diagonals"] == pytest.approx(found["pixels"] / np.hypot(WIDTH, HEIGHT), abs=1e-6)


def test_maps_of_absent_classes_are_points_alone(workspace: Workspace) -> None:
    workspace.add("a", (0, LEFT))
    workspace.add("b", (1, RIGHT))
    present = {("a", 0): peaked(1, 1, 0.5), ("b", 1): peaked(6, 1, 0.5)}
    plain, _ = workspace.evaluate(one=present, two=present)
    more, _ = workspace.evaluate(one=present | {("b", 0): peaked(1, 1, 1)}, two=present)
    before, after = (found["test"]["stores"]["one"] for found in (plain, more))
    assert (before["point_map"], after["point_map"]) == (1, 0.75)
    assert (before["maps_of_absent_classes"], after["maps_of_absent_classes"]) == (0, 1)
    assert before["saliency_ap"] == after["saliency_ap"]
    assert more["test"]["peak_distance"] == plain["test"]["peak_distance"]
    assert more["test"]["peak_distance"]["one to two"] == {"pixels": 0, "diagonals": 0, "pairs": 2}


def test_a_class_agnostic_map_stands_for_every_class_that_is_shown(workspace: Workspace) -> None:
    workspace.add("a", (0, LEFT), (2, RIGHT))
    any_map = peaked(1, 1)
    agnostic, _ = workspace.evaluate(one={("a", -1): any_map})
    by_class, _ = workspace.evaluate(one={("a", 0): any_map, ("a", 2): any_map})
    assert agnostic == by_class


def test_images_and_splits_that_do_not_count(workspace: Workspace) -> None:
    """No object, no mask beside others that have one, no map in the split."""
    workspace.add("a", (0, LEFT))
    workspace.add("b")
    workspace.add("c", (0, RIGHT), masked=False)
    workspace.add("d", (0, RIGHT), split="train-fullsup")
    figures, table = workspace.evaluate(one={(name, 0): peaked(1, 1) for name in "abc"}, two={("d", 0): peaked(1, 1)})
    assert figures["test"]["images"] == 2
    assert list(figures["test"]["stores"]) == ["one"]
    assert figures["test"]["stores"]["one"]["saliency_pairs"] == 1
    assert list(figures["train-fullsup"]["stores"]) == ["two"]
    assert table.groupby("split")["store"].unique().map(list).to_dict() == {"test": ["one"], "train-fullsup": ["two"]}
    assert figures["train-fullsup"]["peak_distance"] == {}


def test_void_pixels_do_not_count(workspace: Workspace) -> None:
    workspace.add("a", (0, LEFT))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, :20], mask[:, 20:] = 1, 255
    Image.fromarray(mask).save(workspace.data / "truth/masks/a.png")
    figures, _ = workspace.evaluate(one={("a", 0): peaked(7, 7)})
    assert figures["test"]["stores"]["one"]["saliency_ap"] == 1


def test_bad_stores_are_refused(workspace: Workspace) -> None:
    workspace.add("a", (0, LEFT))
    with pytest.raises(InputError, match=r"one/maps\.h5: image 'z' is not in the index"):
        workspace.evaluate(one={("z", 0): peaked(1, 1)})
    with pytest.raises(InputError, match="image 'a': label 3 is not one of the 3 classes"):
        workspace.evaluate(one={("a", 3): peaked(1, 1)})


def test_stage_writes_the_same_figures_twice(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("preset: small\n")
    maps, _ = random_workspace(workspace, masked=True)
    write_index(workspace.data / "index.parquet", workspace.index())
    write_annotations(workspace.data / "truth/annotations.parquet", workspace.annotations())
    for name in ("two-phase-1", "two-phase"):
        workspace.store(name, maps)
    files = [Path("results/small") / name for name in ("heat_maps/two-phase.json", "curves/two-phase-heat-maps.csv")]
    stage.main("two-phase", "two-phase-1", "two-phase")
    first = [path.read_bytes() for path in files]
    assert list(json.loads(first[0])["test"]["stores"]) == ["two-phase", "two-phase-1"]
    stage.main("two-phase", "two-phase-1", "two-phase")
    assert [path.read_bytes() for path in files] == first
    stage.main("two-phase")
    assert list(json.loads(files[0].read_text())["test"]["stores"]) == ["two-phase"]
    write_annotations(workspace.data / "truth/annotations.parquet", workspace.annotations()[:0])
    stage.main("two-phase")
    assert "nothing to evaluate" in capsys.readouterr().out
    assert files[0].read_text() == "{}\n"
