"""MFF-Net 2 -> segmentation maps of a data set (SPOL 3.4). Usage: segmentation_maps SET SOURCE."""

from pathlib import Path

from wsol_core.checkpoints import rebuild
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import InferenceParams, write_maps
from wsol_core.methods.spol import SegmentationParams, build, segmentation_maps
from wsol_core.params import load


def main(set_name: str, source: str) -> None:
    """Run the stage."""
    name = f"segmentation-{source}"
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), SegmentationParams, build)
    write_maps(
        launch(params.training.precision),
        model,
        segmentation_maps,
        read_index(Path(f"data/{set_name}/index.parquet")),
        params.training,
        load(InferenceParams, "inference"),
        Path(f"data/{set_name}/maps/{name}.h5"),
    )


if __name__ == "__main__":
    run_stage(main)
