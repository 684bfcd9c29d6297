"""Two processes under torchrun against one: the same weights, the same store."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

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


def run(folder: Path, batch: int, processes: int, *stop: str) -> None:
    script = folder.parent / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    folder.mkdir(exist_ok=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = [sys.executable, *(launcher if processes > 1 else []), str(script), str(folder), str(batch), *stop]
    every_step = {"WSOL_CHECKPOINT_MINUTES": "0"} if stop else {}
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "WSOL_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment | every_step, timeout=120)
    assert (done.returncode != 0) == bool(stop)


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
