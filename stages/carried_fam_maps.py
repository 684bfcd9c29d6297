"""FAM, learnt on the localization set -> foreground maps of the detection set. Usage: carried_fam_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.fam.network import FamParams, build, foreground_maps

DATA = Path("data")


def main(name: str) -> None:
    """Run the stage."""
    learnt, index = (read_index(DATA / each / "index.parquet") for each in ("localization", "detection"))
    network = partial(build, classes=len(learnt.classes))
    model, params = rebuild(DATA / "models" / f"{name}.safetensors", FamParams, network)
    NetworkOutputs(model, params.training, index, DATA / "detection").write_maps(name, foreground_maps)


if __name__ == "__main__":
    run_stage(main)
