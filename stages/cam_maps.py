"""MFF-Net 1 -> activation maps of all images, and its branches' of some (SPOL 3.2, Fig. 7). Usage: cam_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.inference import AGNOSTIC
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.spol.networks import CamParams, activation_maps, branch_maps, build_cam

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    build = partial(build_cam, classes=len(index.classes))
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), CamParams, build)
    outputs = NetworkOutputs(model, params.training, index, DATA)
    rows = "labels" if params.maps == "label" else AGNOSTIC
    outputs.write_maps(name, partial(activation_maps, classes=params.maps), rows)
    outputs.write_layers("branches", name, partial(branch_maps, classes=params.maps), len(params.levels))


if __name__ == "__main__":
    run_stage(main)
