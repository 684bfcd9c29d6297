"""Tri-state pseudo labels of a source -> MFF-Net 2 (SPOL 3.4). Usage: train_segmentation SOURCE."""

from pathlib import Path

import torch

from wsol_core.checkpoints import save_checkpoint
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.methods.spol import SegmentationParams, build, segmentation_loss
from wsol_core.params import load, preset, seed
from wsol_core.pseudo_supervision import train_on_store
from wsol_core.scratch import scratch_folder
from wsol_core.training import write_loss_curve

INDEX = Path("data/localization/index.parquet")


def main(source: str) -> None:
    """Run the stage."""
    params = load(SegmentationParams, "segmentation")
    labels = Path(f"data/localization/labels/{source}.h5")
    index = read_index(INDEX)
    fabric = launch(params.training.precision)
    torch.manual_seed(seed())
    model = build(params)
    name = f"segmentation-{source}"
    with scratch_folder(f"train_{name}", {"segmentation": params}, [INDEX, labels]) as folder:
        trained, history = train_on_store(
            fabric,
            model,
            segmentation_loss,
            params.training,
            index,
            labels,
            model.backbone.interpolation,
            seed(),
            folder,
        )
        if fabric.is_global_zero:
            config = params.model_dump(mode="json")
            save_checkpoint(Path(f"data/models/{name}.safetensors"), trained.state_dict(), config)
            write_loss_curve(Path(f"results/{preset()}/curves/loss-{name}.csv"), history)


if __name__ == "__main__":
    run_stage(main)
