"""Tri-state pseudo labels of a source -> MFF-Net 2 (SPOL 3.4). Usage: train_segmentation SOURCE."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import stored_maps, train_network
from wsol_core.methods.spol.networks import SegmentationParams, build, segmentation_loss

INDEX = Path("data/localization/index.parquet")


def main(source: str) -> None:
    """Run the stage."""
    params = load(SegmentationParams, "segmentation.network")
    labels = Path(f"data/localization/labels/{source}.h5")
    train_network(
        f"segmentation-{source}",
        params,
        partial(build, params),
        segmentation_loss,
        read_index(INDEX),
        stored_maps(labels),
        [INDEX, labels],
    )


if __name__ == "__main__":
    run_stage(main)
