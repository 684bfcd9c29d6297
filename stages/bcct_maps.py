"""Network with pixel supervision -> class maps, its branch's maps and class scores (BC-CT 4). Usage: bcct_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.inference import AGNOSTIC
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.bcct.ct import BCCTParams
from wsol_core.methods.bcct.pixel_supervision import branch_maps, build, class_maps, class_probabilities

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    network = partial(build, classes=len(index.classes))
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), BCCTParams, network)
    outputs = NetworkOutputs(model, params.training, index, DATA)
    rows = "labels" if params.maps == "label" else AGNOSTIC
    outputs.write_maps(name, partial(class_maps, classes=params.maps), rows)
    outputs.write_maps(f"{name}-branch", branch_maps)
    outputs.write_class_scores(name, class_probabilities)


if __name__ == "__main__":
    run_stage(main)
