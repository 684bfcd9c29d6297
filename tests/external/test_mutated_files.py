"""`wsol evaluate` and `import_maps` on damaged files: figures, or one line and exit code 1."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.mutations import few_and_many, mutated
from wsol_core.cli.app import app

SIDE = 16
XML = (
    "<annotation><size><width>16</width><height>16</height></size><object><name>cat</name><bndbox><xmin>2</xmin>"
    "<ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
)
ROW = {"category_id": 1, "bbox": [1, 1, 8, 8]}


def save_maps(folder: Path) -> Path:
    folder.mkdir()
    score_map = np.zeros((SIDE, SIDE), np.float32)
    score_map[2:9, 2:9] = 1
    np.save(folder / "a.npy", score_map)
    Image.fromarray((score_map * 255).astype(np.uint8)).save(folder / "b.png")
    with h5py.File(folder.parent / "maps.h5", "w") as file:
        file["maps"], file["image_id"], file["label"] = np.stack([score_map] * 2), ["a", "b"], [0, 0]
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two images, a and b, of one class, in every layout that is read."""
    save_maps(tmp_path / "maps")
    images = [{"id": n, "file_name": f"{name}.jpg", "width": SIDE, "height": SIDE} for n, name in enumerate("ab")]
    square = [[1, 1, 9, 1, 9, 9, 1, 9]]
    shown = [{"id": n, "image_id": n, "segmentation": square, "iscrowd": 0} | ROW for n in range(2)]
    content = {"images": images, "annotations": shown, "categories": [{"id": 1, "name": "cat"}]}
    for name, text in {
        "truth.json": json.dumps(content),
        "boxes.json": json.dumps([ROW | {"image_id": n, "score": 0.5} for n in range(2)]),
        "voc/comp4_det_test_cat.txt": "a 0.5 2 2 9 9\nb 0.25 2 2 9 9\n",
        "xml/a.xml": XML,
        "xml/b.xml": XML,
        "classes.csv": "image_id,class,score\na,cat,0.5\nb,cat,0.5\n",
        "meta/image_ids.txt": "a.jpg\nb.jpg\n",
        "meta/class_labels.txt": "a.jpg,0\nb.jpg,0\n",
        "meta/image_sizes.txt": "a.jpg,16,16\nb.jpg,16,16\n",
        "meta/localization.txt": "a.jpg,2,2,9,9\nb.jpg,2,2,9,9\n",
        "names.txt": "background\ncat\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for folder in ("masks", "predicted"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(SIDE, dtype=np.uint8)).save(tmp_path / folder / "a.png")
    return tmp_path


LOCALIZATION = "localization --maps {maps} --ground-truth {truth} --threshold 0.5"
DETECTION = "detection --boxes {boxes} --ground-truth truth.json"
SEGMENTATION = "segmentation --masks predicted --ground-truth masks --classes names.txt"
CASES = {
    "truth.json": LOCALIZATION.format(maps="maps", truth="truth.json"),
    "maps/a.npy": LOCALIZATION.format(maps="maps", truth="truth.json"),
    "maps/b.png": LOCALIZATION.format(maps="maps", truth="truth.json"),
    "maps.h5": LOCALIZATION.format(maps="maps.h5", truth="truth.json"),
    "xml/a.xml": LOCALIZATION.format(maps="maps", truth="xml"),
    "classes.csv": LOCALIZATION.format(maps="maps", truth="xml") + " --classes classes.csv",
    **{
        f"meta/{name}.txt": LOCALIZATION.format(maps="maps", truth="meta")
        for name in ("image_ids", "class_labels", "image_sizes", "localization")
    },
    "boxes.json": DETECTION.format(boxes="boxes.json"),
    "voc/comp4_det_test_cat.txt": DETECTION.format(boxes="voc"),
    "masks/a.png": SEGMENTATION,
    "predicted/a.png": SEGMENTATION,
    "names.txt": SEGMENTATION,
}


@pytest.mark.parametrize("seeds", few_and_many())
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_evaluate(files: Path, name: str, seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    monkeypatch.setenv("WSOL_WORKERS", "1")
    path, whole = files / name, (files / name).read_bytes()
    words = ["evaluate", *CASES[name].split(), "--out", "out/m.json", "--overwrite"]
    assert CliRunner().invoke(app, words).exit_code == 0
    for seed in seeds:
        path.write_bytes(mutated(whole, seed))
        result = CliRunner().invoke(app, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            f"seed {seed}: {result.exception!r}"
        )
        if result.exit_code:
            assert result.exit_code == 1, seed
            assert len([line for line in result.output.splitlines() if line.startswith("error: ")]) == 1, seed
