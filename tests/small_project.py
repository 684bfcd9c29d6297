"""A project of small data sets and networks in the current folder, for tests that run the stages `train` and `maps`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stages import maps, train
from wsol_core.data.index import ImageIndex, write_index
from wsol_core.engine.training_params import NetworkParams

Entry = dict[str, Any]


def entry(method: str, network: str, params: NetworkParams, **changes: Any) -> Entry:
    """The entry of `networks:` of these parameters."""
    return params.model_dump(mode="json") | {"method": method, "network": network} | changes


def write_params(networks: Mapping[str, Entry], seed: int = 0, **blocks: Any) -> None:
    """Write `params.yaml`: the networks, and other blocks."""
    content = {"preset": "small", "seed": seed, "inference": {}, "networks": dict(networks)} | blocks
    Path("params.yaml").write_text(yaml.safe_dump(content))


def write_set(index: ImageIndex, name: str = "localization") -> None:
    """Write the index of a data set."""
    write_index(Path(f"data/{name}/index.parquet"), index)


def run_network(name: str, set_name: str = "localization") -> Path:
    """Train a network and write its outputs for a data set; returns their folder."""
    train.main(name)
    maps.main(name, set_name, f"data/{set_name}/index.parquet")
    return Path("data", set_name, "outputs", name)
