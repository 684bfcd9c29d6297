"""Top-1 and Top-5 of classifier and boxes together: by hand, against counting, and as a stage."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import evaluate_classification as stage
from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError
from wsol_core.core.files import write_table
from wsol_core.data.class_scores import write_scores
from wsol_core.data.index import SPLITS, TEST, TRAIN_WEAKSUP, ImageIndex, write_annotations, write_index
from wsol_core.evaluation.classification import evaluate

CLASSES = 7
TRUE, RIGHT, HALF, WRONG = (0, 0, 10, 10), (0, 0, 10, 6), (0, 0, 10, 5), (20, 20, 30, 30)


def make_index(labels: list[int], splits: list[str], classes: int = CLASSES) -> ImageIndex:
    ids = [f"{n:02d}" for n in range(len(labels))]
    table = pd.DataFrame({
        "image_id": ids, "path": ids, "digest": "", "split": splits, "labels": [[label] for label in labels],
        "width": 40, "height": 30,
    })  # fmt: skip
    return ImageIndex(table, tuple("abcdefg"[:classes]), "letters", ".")


def boxes(rows: dict[str, tuple[int, ...]], label: int = -1) -> pd.DataFrame:
    table = pd.DataFrame(
        [(image_id, *corners) for image_id, corners in rows.items()], columns=["image_id", *BOX_COLUMNS]
    )
    return table.astype(dict.fromkeys(BOX_COLUMNS, "float32")).assign(score=np.float32(1), label=label)


def annotations(index: ImageIndex, annotated: list[str]) -> pd.DataFrame:
    rows = index.table[index.table["image_id"].isin(annotated)]
    table = boxes(dict.fromkeys(rows["image_id"], TRUE)).drop(columns="score")
    return table.assign(label=[own[0] for own in rows["labels"]], difficult=False, instance=0)


def ranking(*firsts: list[int]) -> np.ndarray:
    return np.array([[*first, *[-1] * (5 - len(first))] for first in firsts], dtype=np.int64)


def test_by_hand() -> None:
    """Four images: right; class second; box exactly half; class not in five. Only three of them have annotations."""
    index = make_index([0, 0, 0, 1], [TEST] * 4)
    ranked = ranking([0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [0, 1, 2, 3, 4], [0, 2, 3, 4, 5])
    found = boxes({"00": RIGHT, "01": RIGHT, "02": HALF, "03": TRUE})
    figures = evaluate(index, annotations(index, ["00", "01", "02"]), ranked, {"ddt": found}, seed=0)
    assert list(figures) == [TEST]
    ddt = figures[TEST].pop("methods")["ddt"]
    assert figures[TEST] == {
        "top1_cls": 0.5, "top5_cls": 0.75, "top1_cls_class_mean": 0.333333, "top5_cls_class_mean": 0.5, "images": 4,
    }  # fmt: skip
    third = 0.333333
    low, high = ddt.pop("top1_loc_low"), ddt.pop("top1_loc_high")
    assert low == 0
    assert 0.6 < high <= 1
    assert ddt == {
        "top1_loc": third, "top5_loc": 0.666667, "gt_known": 0.666667, "top1_loc_class_mean": third,
        "top5_loc_class_mean": 0.666667, "gt_known_class_mean": 0.666667, "images": 3,
    }  # fmt: skip


def test_images_without_box_or_class_are_wrong() -> None:
    index = make_index([0, 0, 0], [TEST] * 3)
    figures = evaluate(
        index, annotations(index, ["00", "01", "02"]), ranking([0], [], [0]), {"m": boxes({"00": TRUE})}, 0
    )
    found = figures[TEST]["methods"]["m"]
    assert (figures[TEST]["top1_cls"], found["top1_loc"], found["top5_loc"], found["images"]) == (
        0.666667,
        *[0.333333] * 2,
        3,
    )
    empty = evaluate(index, annotations(index, ["00"]), ranking([], [], []), {"m": boxes({})}, 0)[TEST]
    assert (empty["top5_cls"], empty["methods"]["m"]["top5_loc"], empty["methods"]["m"]["gt_known"]) == (0, 0, 0)


def test_a_split_without_annotations_has_classification_alone() -> None:
    index = make_index([0, 1], [TRAIN_WEAKSUP, TEST])
    figures = evaluate(index, annotations(index, ["01"]), ranking([0], [0]), {"m": boxes({"01": TRUE})}, 0)
    assert (figures[TRAIN_WEAKSUP]["methods"], figures[TRAIN_WEAKSUP]["top1_cls"]) == ({}, 1)
    assert (figures[TEST]["methods"]["m"]["gt_known"], figures[TEST]["methods"]["m"]["top1_loc"]) == (1, 0)
    assert evaluate(index, annotations(index, []), ranking([0], [0]), {"m": boxes({})}, 0)[TEST]["methods"] == {}


@pytest.mark.parametrize("classes", [1, 3])
def test_top_five_of_fewer_classes_needs_only_a_box(classes: int) -> None:
    index = make_index([0, classes - 1], [TEST] * 2, classes)
    ranked = np.tile(np.arange(classes), (2, 1))
    found = evaluate(index, annotations(index, ["00", "01"]), ranked, {"m": boxes({"00": TRUE, "01": HALF})}, 0)[TEST]
    assert found["top5_cls"] == 1
    assert found["methods"]["m"]["top5_loc"] == 0.5


def test_several_labels_are_refused() -> None:
    index = make_index([0], [TEST])
    index.table["labels"] = [[0, 1]]
    with pytest.raises(InputError, match="'00' of 'letters' has 2 labels"):
        evaluate(index, annotations(index, []), ranking([0]), {}, 0)


image = st.fixed_dictionaries({
    "label": st.integers(0, 4),
    "split": st.sampled_from(SPLITS),
    "annotated": st.booleans(),
    "ranked": st.permutations(range(CLASSES)).map(lambda row: row[:5]) | st.just([-1] * 5),
    "box": st.sampled_from([RIGHT, HALF, WRONG, None]),
})  # fmt: skip


def named(k: int, row: dict[str, Any]) -> bool:
    return row["label"] in row["ranked"][:k]


def located(row: dict[str, Any]) -> bool:
    return row["box"] == RIGHT


def named_and_found(k: int, row: dict[str, Any]) -> bool:
    return named(k, row) and located(row)


def naive(images: list[dict[str, Any]]) -> dict[str, Any]:
    def mean(rows: list[dict[str, Any]], right: Any) -> tuple[float, float]:
        groups = [[right(row) for row in rows if row["label"] == label] for label in {row["label"] for row in rows}]
        return sum(map(sum, groups)) / len(rows), sum(sum(group) / len(group) for group in groups) / len(groups)

    def measures(rows: list[dict[str, Any]], tests: dict[str, Any]) -> dict[str, Any]:
        means = {name: mean(rows, right) for name, right in tests.items()}
        pairs = [*((name, 0, name) for name in means), *((f"{name}_class_mean", 1, name) for name in means)]
        return {key: means[name][place] for key, place, name in pairs} | {"images": len(rows)}

    found = {}
    for split in {row["split"] for row in images}:
        rows = [row for row in images if row["split"] == split]
        boxed = [row for row in rows if row["annotated"]]
        top = {f"top{k}_cls": partial(named, k) for k in (1, 5)}
        local = {f"top{k}_loc": partial(named_and_found, k) for k in (1, 5)} | {"gt_known": located}
        found[split] = measures(rows, top) | {"methods": {"m": measures(boxed, local)} if boxed else {}}
    return found


@given(st.lists(image, min_size=1, max_size=25))
@settings(max_examples=60)
def test_agrees_with_counting(images: list[dict[str, Any]]) -> None:
    index = make_index([row["label"] for row in images], [row["split"] for row in images])
    ids = index.table["image_id"].tolist()
    truth = annotations(index, [image_id for image_id, row in zip(ids, images, strict=True) if row["annotated"]])
    found = boxes({image_id: row["box"] for image_id, row in zip(ids, images, strict=True) if row["box"]})
    figures = evaluate(index, truth, np.array([row["ranked"] for row in images]), {"m": found}, 0)
    expected = naive(images)
    assert figures.keys() == expected.keys()
    for split, own in figures.items():
        methods, wanted = own.pop("methods"), expected[split].pop("methods")
        assert own == pytest.approx(expected[split], abs=1e-6)
        assert methods.keys() == wanted.keys()
        for method, measured in methods.items():
            low, high = measured.pop("top1_loc_low"), measured.pop("top1_loc_high")
            assert low <= measured["top1_loc"] + 1e-6
            assert high >= measured["top1_loc"] - 1e-6
            assert measured == pytest.approx(wanted[method], abs=1e-6)


def test_the_stage_writes_every_method_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, index = Path("data/localization"), make_index([0, 1], [TEST] * 2)
    Path("params.yaml").write_text("preset: small\nseed: 0\nmethods: {ddt: {}, cam: {}}\n")
    write_index(data / "index.parquet", index)
    write_annotations(data / "truth/annotations.parquet", annotations(index, ["00", "01"]))
    write_scores(data / "outputs/lite/classes.parquet", index, ranking([0], [0])[:, :1], np.ones((2, 1), np.float32))
    for method, box in (("ddt", TRUE), ("cam", WRONG), ("left", TRUE)):
        write_table(data / f"boxes/{method}.parquet", boxes({"00": box, "01": box}))
    digests = []
    for _ in range(2):
        stage.main("lite")
        digests.append(Path("results/small/classification/lite.json").read_bytes())
    figures = json.loads(digests[0])
    assert digests[0] == digests[1]
    assert {name: found["top1_loc"] for name, found in figures[TEST]["methods"].items()} == {"cam": 0, "ddt": 0.5}
    (data / "boxes/cam.parquet").unlink()
    with pytest.raises(InputError, match=r"cam\.parquet: not a readable table"):
        stage.main("lite")
