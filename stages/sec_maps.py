"""Segmentation network -> probabilities of background and classes at each position (SEC). Usage: sec_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.sec.network import SecParams, build, label_maps, label_rows

DATA = Path("data/detection")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    classes = len(index.classes)
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), SecParams, partial(build, classes=classes))
    NetworkOutputs(model, params.training, index, DATA).write_maps(name, label_maps, label_rows(classes))


if __name__ == "__main__":
    run_stage(main)
