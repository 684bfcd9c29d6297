"""MFF-Net 2 -> segmentation maps of a data set (SPOL 3.4). Usage: segmentation_maps SET SOURCE."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.spol.networks import SegmentationParams, build, segmentation_maps


def main(set_name: str, source: str) -> None:
    """Run the stage."""
    name, folder = f"segmentation-{source}", Path("data", set_name)
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), SegmentationParams, build)
    index = read_index(folder / "index.parquet")
    NetworkOutputs(model, params.training, index, folder).write_maps(name, segmentation_maps)


if __name__ == "__main__":
    run_stage(main)
