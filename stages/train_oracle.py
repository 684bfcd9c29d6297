"""Ground-truth masks -> pixel classifier, an upper bound (WSFL 3.4). Usage: train_oracle oracle-..."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.fit import stored_maps, train_network
from wsol_core.maps.oracle import refuse_plain_name, stored_images
from wsol_core.methods.wsfl.foreground import ForegroundParams, build, foreground_loss

INDEX = Path("data/localization/index.parquet")


def main(name: str) -> None:
    """Run the stage."""
    params = load(ForegroundParams, f"oracle.{refuse_plain_name(name)}.network")
    masks = Path(f"data/localization/oracle/{name}.h5")
    train_network(
        name,
        params,
        partial(build, params),
        foreground_loss,
        stored_images(read_index(INDEX), masks),
        stored_maps(masks),
        [INDEX, masks],
    )


if __name__ == "__main__":
    run_stage(main)
