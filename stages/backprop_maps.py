"""Pretrained features -> their gradient in all images, as maps (BC-CT, Fig. 3). Usage: backprop_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.bcct.binary import GradientParams, build_features, gradient_maps

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    params = load(GradientParams, f"backprop.{name}")
    outputs = NetworkOutputs(build_features(params), params.training, read_index(DATA / "index.parquet"), DATA)
    outputs.write_maps(name, partial(gradient_maps, params=params))


if __name__ == "__main__":
    run_stage(main)
