"""Binary classifier -> its gradient in all images, as maps (BC-CT 3.2, Eq. 1). Usage: background_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.background_classifier import GradientParams, build_binary, gradient_maps
from wsol_core.checkpoints import rebuild
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import InferenceParams, write_maps
from wsol_core.params import load

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), GradientParams, build_binary)
    write_maps(
        launch(params.training.precision),
        model,
        partial(gradient_maps, params=params),
        read_index(DATA / "index.parquet"),
        params.training,
        load(InferenceParams, "inference"),
        DATA / "maps" / f"{name}.h5",
    )


if __name__ == "__main__":
    run_stage(main)
