"""DDT's maps -> low-resolution pseudo masks in HDF5 (WSFL 3.3.2)."""

from pathlib import Path

import numpy as np

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import CLASS_AGNOSTIC, MapStore, create
from wsol_core.core.params import load
from wsol_core.methods.wsfl.pseudo_masks import PseudoMaskParams, pseudo_mask, refuse_several

DATA = Path("data/localization")


def main() -> None:
    """Write `targets/pseudo_masks.h5`."""
    params = load(PseudoMaskParams, "pseudo_masks")
    side = params.resolution
    with (
        MapStore(DATA / "outputs" / params.maps / "maps.h5") as maps,
        create(DATA / "targets/pseudo_masks.h5", params.kind, side, side) as writer,
    ):
        refuse_several(maps)
        for rows in maps.batches():
            masks = np.stack([pseudo_mask(scores, params) for scores in maps[rows]])
            writer.append(maps.image_ids[rows].tolist(), [CLASS_AGNOSTIC] * len(masks), masks)


if __name__ == "__main__":
    run_stage(main)
