"""MFF-Net 1 -> activation maps of all images, and its branches' of some (SPOL 3.2, Fig. 7). Usage: cam_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.checkpoints import rebuild
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import AGNOSTIC, InferenceParams, write_maps
from wsol_core.methods.spol import CamParams, activation_maps, branch_maps, build_cam
from wsol_core.params import load
from wsol_core.shown_images import shown_images

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    build = partial(build_cam, classes=len(index.classes))
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), CamParams, build)
    fabric = launch(params.training.precision)
    inference = load(InferenceParams, "inference")
    maps = partial(activation_maps, classes=params.maps)
    rows = "labels" if params.maps == "label" else AGNOSTIC
    write_maps(fabric, model, maps, index, params.training, inference, DATA / "maps" / f"{name}.h5", rows)
    branches = partial(branch_maps, classes=params.maps)
    some, path = shown_images(index), DATA / "branches" / f"{name}.h5"
    write_maps(fabric, model, branches, some, params.training, inference, path, range(len(params.levels)))


if __name__ == "__main__":
    run_stage(main)
