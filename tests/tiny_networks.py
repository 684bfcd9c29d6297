"""A workspace with a network of every kind, all on a backbone of two convolutions, random weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from wsol_core.backbones.pyramid import TORCHVISION, Pyramid
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.engine.checkpoints import save_checkpoint
from wsol_core.prediction.networks import KINDS

CLASSES = 2
TRAINING = {"epochs": 0, "batch": 4, "lr_backbone": 0.0, "lr_head": 0.0, "image_side": 32, "resize": 40}
BACKBONE = {"name": "resnet50", "weights": "none"}
NETWORK = {"backbone": BACKBONE, "training": {**TRAINING, "precision": "32-true"}}
MFF = {**NETWORK, "levels": [-2, -1]}
PARAMS: dict[str, Any] = {
    "preset": "test",
    "inference": {"flip": True},
    "localize": {"resolution": 64},
    "foreground": NETWORK,
    "segmentation": {"sources": ["foreground"], "network": MFF},
    "cam": {"cam": {**MFF, "maps": "predicted"}, "labelled": {**MFF, "maps": "label"}},
    "psol": {"psol": NETWORK},
    "fam": {"fam": {**NETWORK, "parts": 2}},
    "bc": {"bc": {**NETWORK, "resolution": 8}},
    "bcct": {"bcct": {**NETWORK, "masks": "bc", "width": 8, "maps": "predicted"}},
    "bcct_joint": {"joint": {**NETWORK, "binary": {"resolution": 8}, "width": 8, "maps": "predicted"}},
    "phase_one": {"one": {**NETWORK, "set": "localization", "width": 8, "maps": "all"}},
    "sec": {"sec": {"network": {**NETWORK, "width": 8, "pooling": 1, "dilation": 1}}},
}
CHECKPOINTS = {
    "foreground": ("foreground", PARAMS["foreground"]),
    "segmentation-foreground": ("segmentation", MFF),
    "cam": ("cam", PARAMS["cam"]["cam"]),
    "labelled": ("cam", PARAMS["cam"]["labelled"]),
    "psol": ("psol", NETWORK),
    "fam": ("fam", PARAMS["fam"]["fam"]),
    "bc": ("bc", PARAMS["bc"]["bc"]),
    "bcct": ("bcct", PARAMS["bcct"]["bcct"]),
    "joint": ("bcct_joint", PARAMS["bcct_joint"]["joint"]),
    "one": ("phase_one", PARAMS["phase_one"]["one"]),
    "sec": ("sec", PARAMS["sec"]["sec"]["network"]),
}


class Tiny(nn.Module):
    """Features at strides 4 and 8."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 5, 4, 2)
        self.second = nn.Conv2d(16, 24, 3, 2, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        shallow = self.first(images).relu()
        return [shallow, self.second(shallow).relu()]


def use_tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    pyramid = lambda _name, _stride: Pyramid(Tiny(), (16, 24), (4, 8), TORCHVISION)  # noqa: E731
    monkeypatch.setattr("wsol_core.backbones.create._pyramid", pyramid)


def build(folder: Path, index: ImageIndex, methods: Sequence[str] = tuple(CHECKPOINTS), threshold: float = 0.5) -> None:
    """Write parameters, indices, checkpoints and thresholds; the backbone must be the tiny one."""
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    for name in ("localization", "detection"):
        write_index(folder / "data" / name / "index.parquet", index)
    torch.manual_seed(0)
    for method in methods:
        kind, block = CHECKPOINTS[method]
        params = KINDS[kind].params.model_validate(block)
        model = KINDS[kind].build(params, CLASSES)
        for name, weight in model.named_parameters():
            if not name.startswith("backbone.") and weight.ndim > 1:
                nn.init.normal_(weight, std=2 / weight[0].numel() ** 0.5)
        path = folder / f"data/models/{method}.safetensors"
        save_checkpoint(path, model.state_dict(), params.model_dump(mode="json"))
        write_threshold(folder, method, threshold)


def write_threshold(folder: Path, method: str, threshold: float) -> None:
    path = folder / f"data/localization/thresholds/{method}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"threshold": threshold}))
