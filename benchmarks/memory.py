"""Peak memory of features, DDT and the map writer at 1,000 and at 20,000 images, each in a process of its own.

Run `python -m benchmarks.memory`. Exit code 1 where the peak grows by more than the bound. A small random network on
32-pixel stand-ins, so that it is quick; 19,000 more images are 55 MiB of pictures, 74 MiB of features in float16 and,
in the map writer, 74 MiB of maps: keeping any of these breaks the bound. What may grow is the index: ids and labels.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.against_forward import ReadyImages
from wsol_core.backbones import create
from wsol_core.backbones.create import Backbone, BackboneParams, OnBackbone
from wsol_core.backbones.pyramid import TORCHVISION, Chain, Pyramid
from wsol_core.data.index import ImageIndex
from wsol_core.engine import feature_store, inference
from wsol_core.engine.devices import launch
from wsol_core.engine.feature_store import FeatureStore, write_features
from wsol_core.engine.features import FeatureParams
from wsol_core.engine.inference import InferenceParams
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.ddt.colocalization import Colocalizer, DDTParams, Source

BOUND_MIB = 32
FEW, MANY = 1_000, 20_000
SIDE, STRIDE, CHANNELS, BATCH = 32, 4, 32, 32


def small_pyramid() -> Pyramid:
    """One convolution: `(B, 3, 32, 32)` to `(B, 32, 8, 8)`, 4 KiB an image in float16."""
    torch.manual_seed(0)
    network = Chain([("stem", nn.Conv2d(3, CHANNELS, STRIDE, stride=STRIDE))], ("stem",))
    return Pyramid(network, (CHANNELS,), (STRIDE,), TORCHVISION)


def ready_index(count: int) -> ImageIndex:
    """Of `count` images without files."""
    table = pd.DataFrame({"image_id": [f"{n:05d}" for n in range(count)], "labels": [[0]] * count})
    return ImageIndex(table, (), "ready", ".")


def run_features(count: int, path: Path) -> None:
    """The features of `count` images, into a store."""
    params = FeatureParams(backbone=BackboneParams(weights="none"), side=SIDE, batch=BATCH, precision="32-true")
    images = ReadyImages(count, SIDE)
    with (
        patch.object(create, "_pyramid", lambda *_: small_pyramid()),
        patch.object(feature_store, "SquashedImages", lambda *_: images),
    ):
        write_features(launch("32-true"), params, ready_index(count), path)


def run_ddt(count: int, per_class: int, scope: Literal["class", "dataset"]) -> None:
    """Features, and DDT on them over `count` images, its scores thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        run_features(count, path)
        params = DDTParams.model_validate({"sees": str(path), "resolution": 28})
        labels, everyone = np.arange(count) // per_class, np.ones(count, dtype=np.bool_)
        with FeatureStore(path) as store:
            source = Source(store, store.reader(launch("32-true"), ready_index(count)))
            ddt = Colocalizer([source], labels, everyone, params)
            for _ in ddt.per_class() if scope == "class" else ddt.together():
                pass


def brightness(_: nn.Module, images: Tensor, __: Tensor) -> Tensor:
    """Maps as large as the images, 4 KiB each."""
    return images.float().mean(1, keepdim=True) / 255


def run_map_writer(count: int) -> None:
    """The map writer over `count` images."""
    index = ready_index(count)
    training = TrainingParams(epochs=1, batch=BATCH, lr_backbone=0, lr_head=0, image_side=SIDE)
    images = ReadyImages(count, SIDE)
    with tempfile.TemporaryDirectory() as folder, patch.object(inference, "SquashedImages", lambda *_: images):
        path, model = Path(folder) / "maps.h5", OnBackbone(Backbone(small_pyramid()))
        inference.write_maps(launch("32-true"), model, brightness, index, training, InferenceParams(), path)


CASES: dict[str, Callable[[int], None]] = {
    "whole-set ddt_boxes": lambda count: run_ddt(count, count, "dataset"),
    "per-class ddt_boxes, classes of 50": lambda count: run_ddt(count, 50, "class"),
    "map writer": run_map_writer,
    "per-class ddt_boxes, one class": lambda count: run_ddt(count, count, "class"),
}


def peak(case: str, count: int) -> float:
    """Peak resident memory of a case in MiB, in a new process."""
    words = [sys.executable, "-m", "benchmarks.memory", case, str(count)]
    return float(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> int:
    """Print the peaks and their growth."""
    failed = False
    for case in list(CASES)[:3]:
        few, many = peak(case, FEW), peak(case, MANY)
        print(f"{case}: {few:.0f} MiB at {FEW:,} images, {many:.0f} MiB at {MANY:,}; ", end="")
        print(f"growth {many - few:.0f} MiB (bound {BOUND_MIB})", flush=True)
        failed |= many - few > BOUND_MIB
    largest = list(CASES)[3]
    print(f"for comparison, {largest} of {FEW:,} images: {peak(largest, FEW):.0f} MiB")
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        CASES[sys.argv[1]](int(sys.argv[2]))
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(usage / (1 << 20 if sys.platform == "darwin" else 1 << 10))
    else:
        sys.exit(main())
