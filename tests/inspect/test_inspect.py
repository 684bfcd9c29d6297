"""`wsol inspect`: the server's answers on a small project, its refusals, revisions, and the static folder."""

import io
import json
import re
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

from tests.inspected_project import LOCK, METHODS, RESOLUTION, make_project, make_versions
from tests.tiny_networks import write_threshold
from wsol_core.cli.app import app as cli
from wsol_core.core.boxes import BOX_COLUMNS, paired_iou
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import read_annotations, read_index
from wsol_core.inspect.inspection import PAGE, THRESHOLDS, Inspection
from wsol_core.inspect.outcomes import measure
from wsol_core.inspect.server import HEADERS, PAGE_FILES, create_app, is_own_host
from wsol_core.inspect.workspaces import WorkingTree, open_workspaces
from wsol_core.localization.localize import final_boxes, localize

IMAGES = 130
LAST = "2/00128"
"""The last image of the index, which has no map."""
FIRST = "0/00000"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("inspect") / "project"
    make_project(root, IMAGES)
    (root / "dvc.lock").write_text(LOCK, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def client(project) -> TestClient:
    return browse(project)


def browse(root: Path, *revisions: str, host: str = "127.0.0.1") -> TestClient:
    inspection = Inspection(open_workspaces(root, list(revisions)))
    return TestClient(create_app(inspection, host), base_url="http://127.0.0.1:8765")


def get(client: TestClient, page: str, status: int = 200, /, **words):
    reply = client.get(f"/{page}?{urlencode(words)}")
    assert reply.status_code == status, reply.text
    return reply


def ask(client: TestClient, page: str, /, **words):
    return get(client, f"api/{page}", **{"data_set": "localization"} | words).json()


def ids(client: TestClient, **words) -> list[str]:
    return [image["id"] for image in ask(client, "page", **words)["images"]]


def ious(project: Path, method: str = "ddt") -> pd.Series:
    """The IoU of each image's box with its one true box, by id; 0 without a box."""
    data = project / "data/localization"
    truth = read_annotations(data / "truth/annotations.parquet").set_index("image_id")[list(BOX_COLUMNS)]
    boxes = read_table(data / "boxes" / f"{method}.parquet")[0].set_index("image_id")[list(BOX_COLUMNS)]
    both = boxes.reindex(truth.index).fillna(0).to_numpy(np.float32)
    return pd.Series(paired_iou(both, truth.to_numpy(np.float32)), truth.index)


def picture(reply) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(reply.content)))


def test_overview_names_layers_thresholds_and_origins(client):
    overview = get(client, "api/overview").json()
    own = overview["sets"]["localization"]
    layers = {layer["key"]: layer for layer in own["revisions"][0]["layers"]}
    assert list(layers) == [
        "truth", "masks", "pseudo", "targets/gaussian-cam", "targets/pseudo_masks", "maps/cam", "maps/ddt",
        "layers/cam/0", "layers/cam/1",
    ]  # fmt: skip
    titles = [layers[key]["title"] for key in ("targets/gaussian-cam", "maps/cam", "layers/cam/1")]
    assert titles == ["targets: gaussian-cam", "cam", "cam: layer 2 of 2"]
    assert own["revisions"][0]["methods"] == {
        name: {"threshold": METHODS[name], "scale": "value"} for name in ("cam", "ddt")
    }
    assert own["measured"] == ["ddt", "cam"]  # in the order of params.yaml
    assert own["splits"] == {"train-weaksup": 85, "train-fullsup": 13, "test": 32}
    made = layers["maps/ddt"]["origin"]
    assert made["stage"] == "ddt_boxes"
    assert made["notes"] == ["ddt has changed in params.yaml since"]
    assert made["params"]["ddt"]["weights"] == "/home/somebody/weights.pth"
    assert layers["maps/cam"]["origin"]["stage"] is None
    detection = {layer["key"] for layer in overview["sets"]["detection"]["revisions"][0]["layers"]}
    assert {"segments/sec", "proposals", "objectness/cam", "detections/oicr"} <= detection


def test_pages_have_sixty_images_and_together_all(client):
    pages = [ids(client, sort="name", page=page) for page in range(4)]
    assert [len(page) for page in pages] == [PAGE, PAGE, 10, 0]
    every = [image for page in pages for image in page]
    assert every == sorted(every)
    assert ask(client, "page")["total"] == IMAGES


def test_worst_first_and_best_first(client, project):
    expected = ious(project).sort_values(kind="stable")
    found = ask(client, "page", method="ddt")["images"]
    assert found[0]["id"] == LAST  # without a box
    shown = [image["results"]["ddt"][0]["iou"] for image in found]
    assert shown == pytest.approx(expected.to_numpy()[:PAGE])
    best = ask(client, "page", method="ddt", sort="best")["images"]
    assert best[0]["results"]["ddt"][0]["iou"] == pytest.approx(expected.max())


@pytest.mark.parametrize("method", ["ddt", "cam"])
def test_outcomes_part_the_images(client, project, method):
    iou = ious(project, method)
    right = ask(client, "page", method=method, outcome="right")["total"]
    wrong = ask(client, "page", method=method, outcome="wrong")["total"]
    assert 0 < right == (iou > 0.5).sum()
    assert right + wrong == IMAGES
    assert ids(client, method=method, outcome="none") == [LAST]
    between = ask(client, "page", method=method, low=0.3, high=0.6)["total"]
    assert 0 < between == iou.between(0.3, 0.6).sum()


def test_split_class_and_text(client):
    assert ask(client, "page", split="test")["total"] == 32
    assert all(image.startswith("1/") for image in ids(client, label=1))
    assert ids(client, q="0/0000", sort="name") == ["0/00000", "0/00003", "0/00006", "0/00009"]
    assert ask(client, "page", q="GREEN")["total"] == 43
    assert ids(client, q="a.c") == []


@pytest.mark.parametrize("threshold", [0, 0.013, 0.25, 0.5, 0.77, 0.999, 1])
@pytest.mark.parametrize("method", ["ddt", "cam"])
def test_live_box_is_that_of_localize(client, project, method, threshold):
    data = project / "data/localization"
    with MapStore(data / "outputs" / method / "maps.h5") as store:
        expected = localize(store, read_index(data / "index.parquet"), threshold, RESOLUTION)
    for row in expected.iloc[::40].itertuples():
        found = ask(client, "live", id=row.image_id, method=method, threshold=threshold)
        assert np.array(found["boxes"], np.float32).tolist() == [[row.x0, row.y0, row.x1, row.y1]]


def test_live_boxes_of_all_components_are_those_of_localize(tmp_path):
    root = tmp_path / "several"
    make_project(root, 4)
    text = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(text.replace("components: largest", "components: all"), encoding="utf-8")
    data = root / "data/localization"
    with MapStore(data / "outputs/cam/maps.h5") as store:
        expected = localize(store, read_index(data / "index.parquet"), 0.6, RESOLUTION, "value", "all", 0.01)
    found = ask(browse(root), "live", id=FIRST, method="cam", threshold=0.6)["boxes"]
    assert found == expected[expected["image_id"] == FIRST][list(BOX_COLUMNS)].to_numpy(float).tolist()


def test_without_a_threshold_the_calibrated_one_counts(client, project):
    found = ask(client, "live", id=FIRST, method="ddt")
    boxes = read_table(project / "data/localization/boxes/ddt.parquet")[0].set_index("image_id")
    assert found["threshold"] == METHODS["ddt"]
    assert found["boxes"] == boxes.loc[[FIRST], list(BOX_COLUMNS)].to_numpy(float).tolist()
    assert found["iou"] == pytest.approx(ious(project)[FIRST])


def test_a_threshold_has_its_scale(tmp_path):
    root = tmp_path / "otsu"
    make_project(root, 4)
    write_threshold(root, "cam", 0.5, "otsu")
    data = root / "data/localization"
    with MapStore(data / "outputs/cam/maps.h5") as store:
        expected = localize(store, read_index(data / "index.parquet"), 0.5, RESOLUTION, "otsu")
    client = browse(root)
    for words in ({}, {"threshold": 0.5}):
        found = ask(client, "live", id=FIRST, method="cam", **words)
        assert (found["threshold"], found["scale"]) == (0.5, "otsu")
        assert found["boxes"] == expected[expected["image_id"] == FIRST][list(BOX_COLUMNS)].to_numpy(float).tolist()


def test_image_knows_its_neighbours(client):
    order = ids(client, method="ddt", split="test")
    found = ask(client, "image", method="ddt", split="test", id=order[5])
    assert (found["previous"], found["next"], found["place"], found["total"]) == (order[4], order[6], 5, 32)
    first = ask(client, "image", method="ddt", split="test", id=order[0])
    assert first["previous"] is None
    outside = ask(client, "image", method="ddt", split="test", id=ids(client, split="train-weaksup")[0])
    assert outside["place"] is None


def test_layers_are_pictures_of_the_maps(client, project):
    words = {"data_set": "localization", "id": FIRST}
    assert picture(get(client, "layer", **words, layer="maps/ddt")).shape == (14, 14, 4)
    mask = picture(get(client, "layer", **words, layer="targets/pseudo_masks"))
    assert mask[:, :, 3].tolist() == [[0, 255], [255, 0]]
    labels = picture(get(client, "layer", **words, layer="targets/gaussian-cam"))
    assert len({tuple(colour) for colour in labels.reshape(-1, 4).tolist()}) == 3
    inner = [picture(get(client, "layer", **words, layer=f"layers/cam/{part}")) for part in (0, 1)]
    assert inner[0].shape == (14, 14, 4)
    assert not np.array_equal(inner[0], inner[1])
    instances = picture(get(client, "layer", **words, layer="masks"))
    truth = read_annotations(project / "data/localization/truth/annotations.parquet")[list(BOX_COLUMNS)].to_numpy(int)[
        0
    ]
    assert instances.shape == (48, 64, 4)
    assert (instances[:, :, 3] > 0).sum() == (truth[3] - truth[1]) * (truth[2] - truth[0])
    assert picture(get(client, "layer", data_set="detection", id=FIRST, layer="segments/sec")).shape == (48, 64, 4)
    assert picture(get(client, "thumbnail", **words)).shape == (48, 64, 3)
    assert picture(get(client, "picture", **words)).shape == (48, 64, 3)


def test_boxes_come_best_first(client):
    found = ask(client, "boxes", data_set="detection", id=FIRST, layer="detections/oicr")["boxes"]
    assert [box[4] for box in found] == pytest.approx([0.9, 0.5])
    assert [box[5] for box in found] == [0, 0]
    assert ask(client, "boxes", id=FIRST, layer="truth")["boxes"][0][4] is None


def test_detections_are_measured(client):
    image = ask(client, "page", data_set="detection", method="oicr", q=FIRST)["images"][0]
    truth, box = image["truth"][0], image["results"]["oicr"][0]["boxes"][0]
    assert box[2] == truth[2] + 4  # the one of the higher score
    assert 0 < image["results"]["oicr"][0]["iou"] < 1


def test_measure_agrees_with_final_boxes_and_takes_the_worst_class():
    images = pd.DataFrame({"image_id": ["a", "b", "c"], "labels": [[0, 1], [1], []]})
    rows = [
        ("a", 0, 0, 10, 10, 0.2, 0),
        ("a", 5, 5, 9, 9, 0.9, 1),
        ("b", 0, 0, 4, 4, 0.1, -1),
        ("b", 0, 0, 8, 8, 0.7, -1),
    ]
    boxes = pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS, "score", "label"])
    truth = pd.DataFrame(
        [("a", 0, 0, 10, 10, 0), ("a", 5, 5, 9, 7, 1), ("b", 0, 0, 8, 8, 1)],
        columns=["image_id", *BOX_COLUMNS, "label"],
    )
    found = measure(images, boxes, truth)
    assert found.images["iou"].tolist() == pytest.approx([0.5, 1.0, np.nan], nan_ok=True)
    assert found.images["found"].tolist() == [True, True, False]
    single = pd.DataFrame({"image_id": ["a", "b"], "label": [1, 1]})
    expected = final_boxes(boxes, single).tolist()
    assert found.boxes[found.boxes["label"] == 1][list(BOX_COLUMNS)].to_numpy(float).tolist() == expected


REFUSALS = [
    ("api/page", {"data_set": "nowhere"}, 404, "no data set"),
    ("api/page", {}, 400, "data_set"),
    ("api/page", {"data_set": "../../etc"}, 404, "no data set"),
    ("api/page", {"data_set": "localization", "split": "tset"}, 404, "did you mean 'test'"),
    ("api/page", {"data_set": "localization", "label": "7"}, 404, "they are 0 to 2"),
    ("api/page", {"data_set": "localization", "method": "../ddt"}, 404, "no boxes of method"),
    ("api/page", {"data_set": "localization", "sort": "size"}, 400, "sort"),
    ("api/page", {"data_set": "localization", "page": "-1"}, 400, "page"),
    ("api/page", {"data_set": "localization", "page": "9" * 5000}, 400, "page"),
    ("api/page", {"data_set": "localization", "low": "nan"}, 400, "low"),
    ("api/page", {"data_set": "localization", "else": "1"}, 400, "else"),
    ("api/image", {"data_set": "localization", "id": "no"}, 404, "no image 'no'"),
    ("thumbnail", {"data_set": "localization", "id": "../../../etc/passwd"}, 404, "no image"),
    ("picture", {"data_set": "localization", "id": "/etc/passwd"}, 404, "no image"),
    ("picture", {"data_set": "localization", "id": "x" * 50_000}, 400, "id"),
    ("picture", {"data_set": "localization", "id": "\0"}, 404, "no image"),
    ("picture", {"data_set": "localization", "id": FIRST, "rev": "1"}, 404, "no revision 1"),
    ("picture", {"data_set": "localization", "id": FIRST, "rev": "HEAD"}, 400, "rev"),
    ("layer", {"data_set": "localization", "id": FIRST, "layer": "maps/../../x"}, 404, "no layer"),
    ("layer", {"data_set": "localization", "id": FIRST, "layer": "maps/dtd"}, 404, "did you mean 'maps/ddt'"),
    ("layer", {"data_set": "localization", "id": FIRST, "layer": "truth"}, 404, "not a picture"),
    ("layer", {"data_set": "localization", "id": LAST, "layer": "maps/ddt"}, 404, "nothing for this image"),
    ("layer", {"data_set": "localization", "id": LAST, "layer": "layers/cam/0"}, 404, "nothing for this image"),
    ("layer", {"data_set": "localization", "id": FIRST, "layer": "layers/cam/2"}, 404, "no layer"),
    ("layer", {"data_set": "detection", "id": LAST, "layer": "segments/sec"}, 404, "nothing for this image"),
    ("api/boxes", {"data_set": "localization", "id": FIRST, "layer": "masks"}, 404, "not boxes"),
    ("api/live", {"data_set": "localization", "id": FIRST, "method": "x"}, 404, "no maps of method"),
    ("api/live", {"data_set": "localization", "id": LAST, "method": "cam"}, 404, "no map of this image"),
    ("api/live", {"data_set": "detection", "id": FIRST, "method": "cam"}, 404, "no calibrated threshold"),
    *(
        ("api/live", {"data_set": "localization", "id": FIRST, "method": "cam", "threshold": value}, 400, "threshold")
        for value in ("1.01", "-0.1", "nan", "inf", "high", "9" * 400)
    ),
    ("nothing", {}, 404, "no such page"),
    ("page/../../server.py", {}, 404, "no such page"),
    ("%2e%2e/server.py", {}, 404, "no such page"),
]


@pytest.mark.parametrize(("page", "words", "status", "line"), REFUSALS)
def test_refusals_are_one_line(client, page, words, status, line):
    reply = get(client, page, status, **words)
    assert line in reply.text
    assert len(reply.text.splitlines()) == 1
    assert len(reply.text) < 400
    assert reply.headers["content-type"].startswith("text/plain")


def test_only_get_is_answered(client):
    assert client.post("/api/overview").status_code == 405
    assert client.delete("/").status_code == 405


@pytest.mark.parametrize("asked", ["evil.example", "evil.example:8765", "10.0.0.7:8765", "", "127.0.0.1.evil.example"])
def test_other_hosts_are_refused(client, asked):
    reply = client.get("/api/overview", headers={"host": asked})
    assert reply.status_code == 400
    assert "127.0.0.1" in reply.text


def test_own_hosts():
    assert all(is_own_host(name, "127.0.0.1") for name in ("127.0.0.1:80", "localhost:80", "[::1]:80"))
    assert is_own_host("192.168.0.4:80", "0.0.0.0")
    assert not is_own_host("evil.example:80", "0.0.0.0")


def test_page_files_and_headers(client):
    for name in ("", *PAGE_FILES):
        reply = client.get(f"/{name}")
        assert reply.status_code == 200
        assert {key: reply.headers[key] for key in HEADERS} == HEADERS
    page = client.get("/").text
    assert not re.search(r"https?://|\sstyle=|\son\w+=|<script>", page)


def test_a_damaged_store_is_the_servers_fault(tmp_path):
    make_project(tmp_path / "project", 4)
    (tmp_path / "project/data/localization/outputs/ddt/maps.h5").write_bytes(b"no store")
    reply = get(browse(tmp_path / "project"), "layer", 500, data_set="localization", id=FIRST, layer="maps/ddt")
    assert "run the stage that makes it again" in reply.text


def test_results_that_change_are_read_again(tmp_path):
    root = tmp_path / "project"
    make_project(root, 8)
    client = browse(root)
    before = ask(client, "page", method="ddt")["images"]
    other = tmp_path / "other"
    make_project(other, 8, shift=0.3)
    (other / "data/localization/boxes/ddt.parquet").replace(root / "data/localization/boxes/ddt.parquet")
    assert ask(client, "page", method="ddt")["images"] != before


def test_without_annotations_pseudo_boxes_are_the_reference(tmp_path):
    root = tmp_path / "project"
    make_project(root, 8)
    (root / "data/localization/truth/annotations.parquet").unlink()
    client = browse(root)
    assert get(client, "api/overview").json()["sets"]["localization"]["reference"] == "pseudo boxes"
    assert ask(client, "page", method="ddt")["images"][0]["results"]["ddt"][0]["iou"] is not None


def test_an_empty_project_is_refused(tmp_path):
    with pytest.raises(InputError, match="run `dvc repro`"):
        Inspection(open_workspaces(tmp_path, []))


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> Path:
    """A DVC project with a tag and an experiment whose maps differ."""
    root = tmp_path_factory.mktemp("versions") / "project"
    make_versions(root)
    return root


def test_revisions_side_by_side(versions):
    client = browse(versions, "first", "trial")
    overview = get(client, "api/overview").json()
    assert overview["revisions"] == ["first", "trial"]
    made = overview["sets"]["localization"]["revisions"][0]["layers"][0]["origin"]
    assert (made["stage"], made["notes"]) == ("everything", [])
    words = {"id": FIRST, "method": "ddt", "threshold": 0.4}
    boxes = [ask(client, "live", **words, rev=rev)["boxes"] for rev in (0, 1)]
    assert boxes[0] != boxes[1]
    changed = ask(client, "page", method="ddt", sort="change")["images"]
    losses = [image["results"]["ddt"][1]["iou"] - image["results"]["ddt"][0]["iou"] for image in changed[:11]]
    assert losses == sorted(losses)
    third = browse(versions, "workspace", "HEAD")
    assert ask(third, "live", **words)["boxes"] == boxes[1]
    assert ask(third, "live", **words, rev=1)["boxes"] == boxes[0]
    pictures = [
        picture(get(client, "layer", data_set="localization", id=FIRST, layer="masks", rev=rev)) for rev in (0, 1)
    ]
    assert np.array_equal(pictures[0], pictures[1])


def test_unknown_revisions_are_refused(versions, monkeypatch):
    monkeypatch.chdir(versions)
    for words in (["--rev", "nothing"], ["--rev", "first", "--rev", "first"]):
        result = CliRunner().invoke(cli, ["inspect", *words])
        assert result.exit_code == 1
        assert result.output.count("\n") == 1


QUESTIONS = {
    "api/page": {"method": "ddt"}, "api/image": {"id": FIRST, "method": "ddt"},
    "api/boxes": {"id": FIRST, "layer": "truth"}, "api/live": {"id": FIRST, "method": "ddt"},
    "layer": {"id": FIRST, "layer": "maps/ddt"}, "thumbnail": {"id": FIRST}, "picture": {"id": FIRST},
}  # fmt: skip


@pytest.mark.parametrize("artifact", ["index.parquet", "boxes/ddt.parquet", "maps.h5", "annotations.parquet", "*.jpg"])
def test_what_vanishes_while_it_is_looked_at_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifact: str
) -> None:
    """As where a stage runs beside the page: the file is found, and gone when it is read."""
    make_project(tmp_path / "project", 5)
    locate = WorkingTree.locate

    def vanishing(self: WorkingTree, name: str) -> Path | None:
        path = locate(self, name)
        return tmp_path / path.name if path and path.match(artifact) else path

    client = browse(tmp_path / "project")
    monkeypatch.setattr(WorkingTree, "locate", vanishing)
    refused = 0
    for page, words in QUESTIONS.items():
        reply = client.get(f"/{page}?{urlencode({'data_set': 'localization'} | words)}")
        if reply.status_code != 200:
            refused += 1
            assert reply.status_code == 500
            assert reply.text.count("\n") == 1
            assert "load the page again" in reply.text
            assert str(tmp_path) not in reply.text
    assert refused


def test_static_folder_is_whole_and_has_no_absolute_path(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    out = tmp_path / "shown"
    words = ["inspect", "--static", str(out), "--images", "5", "--filter", "#split=test&method=ddt&id=x"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    content = json.loads((out / "data.js").read_text(encoding="utf-8").removeprefix("window.INSPECTION = ")[:-2])
    assert len(content["images"]) == 5
    for image in content["images"]:
        names = [image["thumbnail"], *image["pictures"], *image["layers"][0].values()]
        assert all((out / name).is_file() for name in names if name)
    live = content["images"][1]["live"][0]["ddt"]
    assert live["calibrated"]["threshold"] == METHODS["ddt"]
    assert live["steps"][0]["threshold"] == THRESHOLDS[0]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all((out / name).is_file() for name in re.findall(r'(?:src|href)="([\w.]+)"', page))
    assert "data.js" in page
    for path in out.rglob("*"):
        assert path.suffix in (".png", ".jpg", "") or not re.search(
            rf"{project}|/home/", path.read_text(encoding="utf-8")
        )


def test_static_steps_hold_the_boxes_of_every_stop(client, project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    assert CliRunner().invoke(cli, ["inspect", "--static", str(tmp_path / "shown"), "--images", "2"]).exit_code == 0
    text = (tmp_path / "shown/data.js").read_text(encoding="utf-8")
    image = json.loads(text.removeprefix("window.INSPECTION = ")[:-2])["images"][1]
    steps = image["live"][0]["cam"]["steps"]
    for threshold in THRESHOLDS[::9]:
        own = [step for step in steps if step["threshold"] <= threshold][-1]
        assert own["boxes"] == ask(client, "live", id=image["id"], method="cam", threshold=threshold)["boxes"]


def test_static_refuses_other_folders_and_bad_filters(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/data.js").write_text("mine")
    for words in (["--static", str(tmp_path / "mine")], ["--static", str(tmp_path / "x"), "--filter", "split=tset"]):
        result = CliRunner().invoke(cli, ["inspect", *words])
        assert result.exit_code == 1
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine", tmp_path / "mine/data.js"]
    assert (tmp_path / "mine/data.js").read_text() == "mine"


def test_static_folder_is_written_again_beside_files_of_the_user(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    out = tmp_path / "shown"
    words = ["inspect", "--static", str(out), "--images"]
    assert CliRunner().invoke(cli, [*words, "3"]).exit_code == 0
    (out / "pictures/mine.txt").touch()
    assert CliRunner().invoke(cli, [*words, "2"]).exit_code == 0
    assert sorted(path.name for path in (out / "pictures").iterdir()) == ["00000-0.jpg", "00001-0.jpg", "mine.txt"]
    (out / "index.html").write_text("my own words")
    result = CliRunner().invoke(cli, [*words, "1"])
    assert result.exit_code == 1
    assert f"{out}/index.html: was changed since" in result.output
    assert (out / "pictures/00001-0.jpg").exists()
    assert CliRunner().invoke(cli, [*words, "1", "--overwrite"]).exit_code == 0
    assert sorted(path.name for path in (out / "pictures").iterdir()) == ["00000-0.jpg", "mine.txt"]
