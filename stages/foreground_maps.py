"""Pixel classifier -> foreground maps of a data set, without fine-tuning (WSFL 3.5).

Usage: foreground_maps SET [NAME], NAME being `foreground`, a transferred classifier or an oracle.
"""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.wsfl.foreground import ForegroundParams, build, foreground_maps


def main(set_name: str, name: str = "foreground") -> None:
    """Run the stage."""
    folder = Path("data", set_name)
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), ForegroundParams, build)
    index = read_index(folder / "index.parquet")
    NetworkOutputs(model, params.training, index, folder).write_maps(name, foreground_maps)


if __name__ == "__main__":
    run_stage(main)
