"""Network with pixel supervision -> class maps, its branch's maps and class scores (BC-CT 4). Usage: bcct_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.checkpoints import rebuild
from wsol_core.class_inference import write_class_scores
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import AGNOSTIC, InferenceParams, write_maps
from wsol_core.methods.bcct import BCCTParams, branch_maps, build, class_maps, class_probabilities
from wsol_core.params import load

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    model, params = rebuild(
        Path(f"data/models/{name}.safetensors"), BCCTParams, partial(build, classes=len(index.classes))
    )
    fabric = launch(params.training.precision)
    inference = load(InferenceParams, "inference")
    rows = "labels" if params.maps == "label" else AGNOSTIC
    maps, branch = (DATA / "maps" / f"{each}.h5" for each in (name, f"{name}-branch"))
    of_classes = partial(class_maps, classes=params.maps)
    write_maps(fabric, model, of_classes, index, params.training, inference, maps, rows)
    write_maps(fabric, model, branch_maps, index, params.training, inference, branch)
    write_class_scores(fabric, model, class_probabilities, index, params.training, DATA / "scores" / f"{name}.parquet")


if __name__ == "__main__":
    run_stage(main)
