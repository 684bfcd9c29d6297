"""Images -> maps of a frozen network, once for all who read them. Usage: features NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.engine.devices import launch
from wsol_core.engine.feature_store import write_features
from wsol_core.engine.features import FeatureParams


def main(name: str) -> None:
    """Write `data/SET/features/NAME.h5`."""
    params = load(FeatureParams, f"features.{name}")
    data = Path("data", params.set)
    index = read_index(data / "index.parquet")
    write_features(launch(params.precision), params, index, data / "features" / f"{name}.h5")


if __name__ == "__main__":
    run_stage(main)
