"""Box regression -> maps of a data set, each the box that it found (PSOL 3). Usage: psol_maps NAME."""

from pathlib import Path

from wsol_core.checkpoints import rebuild
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import InferenceParams, write_maps
from wsol_core.methods.psol import PsolParams, build, psol_maps
from wsol_core.params import load

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), PsolParams, build)
    write_maps(
        launch(params.training.precision),
        model,
        psol_maps,
        read_index(DATA / "index.parquet"),
        params.training,
        load(InferenceParams, "inference"),
        DATA / "maps" / f"{name}.h5",
    )


if __name__ == "__main__":
    run_stage(main)
