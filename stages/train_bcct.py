"""Image labels and masks -> classification network with pixel supervision (BC-CT 4). Usage: train_bcct NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import stored_maps, train_network
from wsol_core.methods.bcct.ct import BCCTParams, ct_loss, labelled_masks
from wsol_core.methods.bcct.pixel_supervision import build, several_classes

DATA = Path("data/localization")
INDEX = DATA / "index.parquet"


def main(name: str) -> None:
    """Run the stage."""
    params = load(BCCTParams, f"bcct.{name}")
    masks = DATA / "background_masks" / f"{name}.h5"
    index = several_classes(read_index(INDEX).single_label())
    train_network(
        name,
        params,
        partial(build, params, len(index.classes)),
        partial(ct_loss, mask=params.mask_loss),
        index,
        labelled_masks(stored_maps(masks)),
        [INDEX, masks],
    )


if __name__ == "__main__":
    run_stage(main)
