"""Image labels and maps already seen -> a later phase (Two-Phase Learning, 3.5). Usage: train_phase_two NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import train_network
from wsol_core.methods.two_phase.phases import LaterPhaseParams, build, different_labels, later_targets, logistic_loss


def main(name: str) -> None:
    """Run the stage."""
    params = load(LaterPhaseParams, f"phase_two.{name}")
    folder = Path("data", params.set)
    path, seen = folder / "index.parquet", folder / "maps" / f"{params.seen}.h5"
    index = different_labels(read_index(path))
    classes = len(index.classes)
    targets = later_targets(classes, seen, params.threshold)
    train_network(name, params, partial(build, params, classes), logistic_loss, index, targets, [path, seen])


if __name__ == "__main__":
    run_stage(main)
