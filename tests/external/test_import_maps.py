import hashlib
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from stages.import_maps import main
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import Kind, MapStore
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.external.import_maps import squashed

OUTPUT = Path("data/detection/outputs/salient/maps.h5")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of two images and a folder of maps for them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    write_params()
    rows = [(name, f"{name}.jpg", "", split, [0], 8, 6) for name, split in (("a/x", "test"), ("b", "train-weaksup"))]
    columns = ["image_id", "path", "digest", "split", "labels", "width", "height"]
    write_index(
        Path("data/detection/index.parquet"), ImageIndex(pd.DataFrame(rows, columns=columns), ("cat", "dog"), "d")
    )
    Path("maps/a").mkdir(parents=True)
    np.save("maps/a/x.npy", np.array([[0.0, 1.0]]))
    Image.fromarray(np.full((9, 9), 51, dtype=np.uint8)).save("maps/b.png")


def write_params(**changes) -> None:
    block = {"path": "maps", "set": "detection", "resolution": 4} | changes
    Path("params.yaml").write_text(yaml.safe_dump({"import_maps": {"salient": block}}))


def test_all_images_get_a_map_of_one_size_in_order():
    main("salient")
    with MapStore(OUTPUT) as store:
        assert store.kind is Kind.SCORE
        assert store.image_ids.tolist() == ["a/x", "b"]
        assert store.labels.tolist() == [-1, -1]
        assert store.shape == (4, 4)
        np.testing.assert_allclose(store[0], np.tile([0, 0.25, 0.75, 1], (4, 1)))
        np.testing.assert_allclose(store[1], 0.2, atol=1e-3)


def test_the_same_maps_give_the_same_bytes():
    digests = []
    for _ in range(2):
        main("salient")
        digests.append(hashlib.sha256(OUTPUT.read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_maps_of_other_images_are_passed_over():
    np.save("maps/other.npy", np.full((2, 2), np.nan))
    main("salient")
    with MapStore(OUTPUT) as store:
        assert len(store) == 2


def test_labels_of_a_file_are_kept():
    with h5py.File("maps.h5", "w") as file:
        file["maps"], file["image_id"], file["label"] = np.zeros((3, 2, 2)), ["b", "b", "a/x"], [1, 0, 0]
    write_params(path="maps.h5")
    main("salient")
    with MapStore(OUTPUT) as store:
        assert list(zip(store.image_ids, store.labels.tolist(), strict=True)) == [("a/x", 0), ("b", 0), ("b", 1)]


def test_a_label_of_no_class_is_refused():
    with h5py.File("maps.h5", "w") as file:
        file["maps"], file["image_id"], file["label"] = np.zeros((2, 2, 2)), ["b", "a/x"], [0, 2]
    write_params(path="maps.h5")
    with pytest.raises(InputError, match="'a/x' has a map for 2"):
        main("salient")
    assert not OUTPUT.exists()


def test_an_image_without_a_map_or_with_two_is_refused():
    np.save("maps/x.npy", np.zeros((1, 1)))
    with pytest.raises(InputError, match="both maps of image 'a/x'"):
        main("salient")
    Path("maps/x.npy").unlink()
    Path("maps/b.png").unlink()
    with pytest.raises(InputError, match="no map for 1 images of the data set, 'b' for one"):
        main("salient")


def test_a_bad_map_leaves_nothing_behind():
    np.save("maps/a/x.npy", np.array([[0.0, np.nan]]))
    with pytest.raises(InputError, match=r"maps/a/x\.npy: .*not finite"):
        main("salient")
    assert not OUTPUT.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "/maps"}, "inside the project"),
        ({"path": "../maps"}, "inside the project"),
        ({"path": ""}, "inside the project"),
        ({"set": "other"}, "localization"),
        ({"resolution": 0}, "resolution"),
        ({"sett": "detection"}, "sett"),
        ({"path": "nowhere"}, "neither a folder"),
    ],
)
def test_bad_parameters_are_refused(changes, message):
    write_params(**changes)
    with pytest.raises(InputError, match=message):
        main("salient")


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="did you mean 'salient'"):
        main("salien")


def test_squashing_averages_where_it_shrinks_and_keeps_constants():
    stripes = np.tile(np.array([0, 1], dtype=np.float32), (8, 4))
    np.testing.assert_allclose(squashed(stripes, 4), 0.5)
    for shape in ((1, 1), (3, 7), (9, 2), (300, 200)):
        result = squashed(np.full(shape, 0.7, dtype=np.float32), 5)
        assert result.shape == (5, 5)
        np.testing.assert_allclose(result, 0.7, atol=1e-4)
