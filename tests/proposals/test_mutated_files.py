"""Proposals of others in damaged files: boxes inside their images, or one line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from tests.mutations import few_and_many, survive
from wsol_core.core.texts import read_json
from wsol_core.data.index import ImageIndex
from wsol_core.proposals.files import FileParams, read_proposals

BOXES = np.array([[1, 1, 9, 9], [0, 0, 16, 16]], dtype=np.float32)


def write_npz(path: Path) -> None:
    np.savez(path, image_id=np.array(["a", "b"]), boxes=BOXES, scores=np.array([0.5, 0.25]))


def write_json(path: Path) -> None:
    rows = [{"image_id": name, "bbox": box.tolist(), "score": 0.5} for name, box in zip("ab", BOXES, strict=True)]
    path.write_text(json.dumps(rows))
    assert len(read_json(path)) == 2


def write_mat(path: Path) -> None:
    cells = np.empty(2, dtype=object)
    names = np.empty(2, dtype=object)
    cells[:], names[:] = list(BOXES[:, None]), ["a", "b"]
    savemat(path, {"boxes": cells, "images": names})


@pytest.mark.parametrize("seeds", few_and_many())
@pytest.mark.parametrize(
    ("suffix", "write"),
    [("npz", write_npz), ("json", write_json), pytest.param("mat", write_mat, marks=pytest.mark.slow)],
)
@pytest.mark.filterwarnings("ignore")
def test_proposals(tmp_path: Path, suffix: str, write: Callable[[Path], None], seeds: range) -> None:
    table = pd.DataFrame({"image_id": ["a", "b"], "path": ["a.jpg", "b.jpg"], "width": 16, "height": 16})
    index, path = ImageIndex(table, ("cat",), "mine"), tmp_path / f"p.{suffix}"
    write(path)

    def use() -> None:
        found = read_proposals(index, FileParams(path=str(path), coordinates="xyxy"))
        corners = found[["x0", "y0", "x1", "y1"]].to_numpy()
        assert corners.min() >= 0
        assert corners.max() <= 16

    use()
    survive(path, use, seeds)
