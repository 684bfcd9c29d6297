"""Image labels -> a standalone classifier, for Top-1 and Top-5 (SPOL 3.4). Usage: train_classifier NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import class_labels, train_network
from wsol_core.methods.classifier.network import ClassifierParams, build, classification_loss

INDEX = Path("data/localization/index.parquet")


def main(name: str) -> None:
    """Run the stage."""
    params = load(ClassifierParams, f"classifier.{name}")
    index = read_index(INDEX).single_label()
    network = partial(build, params, len(index.classes))
    train_network(f"classifier-{name}", params, network, classification_loss, index, class_labels, [INDEX])


if __name__ == "__main__":
    run_stage(main)
