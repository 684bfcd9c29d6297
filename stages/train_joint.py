"""Target and background images -> both networks of BC-CT, trained at once (BC-CT 4.2). Usage: train_joint NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.datasets.background import BackgroundParams, background_images
from wsol_core.engine.fit import train_network
from wsol_core.methods.bcct.joint import JointParams, build_joint, class_numbers, joint_loss
from wsol_core.methods.bcct.pixel_supervision import several_classes

INDEX = Path("data/localization/index.parquet")


def main(name: str) -> None:
    """Run the stage."""
    params = load(JointParams, f"bcct_joint.{name}")
    index = several_classes(read_index(INDEX).single_label())
    background = background_images(load(BackgroundParams, "background"), index.classes)
    inputs = [INDEX, *(background.root / path for path in background.table["path"])]
    build = partial(build_joint, params, len(index.classes))
    loss = partial(joint_loss, mask=params.mask_loss)
    train_network(name, params, build, loss, index, class_numbers, inputs, background)


if __name__ == "__main__":
    run_stage(main)
