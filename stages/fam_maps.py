"""FAM -> foreground maps and class scores of all images, part maps of some (Figs. 4 and 5). Usage: fam_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.checkpoints import rebuild
from wsol_core.class_inference import write_class_scores
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import InferenceParams, write_maps
from wsol_core.methods.fam import FamParams, build, class_probabilities, foreground_maps, part_maps
from wsol_core.params import load
from wsol_core.shown_images import shown_images

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    network = partial(build, classes=len(index.classes))
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), FamParams, network)
    fabric, training = launch(params.training.precision), params.training
    inference = load(InferenceParams, "inference")
    write_maps(fabric, model, foreground_maps, index, training, inference, DATA / "maps" / f"{name}.h5")
    some, path = shown_images(index), DATA / "parts" / f"{name}.h5"
    write_maps(fabric, model, part_maps, some, training, inference, path, range(params.parts))
    write_class_scores(fabric, model, class_probabilities, index, training, DATA / "scores" / f"{name}.parquet")


if __name__ == "__main__":
    run_stage(main)
