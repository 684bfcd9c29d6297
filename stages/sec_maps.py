"""Segmentation network -> probabilities of background and classes at each position (SEC). Usage: sec_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.checkpoints import rebuild
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import InferenceParams, write_maps
from wsol_core.methods.sec import SecParams, build, label_maps, label_rows
from wsol_core.params import load

DATA = Path("data/detection")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    classes = len(index.classes)
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), SecParams, partial(build, classes=classes))
    fabric, inference = launch(params.training.precision), load(InferenceParams, "inference")
    rows, path = label_rows(classes), DATA / "maps" / f"{name}.h5"
    write_maps(fabric, model, label_maps, index, params.training, inference, path, rows)


if __name__ == "__main__":
    run_stage(main)
