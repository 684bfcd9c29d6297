"""Pretrained features -> their gradient in all images, as maps (BC-CT, Fig. 3). Usage: backprop_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.background_classifier import GradientParams, build_features, gradient_maps
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import InferenceParams, write_maps
from wsol_core.params import load

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    params = load(GradientParams, f"backprop.{name}")
    write_maps(
        launch(params.training.precision),
        build_features(params),
        partial(gradient_maps, params=params),
        read_index(DATA / "index.parquet"),
        params.training,
        load(InferenceParams, "inference"),
        DATA / "maps" / f"{name}.h5",
    )


if __name__ == "__main__":
    run_stage(main)
