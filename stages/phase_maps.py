"""A phase's network -> its weighted class maps (Two-Phase Learning, 3.6). Usage: phase_maps SET one|two NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.inference import Rows
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.two_phase.phases import LaterPhaseParams, PhaseParams, build, weighted_maps

PHASES = {"one": PhaseParams, "two": LaterPhaseParams}


def main(chosen: str, phase: str, name: str) -> None:
    """Run the stage."""
    folder = Path("data", chosen)
    index = read_index(folder / "index.parquet")
    classes = len(index.classes)
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), PHASES[phase], partial(build, classes=classes))
    rows: Rows = "labels" if params.maps == "label" else range(classes)
    outputs = NetworkOutputs(model, params.training, index, folder)
    outputs.write_maps(name, partial(weighted_maps, classes=params.maps), rows)


if __name__ == "__main__":
    run_stage(main)
