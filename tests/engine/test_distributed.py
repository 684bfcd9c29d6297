"""Two processes under torchrun against one: the same weights, the same stores."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.engine.test_features import STORE, write_params
from tests.engine.test_recipes import write_pseudo_labels
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import ImageIndex, write_index

SCRIPT = """
import sys
from pathlib import Path

import torch
from torch import nn

from tests.engine.test_inference import TRAINING, brightness, pool
from tests.engine.test_training import PARAMS, Net, loss, pairs
from wsol_core.engine.checkpoints import save_checkpoint
from wsol_core.data.index import read_index
from wsol_core.core.files import write_csv
from wsol_core.engine.inference import InferenceParams, write_maps
from wsol_core.engine.devices import launch
from wsol_core.engine.training import Trainer

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    index = read_index(folder.parent / "index.parquet")
    fabric = launch("32-true")
    torch.manual_seed(0)
    model = Net()
    model.drop = nn.Identity()
    params = PARAMS.model_copy(update={"batch": int(sys.argv[2])})
    stop = len(sys.argv) > 3
    steps = []

    def counted_loss(*given):
        steps.append(1)
        if stop and len(steps) == 9:
            sys.exit(1)
        return loss(*given)

    trainer = Trainer(fabric, model, counted_loss, params, 0, folder)
    history = trainer.fit(pairs(index, "train-weaksup"), pairs(index, "train-fullsup"))
    training = TRAINING.model_copy(update={"batch": 5})
    write_maps(fabric, pool(), brightness, index, training, InferenceParams(), folder / "maps.h5")
    if fabric.is_global_zero:
        save_checkpoint(folder / "model.safetensors", trainer.model.module.state_dict(), {})
        write_csv(folder / "loss.csv", history)
"""


STAGES = """
import pytest

from stages import features, maps, train
from tests.tiny_backbone import use_tiny_backbone
from wsol_core.engine.devices import launch

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_backbone(patch)
        for stage, *words in (
            (features.main, "frozen"), (train.main, "foreground"),
            (maps.main, "foreground", "localization", "data/localization/features/frozen.h5"),
        ):  # fmt: skip
            stage(*words)
            launch("32-true").barrier()  # the next stage starts when all processes of this one have ended
"""


def launch(script: Path, code: str, processes: int, *words: str, **variables: str) -> int:
    script.write_text(textwrap.dedent(code))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(script), *words]
    project = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": project, "WSOL_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment | variables, timeout=240).returncode


def run(folder: Path, batch: int, processes: int, *stop: str) -> None:
    folder.mkdir(exist_ok=True)
    every_step = {"WSOL_CHECKPOINT_MINUTES": "0"} if stop else {}
    failed = launch(folder.parent / "run.py", SCRIPT, processes, str(folder), str(batch), *stop, **every_step)
    assert bool(failed) == bool(stop)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [6, 5])
def test_two_processes_stopped_and_resumed_equal_one(small_index: ImageIndex, tmp_path: Path, batch: int) -> None:
    """16 images: the last batch of an epoch has 4 of 6, or 1 of 5 and so none for the second process."""
    write_index(tmp_path / "index.parquet", small_index)
    one, two = tmp_path / "one", tmp_path / "two"
    run(one, batch, 1)
    run(two, batch, 2, "stop")
    assert (two / "checkpoint.pt").exists()
    run(two, batch, 2)
    expected, found = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, atol=1e-5), name
    curve, curve_of_two = (pd.read_csv(folder / "loss.csv") for folder in (one, two))
    pd.testing.assert_frame_equal(curve_of_two, curve, rtol=0, atol=1e-5)
    assert (two / "maps.h5").read_bytes() == (one / "maps.h5").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("store", ["always", "never"])
def test_two_processes_on_features_equal_one(
    small_index: ImageIndex, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process writes the store; both learn from it, and give maps of their share of the images."""
    outputs = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.delenv("DVC_STAGE", raising=False)
        write_index(Path("data/localization/index.parquet"), small_index)
        write_pseudo_labels(small_index)
        write_params({"store": store, "views": ["plain", "mirrored"]}, batch=6)
        assert launch(tmp_path / "run.py", STAGES, processes) == 0
        assert [path.name for path in STORE.parent.iterdir()] == [STORE.name]
        maps = Path("data/localization/outputs/foreground/maps.h5")
        outputs.append([folder / path for path in (STORE, Path("data/models/foreground.safetensors"), maps)])
    (store_of_one, one, maps_of_one), (store_of_two, two, maps_of_two) = outputs
    assert store_of_two.read_bytes() == store_of_one.read_bytes()
    expected, found = load_file(one), load_file(two)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, atol=1e-5), name
    with MapStore(maps_of_one) as of_one, MapStore(maps_of_two) as of_two:
        assert of_two.image_ids.tolist() == of_one.image_ids.tolist()
        np.testing.assert_allclose(of_two[:], of_one[:], atol=2e-3)
