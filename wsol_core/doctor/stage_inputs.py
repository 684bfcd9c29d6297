"""What a stage works on: its data set, its network, and the features that it reads."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from wsol_core.configuration.parameters import Parameters
from wsol_core.data.index import SPLITS
from wsol_core.detection.entry import ImageDetectorEntry
from wsol_core.doctor.data_sets import BACKGROUND, Extent
from wsol_core.doctor.feature_stores import store_path
from wsol_core.doctor.outputs import NETWORK_STAGES
from wsol_core.doctor.pipeline import Stage
from wsol_core.doctor.speed import Network
from wsol_core.engine.features import FeatureParams
from wsol_core.engine.training_params import NetworkParams


class StageInputs:
    """What stages work on.

    Args:
        params: the parameters.
        extents: the data sets by key.

    Attributes:
        stores: the entries of `features:` by the path of their store.
    """

    def __init__(self, params: Parameters, extents: Mapping[str, Extent]) -> None:
        self._params, self._extents = params, extents
        self.stores = {store_path(name, entry): entry for name, entry in params.features.items()}

    def extent(self, stage: Stage) -> Extent | None:
        """Of the data set that a stage reads: the first folder of `data/` among its inputs that is one."""
        parts = [PurePosixPath(path).parts for path in (*stage.deps, *stage.outs)]
        sets = [each[1] for each in parts if len(each) > 1 and each[0] == "data" and each[1] in self._extents]
        return self._extents.get(sets[0] if sets else stage.item)

    def classes(self, data_set: str) -> int:
        """How many a data set has; 0 where it is not there."""
        return len(self._extents[data_set].classes) if data_set in self._extents else 0

    def rendered(self, stage: Stage) -> tuple[int, int]:
        """Images that a stage renders, and their longer side."""
        demo = self._params.demo
        if stage.item == BACKGROUND:
            return demo.backgrounds, demo.localization.side
        images = getattr(demo, stage.item)
        return sum(map(images.count, SPLITS)), images.side

    def network(self, stage: Stage) -> Network | None:
        """The network that a stage trains or runs; none of a detector of heads alone."""
        if stage.name in NETWORK_STAGES:
            return self._params.networks.get(stage.item)
        entry = self._params.detectors[stage.item] if stage.name in ("train_detector", "detect") else None
        return entry.network if isinstance(entry, ImageDetectorEntry) else None

    def store(self, network: Network) -> FeatureParams | None:
        """The store that a network sees, if it sees one."""
        return self.stores.get(network.sees) if isinstance(network, NetworkParams) else None

    def ddt_stores(self) -> list[FeatureParams]:
        """The features that DDT reads, each once."""
        paths = dict.fromkeys((self._params.ddt.sees, self._params.ddt.second))
        return [self.stores[path] for path in paths if path in self.stores]
