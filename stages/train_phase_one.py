"""Image labels -> the network of the first phase (Two-Phase Learning, 3.3). Usage: train_phase_one NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import train_network
from wsol_core.methods.two_phase.phases import PhaseParams, build, different_labels, first_targets, logistic_loss


def main(name: str) -> None:
    """Run the stage."""
    params = load(PhaseParams, f"phase_one.{name}")
    path = Path("data", params.set, "index.parquet")
    index = different_labels(read_index(path))
    classes = len(index.classes)
    train_network(name, params, partial(build, params, classes), logistic_loss, index, first_targets(classes), [path])


if __name__ == "__main__":
    run_stage(main)
