"""First phase's network -> class-agnostic saliency of all images (SEC; Two-Phase 4.2). Usage: saliency_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.checkpoints import rebuild
from wsol_core.engine.writer import NetworkOutputs
from wsol_core.methods.two_phase.phases import PhaseParams, build
from wsol_core.methods.two_phase.saliency import SaliencyParams, saliency_maps

DATA = Path("data/detection")


def main(name: str) -> None:
    """Run the stage."""
    params = load(SaliencyParams, f"saliency.{name}")
    index = read_index(DATA / "index.parquet")
    checkpoint = Path(f"data/models/{params.network}.safetensors")
    model, phase = rebuild(checkpoint, PhaseParams, partial(build, classes=len(index.classes)))
    maps = partial(saliency_maps, scores=lambda network, images: network(images).logits, level=params.level)
    NetworkOutputs(model, phase.training, index, DATA).write_maps(name, maps)


if __name__ == "__main__":
    run_stage(main)
