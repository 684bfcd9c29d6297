"""Binary classifier -> its gradient in all images, as maps (BC-CT 3.2, Eq. 1). Usage: background_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.bcct.binary import GradientParams, build_binary, gradient_maps

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), GradientParams, build_binary)
    outputs = NetworkOutputs(model, params.training, read_index(DATA / "index.parquet"), DATA)
    outputs.write_maps(name, partial(gradient_maps, params=params))


if __name__ == "__main__":
    run_stage(main)
