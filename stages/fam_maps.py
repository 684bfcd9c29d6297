"""FAM -> foreground maps and class scores of all images, part maps of some (Figs. 4 and 5). Usage: fam_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.fam.network import FamParams, build, class_probabilities, foreground_maps, part_maps

DATA = Path("data/localization")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    network = partial(build, classes=len(index.classes))
    model, params = rebuild(Path(f"data/models/{name}.safetensors"), FamParams, network)
    outputs = NetworkOutputs(model, params.training, index, DATA)
    outputs.write_maps(name, foreground_maps)
    outputs.write_layers("parts", name, part_maps, params.parts)
    outputs.write_class_scores(name, class_probabilities)


if __name__ == "__main__":
    run_stage(main)
