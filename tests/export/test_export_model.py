"""Exported graphs say what PyTorch says, for any batch."""

import json
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from tests import tiny_networks
from tests.tiny_backbone import use_tiny_backbone
from wsol_core.cli.app import app
from wsol_core.data.index import ImageIndex
from wsol_core.prediction.predictor import Predictor


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, small_index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    use_tiny_backbone(monkeypatch)
    tiny_networks.build(tmp_path, small_index, ["segmentation-foreground", "labelled", "bc"])


def export(method: str, out: str) -> None:
    done = CliRunner().invoke(app, ["export", "model", "--method", method, "--out", out])
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""


def pictures(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


@pytest.mark.parametrize("method", ["segmentation-foreground", pytest.param("labelled", marks=pytest.mark.slow)])
def test_onnx_says_the_same(method: str) -> None:
    export(method, "model.onnx")
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["wsol"])
    predictor = Predictor.of_method(method, device="cpu")
    assert (card["method"], card["threshold"], card["classes"]) == (method, 0.5, ["red", "green"])
    assert card["input"] == {
        "channels": "RGB", "dtype": "uint8", "range": [0, 255], "side": predictor.side, "interpolation": "bilinear",
    }  # fmt: skip
    assert [(each.name, each.type) for each in session.get_inputs()] == [("images", "tensor(uint8)")]
    for count in (1, 2, 5):
        images = pictures(count, predictor.side)
        with torch.no_grad():
            expected = predictor._look(predictor._model, images)
        maps, *classes = session.run(None, {"images": images.numpy()})
        assert expected.maps.std() > 0.01
        np.testing.assert_allclose(maps, expected.maps, atol=1e-5)
        assert bool(classes) == (expected.classes is not None)
        for own in classes:
            assert expected.classes is not None
            np.testing.assert_allclose(own, expected.classes, atol=1e-5)
    export(method, "model.onnx")


def test_a_program_says_the_same() -> None:
    export("labelled", "model.pt2")
    predictor = Predictor.of_method("labelled", device="cpu")
    program = torch.export.load("model.pt2").module()
    for count in (1, 3):
        images = pictures(count, predictor.side)
        expected = predictor._look(predictor._model, images)
        maps, classes = program(images)
        torch.testing.assert_close(maps, expected.maps)
        torch.testing.assert_close(classes, expected.classes)
    with zipfile.ZipFile("model.pt2") as archive:
        (name,) = [name for name in archive.namelist() if "wsol export" in name]
        assert json.loads(archive.read(name))["method"] == "labelled"
    export("labelled", "model.pt2")


def test_gradients_have_no_graph_and_formats_have_a_suffix() -> None:
    for method, out, message in (
        ("bc", "model.onnx", "maps are gradients"),
        ("labelled", "model.bin", "end it in .safetensors, .onnx, .pt2"),
    ):
        done = CliRunner().invoke(app, ["export", "model", "--method", method, "--out", out])
        assert done.exit_code == 1
        assert message in done.stderr
        assert not Path(out).exists()


def test_a_threshold_of_ones_own_is_exported() -> None:
    words = ["export", "model", "--method", "labelled", "--out", "a.safetensors", "--threshold", "0.25"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert Predictor.load("a.safetensors", device="cpu").card.threshold == 0.25
    words = ["export", "model", "--model", "a.safetensors", "--out", "b.safetensors"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
