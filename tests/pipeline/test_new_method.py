"""A new method is one folder and one entry of the parameters: shown by adding one to a copy and running it with DVC."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from wsol_core.configuration.expand import expand
from wsol_core.configuration.presets import preset_parameters
from wsol_core.core.map_store import MapStore

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

TOY = '''
"""A toy method: the brightness of a learnt mixture of colours."""

from torch import Tensor, nn
from torch.nn import functional

from wsol_core.backbones.create import OnBackbone
from wsol_core.engine.recipe import Output, Recipe, look_at_maps
from wsol_core.engine.targets import class_labels
from wsol_core.engine.training_params import NetworkParams


class ToyParams(NetworkParams):
    """The toy and its training."""

    cells: int = 7
    """side of the maps"""


class Toy(OnBackbone):
    """Maps from a 1x1 convolution."""

    def __init__(self, backbone, cells, classes):
        super().__init__(backbone)
        self.cells, self.head = cells, nn.Conv2d(3, classes, 1)

    def forward(self, images):
        """Class logits at each cell."""
        return self.head(functional.adaptive_avg_pool2d(images.float() / 255, self.cells))


def maps(model, images, labels):
    """The mean over classes."""
    return model(images).mean(1, keepdim=True).sigmoid()


class ToyRecipe(Recipe):
    """Labels in, maps out."""

    params = ToyParams

    def build(self, params, classes):
        """The toy."""
        return Toy(params.create_backbone(), params.cells, classes)

    def targets(self, params, index):
        """The labels."""
        return class_labels

    def loss(self, params, index):
        """Cross entropy."""
        return lambda model, batch: functional.cross_entropy(model(batch.inputs).mean((2, 3)), batch.targets)

    def outputs(self, params, classes):
        """Maps."""
        return {"maps": Output(maps)}

    def look(self, params):
        """The maps."""
        return look_at_maps(maps)


RECIPES = {"toy": ToyRecipe()}
'''
PATCH = """
preset: toy
data:
  localization: {name: squares, source: pictures, reader: folder, fullsup_per_class: 2, test_per_class: 2}
rendered: []
networks:
  toy: {method: toy, network: toy, backbone: {name: efficientnet_lite0, weights: none},
        training: {epochs: 1, batch: 8, lr_backbone: 0.0, lr_head: 0.1, image_side: 64}}
methods:
  toy: {calibrated_by: otsu, calibrated_on: data/localization/index.parquet}
report: {sets: [localization]}
"""


def copy_project(folder: Path) -> None:
    """The code and the pipeline, without data, results and git's history."""
    for name in ("stages", "wsol_core"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROJECT / "presets", folder / "presets")
    shutil.copy(PROJECT / "dvc.yaml", folder)
    shutil.copytree(PROJECT / "data/demo", folder / "data/demo")


def add_pictures(folder: Path) -> None:
    """Two classes of eight pictures, a bright square each."""
    generator = np.random.default_rng(0)
    for number in range(16):
        picture = generator.integers(0, 80, (48, 48, 3), dtype=np.uint8)
        picture[12:36, 8:40, number % 2] = 255
        path = folder / "pictures" / ("red", "green")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def test_a_method_is_one_folder_and_one_entry(tmp_path: Path) -> None:
    copy_project(tmp_path)
    add_pictures(tmp_path)
    recipe = tmp_path / "wsol_core/methods/toy/recipe.py"
    recipe.parent.mkdir()
    recipe.write_text(textwrap.dedent(TOY).lstrip(), encoding="utf-8")
    (recipe.parent / "__init__.py").write_text('"""A toy method."""\n', encoding="utf-8")
    (tmp_path / "presets/toy.yaml").write_text(PATCH, encoding="utf-8")
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path), "WSOL_WORKERS": "1"}
    commands = (
        ("git", "init", "--quiet"),
        ("dvc", "init", "--quiet"),
        (sys.executable, "-c", "from wsol_core.cli.app import app; app()", "use", "toy"),
        ("dvc", "repro", "localize@toy"),
    )
    for words in commands:
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    with MapStore(tmp_path / "data/localization/outputs/toy/maps.h5") as store:
        assert len(store) == 16
        assert store.shape == (7, 7)
    assert (tmp_path / "data/localization/boxes/toy.parquet").is_file()
    networks = yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8"))["networks"]
    assert networks["toy"]["cells"] == 7
    assert "toy" not in expand(preset_parameters("demo", PROJECT))
