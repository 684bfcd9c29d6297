"""Box regression -> maps of a data set, each the box that it found (PSOL 3). Usage: psol_maps NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.psol.network import PsolParams, build, psol_maps

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), PsolParams, build)
    NetworkOutputs(model, params.training, read_index(DATA / "index.parquet"), DATA).write_maps(name, psol_maps)


if __name__ == "__main__":
    run_stage(main)
