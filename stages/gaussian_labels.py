"""Maps of a method -> tri-state pseudo labels (SPOL 3.4). Usage: gaussian_labels NAME."""

from pathlib import Path

import torch

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.core.params import load
from wsol_core.methods.spol.gaussian import GaussianParams, pseudo_labels

DATA = Path("data/localization")


def main(name: str) -> None:
    """Write `targets/NAME.h5`."""
    params = load(GaussianParams, f"gaussian_labels.{name}")
    with (
        MapStore(DATA / "outputs" / params.maps / "maps.h5") as maps,
        create(DATA / "targets" / f"{name}.h5", Kind.TRISTATE, params.resolution, params.resolution) as writer,
    ):
        for rows in maps.batches():
            labels = pseudo_labels(torch.from_numpy(maps[rows]), params).numpy()
            writer.append(maps.image_ids[rows].tolist(), maps.labels[rows].tolist(), labels)


if __name__ == "__main__":
    run_stage(main)
