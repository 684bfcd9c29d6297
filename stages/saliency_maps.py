"""First phase's network -> class-agnostic saliency of all images (SEC; Two-Phase 4.2). Usage: saliency_maps NAME."""

from functools import partial
from pathlib import Path

from wsol_core.checkpoints import rebuild
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.inference import InferenceParams, write_maps
from wsol_core.methods.two_phase import PhaseParams, build
from wsol_core.params import load
from wsol_core.saliency import SaliencyParams, saliency_maps

DATA = Path("data/detection")


def main(name: str) -> None:
    """Run the stage."""
    params = load(SaliencyParams, f"saliency.{name}")
    index = read_index(DATA / "index.parquet")
    checkpoint = Path(f"data/models/{params.network}.safetensors")
    model, phase = rebuild(checkpoint, PhaseParams, partial(build, classes=len(index.classes)))
    maps = partial(saliency_maps, scores=lambda network, images: network(images).logits, level=params.level)
    fabric, inference = launch(phase.training.precision), load(InferenceParams, "inference")
    write_maps(fabric, model, maps, index, phase.training, inference, DATA / "maps" / f"{name}.h5")


if __name__ == "__main__":
    run_stage(main)
