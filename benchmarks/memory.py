"""Peak memory of stages at 1,000 and at 100,000 images, each in a process of its own.

Run `python -m benchmarks.memory`. Exit code 1 where the peak grows by more than the bound. A stage runs as it is, in a
project of its own whose feature store, of 7x7x32 features, is random and written directly. 99,000 more images are
296 MiB of features in float16: keeping them breaks the bound. What may grow is the index: ids, labels, positions.

Training keeps features that fit in 2 GiB in memory; that is switched off here, so that it reads them as it does those
of a set that does not fit.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import h5py
import numpy as np
import pandas as pd
import torch
import yaml
from torch import nn

from benchmarks.against_forward import ReadyImages
from wsol_core.backbones import create
from wsol_core.backbones.create import BackboneParams
from wsol_core.backbones.pyramid import TORCHVISION, Chain, Pyramid
from wsol_core.core import map_store
from wsol_core.core.map_store import Kind
from wsol_core.core.params import load
from wsol_core.data.index import TRAIN_WEAKSUP, ImageIndex, read_index, write_index
from wsol_core.engine import feature_pairs, feature_store
from wsol_core.engine.devices import launch
from wsol_core.engine.feature_store import write_features
from wsol_core.engine.features import FeatureParams
from wsol_core.engine.fit import fit_network
from wsol_core.engine.recipe import load_entry
from wsol_core.engine.writer import write_outputs
from wsol_core.methods.ddt.colocalization import DDTParams
from wsol_core.methods.ddt.outputs import write_outputs as write_ddt

BOUND = 2048
"""Bytes that an image may add to the peak; its features are 3,136."""
FEW, MANY = 1_000, 100_000
BLOCK = 1_000
CELLS, CHANNELS, STRIDE = 7, 32, 4
FEATURES = FeatureParams(
    backbone=BackboneParams(name="vgg16", weights="none"), side=CELLS * STRIDE, batch=32, precision="32-true"
)
DATA = Path("data/localization")
INDEX, STORE, MASKS = (DATA / name for name in ("index.parquet", "features/frozen.h5", "targets/pseudo_masks.h5"))
TRAINING = {"epochs": 1, "lr_head": 0.01, "batch": 64}
PARAMS = {
    "seed": 0,
    "ddt": {"sees": str(STORE)},
    "inference": {},
    "networks": {
        "foreground": {"method": "wsfl", "sees": str(STORE), "learns_from": str(MASKS), "training": TRAINING},
        "cam": {"method": "spol", "network": "cam", "levels": [-1], "sees": str(STORE), "training": TRAINING},
    },
}


def small_pyramid() -> Pyramid:
    """One convolution: `(B, 3, 28, 28)` to `(B, 32, 7, 7)`."""
    torch.manual_seed(0)
    network = Chain([("stem", nn.Conv2d(3, CHANNELS, STRIDE, stride=STRIDE))], ("stem",))
    return Pyramid(network, (CHANNELS,), (STRIDE,), TORCHVISION)


def write_project(count: int, classes: int) -> None:
    """Parameters, an index of images without files, and their features and pseudo masks, a thousand over and over."""
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS), encoding="utf-8")
    generator, ids = np.random.default_rng(0), [f"{number:06d}" for number in range(count)]
    labels = [[number * classes // count] for number in range(count)]
    same = {"path": "none.jpg", "digest": "", "split": TRAIN_WEAKSUP, "width": 28, "height": 28}
    table = pd.DataFrame({"image_id": ids, "labels": labels, **same})
    write_index(INDEX, ImageIndex(table, tuple(map(str, range(classes))), "ready", "."))
    STORE.parent.mkdir(parents=True)
    with h5py.File(STORE, "w") as file:
        file.attrs["params"], file.attrs["shapes"] = FEATURES.model_dump_json(), np.array([(CHANNELS, CELLS, CELLS)])
        file.create_dataset("image_id", data=ids, dtype=h5py.string_dtype())
        shape = (1, CHANNELS * CELLS**2)
        rows = file.create_dataset("rows", (count, *shape), np.float16, chunks=(1, *shape))
        block = generator.random((BLOCK, *shape)).astype(np.float16)
        for start in range(0, count, BLOCK):
            rows[start : start + BLOCK] = block
    with map_store.create(MASKS, Kind.MASK, CELLS, CELLS) as writer:
        masks = generator.integers(0, 2, (BLOCK, CELLS, CELLS)).astype(np.uint8)
        for start in range(0, count, BLOCK):
            writer.append(ids[start : start + BLOCK], [-1] * BLOCK, masks)


def run_features(count: int) -> None:
    """The stage `features` on ready images."""
    with patch.object(feature_store, "SquashedImages", lambda *_: ReadyImages(count, FEATURES.side)):
        write_features(launch(FEATURES.precision), FEATURES, read_index(INDEX), STORE)


def run_ddt(count: int) -> None:
    """The stage `ddt_boxes`: class by class, in classes of 50, and for the whole set."""
    del count
    write_ddt(load(DDTParams, "ddt"), read_index(INDEX), DATA, Path("data/models/ddt.safetensors"))


def run_training(name: str) -> None:
    """The stage `train`."""
    with patch.object(feature_pairs, "CACHE_BYTES", 0):
        fit_network(name, *load_entry(name))


def run_maps(count: int) -> None:
    """The stage `maps` of an untrained pixel classifier."""
    del count
    recipe, params = load_entry("foreground")
    training = params.training.model_copy(update={"epochs": 0})
    fit_network("foreground", recipe, params.model_copy(update={"training": training}))
    write_outputs("foreground", "localization", str(STORE))


CASES: dict[str, Callable[[int], None]] = {
    "features": run_features,
    "ddt_boxes": run_ddt,
    "train the pixel classifier": lambda _: run_training("foreground"),
    "train MFF-Net 1": lambda _: run_training("cam"),
    "maps of the pixel classifier": run_maps,
}


def run(case: str, count: int) -> int:
    """A case in the project here; the peak resident bytes of this process, those of its parent at the least."""
    with patch.object(create, "_pyramid", lambda *_: small_pyramid()):
        CASES[case](count)
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage << 10


def peak(case: str, count: int) -> int:
    """Peak resident bytes of a case, in a new process; another one writes its project before."""
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    classes = count // 50 if case == "ddt_boxes" else 20
    with tempfile.TemporaryDirectory() as folder:
        for words in (("write", str(count), str(classes)), (case, str(count))):
            command = [sys.executable, "-m", "benchmarks.memory", *words]
            done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1])


def main() -> int:
    """Print the peaks and their growth."""
    failed = False
    for case in CASES:
        few, many = peak(case, FEW), peak(case, MANY)
        each = (many - few) / (MANY - FEW)
        print(f"{case}: {few >> 20} MiB at {FEW:,} images, {many >> 20} MiB at {MANY:,}; ", end="")
        print(f"{each:.0f} bytes an image (bound {BOUND})", flush=True)
        failed |= each > BOUND
    return int(failed)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", count, classes]:
            write_project(int(count), int(classes))
        case [name, count]:
            print(run(name, int(count)))
        case _:
            sys.exit(main())
