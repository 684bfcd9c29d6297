"""Classifier -> the likeliest classes of all images. Usage: class_scores NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.classifier.network import ClassifierParams, build, class_probabilities

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    network = partial(build, classes=len(index.classes))
    model, params = rebuild(Path(f"data/models/classifier-{name}.safetensors"), ClassifierParams, network)
    NetworkOutputs(model, params.training, index, DATA).write_class_scores(name, class_probabilities)


if __name__ == "__main__":
    run_stage(main)
