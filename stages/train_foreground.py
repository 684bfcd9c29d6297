"""Low-resolution pseudo masks -> pixel classifier (WSFL 3.4)."""

from pathlib import Path

import torch

from wsol_core.checkpoints import save_checkpoint
from wsol_core.data.index import read_index
from wsol_core.devices import launch
from wsol_core.errors import run_stage
from wsol_core.methods.wsfl import ForegroundParams, build, foreground_loss
from wsol_core.params import load, preset, seed
from wsol_core.pseudo_supervision import train_on_store
from wsol_core.scratch import scratch_folder
from wsol_core.training import write_loss_curve

INDEX = Path("data/localization/index.parquet")
MASKS = Path("data/localization/pseudo_masks.h5")


def main() -> None:
    """Run the stage."""
    params = load(ForegroundParams, "foreground")
    index = read_index(INDEX)
    fabric = launch(params.training.precision)
    torch.manual_seed(seed())
    model = build(params)
    with scratch_folder("train_foreground", {"foreground": params}, [INDEX, MASKS]) as folder:
        trained, history = train_on_store(
            fabric, model, foreground_loss, params.training, index, MASKS, model.backbone.interpolation, seed(), folder
        )
        if fabric.is_global_zero:
            config = params.model_dump(mode="json")
            save_checkpoint(Path("data/models/foreground.safetensors"), trained.state_dict(), config)
            write_loss_curve(Path(f"results/{preset()}/curves/loss-foreground.csv"), history)


if __name__ == "__main__":
    run_stage(main)
