"""A workspace with a network of every recipe, all on a backbone of two convolutions, random weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from wsol_core.data.index import ImageIndex, write_index
from wsol_core.engine.checkpoints import save_checkpoint
from wsol_core.engine.recipe import all_recipes, entry_recipe

TRAINING = {"epochs": 0, "batch": 4, "lr_backbone": 0.0, "lr_head": 0.0, "image_side": 32, "resize": 40}
NETWORK = {"backbone": {"name": "resnet50", "weights": "none"}, "training": {**TRAINING, "precision": "32-true"}}
NAMES = {
    ("bcct", "binary"): "bc",
    ("bcct", "ct"): "bcct",
    ("spol", "segmentation"): "segmentation-foreground",
    ("two_phase", "first"): "one",
    ("two_phase", "later"): "two",
}
"""Of networks that are not called as in their recipe."""
SIZES: dict[str, Any] = {
    "width": 8, "resolution": 8, "levels": [-2, -1], "parts": 2, "pooling": 1, "dilation": 1,
    "binary": {"resolution": 8},
}  # fmt: skip
"""What makes networks small, where they have such a parameter."""
CHOICES: dict[tuple[str, str], dict[str, Any]] = {
    ("spol", "cam"): {"maps": "predicted"},
    ("spol", "cam-released"): {"maps": "predicted"},
    ("bcct", "ct"): {"maps": "predicted"},
    ("bcct", "joint"): {"maps": "predicted"},
    ("two_phase", "first"): {"maps": "all"},
    ("sec", "sec"): {"set": "detection"},
}


def entries() -> dict[str, dict[str, Any]]:
    """The block `networks`: one of every recipe, and an MFF-Net 1 that gives the map of the image's label."""
    found = {}
    for (method, network), recipe in all_recipes().items():
        sizes = {key: value for key, value in SIZES.items() if key in recipe.params.model_fields}
        entry = {"method": method, "network": network, **NETWORK, **sizes, **CHOICES.get((method, network), {})}
        found[NAMES.get((method, network), network)] = entry
    return found | {"labelled": found["cam"] | {"maps": "label"}}


ENTRIES = entries()
PARAMS: dict[str, Any] = {
    "preset": "test",
    "inference": {"flip": True},
    "localize": {"resolution": 64},
    "networks": ENTRIES,
}


def build(folder: Path, index: ImageIndex, names: Sequence[str] = tuple(ENTRIES), threshold: float = 0.5) -> None:
    """Write parameters, indices, checkpoints and thresholds; the backbone must be the tiny one."""
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    for name in ("localization", "detection"):
        write_index(folder / "data" / name / "index.parquet", index)
    torch.manual_seed(0)
    for name in names:
        recipe = entry_recipe(ENTRIES[name], name)
        params = recipe.params.model_validate(ENTRIES[name])
        model = recipe.build(params, len(index.classes))
        for place, weight in model.named_parameters():
            if not place.startswith("backbone.") and weight.ndim > 1:
                nn.init.normal_(weight, std=2 / weight[0].numel() ** 0.5)
        path = folder / f"data/models/{name}.safetensors"
        save_checkpoint(path, model.state_dict(), params.model_dump(mode="json"), index.classes)
        write_threshold(folder, name, threshold)


def write_threshold(folder: Path, method: str, threshold: float, scale: str = "value") -> None:
    path = folder / f"data/localization/thresholds/{method}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"threshold": threshold, "scale": scale, "calibrated_by": "pseudo_boxes"}))
