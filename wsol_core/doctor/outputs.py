"""The files that a network's stages write, as its recipe says."""

from collections.abc import Iterator, Mapping, Sequence

from wsol_core.doctor.pipeline import Stage
from wsol_core.engine.recipe import Output, find_recipe
from wsol_core.engine.training_params import NetworkParams

NETWORK_STAGES = ("train", "maps", "transfer")
SUFFIXES = {"maps": "h5", "pictures": "h5", "classes": "parquet"}


def outputs(stage: Stage, network: NetworkParams, classes: int) -> Mapping[str, Output]:
    """What `maps@NAME` writes, by name; `transfer@NAME` maps alone, as the other set may have other classes."""
    found = find_recipe(network.method, network.network).outputs(network, classes)
    return {key: output for key, output in found.items() if key == "maps" or stage.name != "transfer"}


def made_files(stages: Sequence[Stage], networks: Mapping[str, NetworkParams]) -> Iterator[str]:
    """The outputs of stages; of the folders that networks write, the files in them."""
    for stage in stages:
        network = networks.get(stage.item) if stage.name in ("maps", "transfer") else None
        if network is None:
            yield from stage.outs
            continue
        for key, output in outputs(stage, network, 1).items():
            yield f"{stage.outs[0]}/{key}.{SUFFIXES[output.kind]}"
