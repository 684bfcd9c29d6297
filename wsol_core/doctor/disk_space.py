"""How much each stage will write."""

from pathlib import PurePosixPath

from wsol_core.configuration.parameters import Parameters
from wsol_core.doctor.data_sets import Extent
from wsol_core.doctor.feature_stores import row_bytes
from wsol_core.doctor.outputs import outputs
from wsol_core.doctor.pipeline import Stage
from wsol_core.doctor.speed import Network, level_shape, network_speed, store_speed
from wsol_core.doctor.stage_inputs import StageInputs
from wsol_core.engine.recipe import Output
from wsol_core.engine.training_params import NetworkParams


class DiskSpace:
    """Estimates for the stages of a pipeline.

    Args:
        params: the parameters.
        inputs: of the stages.
    """

    def __init__(self, params: Parameters, inputs: StageInputs) -> None:
        self._params, self._inputs = params, inputs

    def of(self, stage: Stage) -> float:
        """Bytes of a stage's outputs."""
        extent, network = self._inputs.extent(stage), self._inputs.network(stage)
        if stage.name == "render_demo":
            images, side = self._inputs.rendered(stage)
            return 0.35 * images * side**2
        if stage.name in ("train", "train_detector") and network is not None:
            store = self._inputs.store(network)
            side = network.training.image_side
            own = store_speed(store) if store else network_speed(network, side, training=False)
            return 4.0 * own.parameters
        if extent is None:
            return 0.0
        if stage.name in ("maps", "transfer") and isinstance(network, NetworkParams):
            written = outputs(stage, network, len(extent.classes)).values()
            return sum(self._output_bytes(output, extent, network) for output in written)
        return sum(self._file_bytes(stage, PurePosixPath(out), extent) for out in stage.outs)

    def _output_bytes(self, output: Output, extent: Extent, network: NetworkParams) -> float:
        if output.kind != "maps":
            return 200.0 * extent.images
        rows = extent.labels if output.rows == "labels" else len(output.rows)
        return 2.0 * extent.images * rows * self._cells(network)

    def _file_bytes(self, stage: Stage, out: PurePosixPath, extent: Extent) -> float:
        proposals = extent.images * self._params.proposals.max_proposals
        if stage.name == "proposal_features":
            own = self._params.proposal_features[stage.item]
            store = self._inputs.stores.get(own.sees)
            return 2.0 * proposals * own.width(level_shape(store, own.level)[0]) if store else 0.0
        if stage.name == "features":
            store = self._params.features[stage.item]
            return 0.0 if store.store == "never" else float(row_bytes(store) * extent.images)
        if stage.name == "ddt_boxes" and out.parent.name == "outputs":
            return 2.0 * extent.images * self._ddt_cells()
        if out.parent.name == "outputs":
            return 2.0 * extent.images * (self._params.crf.resolution if stage.name == "refine_maps" else 56) ** 2
        if out.name == "proposals.parquet" or out.parent.name == "objectness":
            return 20.0 * proposals
        return 0.25 * extent.images * 56**2 if out.suffix == ".h5" else 200.0 * extent.images

    def _ddt_cells(self) -> float:
        params = self._params.ddt
        shapes = [level_shape(store, layer) for store in self._inputs.ddt_stores() for layer in params.layers]
        return float(params.resolution**2 or max((height * width for _, height, width in shapes), default=0))

    def _cells(self, network: Network) -> float:
        """Of a map."""
        if resolution := getattr(network, "resolution", 0):
            return float(resolution**2)
        levels = network.levels_read if isinstance(network, NetworkParams) else (getattr(network, "level", -1),)
        if store := self._inputs.store(network):
            return float(max(height * width for _, height, width in (level_shape(store, level) for level in levels)))
        strides = network_speed(network, network.training.image_side, training=False).strides
        return (network.training.inference_side / min(strides[level] for level in levels)) ** 2
