"""Pixel classifier -> foreground maps of a data set, without fine-tuning (WSFL 3.5). Usage: foreground_maps SET."""

from pathlib import Path

from wsol_core.checkpoints import rebuild
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import write_maps
from wsol_core.methods.wsfl import ForegroundParams, build, foreground_maps


def main(set_name: str) -> None:
    """Run the stage."""
    model, params = rebuild(Path("data/models/foreground.safetensors"), ForegroundParams, build)
    training = params.training
    write_maps(
        launch(training.precision),
        model,
        foreground_maps,
        read_index(Path(f"data/{set_name}/index.parquet")),
        model.backbone.interpolation,
        training.inference_side,
        training.batch,
        Path(f"data/{set_name}/maps/foreground.h5"),
    )


if __name__ == "__main__":
    run_stage(main)
