"""Classifier -> the likeliest classes of all images. Usage: class_scores NAME."""

from functools import partial
from pathlib import Path

from wsol_core.checkpoints import rebuild
from wsol_core.class_inference import write_class_scores
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.methods.classifier import ClassifierParams, build, class_probabilities

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    network = partial(build, classes=len(index.classes))
    model, params = rebuild(Path(f"data/models/classifier-{name}.safetensors"), ClassifierParams, network)
    fabric = launch(params.training.precision)
    path = DATA / "scores" / f"{name}.parquet"
    write_class_scores(fabric, model, class_probabilities, index, params.training, path)


if __name__ == "__main__":
    run_stage(main)
