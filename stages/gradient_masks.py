"""A method's maps -> masks that CT learns from (BC-CT 3.2, Eq. 2). Usage: gradient_masks NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.core.params import load
from wsol_core.methods.bcct.masks import MaskParams, largest_parts

DATA = Path("data/localization")


def main(name: str) -> None:
    """Write `targets/NAME.h5`."""
    params = load(MaskParams, f"gradient_masks.{name}")
    with (
        MapStore(DATA / "outputs" / params.maps / "maps.h5") as maps,
        create(DATA / "targets" / f"{name}.h5", Kind.MASK, *maps.shape) as writer,
    ):
        for rows in maps.batches():
            masks = largest_parts(maps[rows], params.delta)
            writer.append(maps.image_ids[rows].tolist(), maps.labels[rows].tolist(), masks)


if __name__ == "__main__":
    run_stage(main)
