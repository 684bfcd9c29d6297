"""Feature stores with given features, in place of a network's."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from wsol_core.engine.features import FeatureParams, View, pack


def write_store(
    path: Path, image_ids: Sequence[str], levels: Sequence[Tensor], views: tuple[View, ...] = ("plain",)
) -> None:
    """Write levels, each `(N, V, C, h, w)`."""
    params = FeatureParams(levels=tuple(range(-len(levels), 0)), views=views)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = torch.stack([pack([level[:, number] for level in levels]) for number in range(len(views))], dim=1)
    with h5py.File(path, "w") as file:
        file.attrs["params"] = params.model_dump_json()
        file.attrs["shapes"] = np.array([level.shape[2:] for level in levels], dtype=np.int64)
        file.create_dataset("image_id", data=list(image_ids), dtype=h5py.string_dtype())
        file.create_dataset("rows", data=rows.numpy(), chunks=(1, *rows.shape[1:]))
