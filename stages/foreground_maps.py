"""Pixel classifier -> foreground maps of a data set, without fine-tuning (WSFL 3.5).

Usage: foreground_maps SET [NAME], NAME being `foreground`, a transferred classifier or an oracle.
"""

from pathlib import Path

from wsol_core.checkpoints import rebuild
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import InferenceParams, write_maps
from wsol_core.methods.wsfl import ForegroundParams, build, foreground_maps
from wsol_core.params import load


def main(set_name: str, name: str = "foreground") -> None:
    """Run the stage."""
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), ForegroundParams, build)
    write_maps(
        launch(params.training.precision),
        model,
        foreground_maps,
        read_index(Path(f"data/{set_name}/index.parquet")),
        params.training,
        load(InferenceParams, "inference"),
        Path(f"data/{set_name}/maps/{name}.h5"),
    )


if __name__ == "__main__":
    run_stage(main)
