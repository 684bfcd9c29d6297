"""How long each stage will take, from measured speeds; how the figure comes about stands beside it.

Losses and targets are left out: a network on images costs what its backbone does, one on features what its heads do. A
killed or repeated stage costs less.
"""

from wsol_core.configuration.parameters import Parameters
from wsol_core.core.crf_params import CRFParams
from wsol_core.core.parallel import worker_count
from wsol_core.data.loading import CACHE_BYTES
from wsol_core.detection.entry import LinearDetectorEntry
from wsol_core.detection.infer import DetectParams
from wsol_core.doctor.data_sets import Extent
from wsol_core.doctor.feature_stores import row_bytes
from wsol_core.doctor.outputs import NETWORK_STAGES, outputs
from wsol_core.doctor.pipeline import Stage
from wsol_core.doctor.speed import (
    Network,
    component_seconds,
    crf_seconds,
    head_speed,
    level_shape,
    network_speed,
    search_seconds,
    store_speed,
)
from wsol_core.doctor.stage_inputs import StageInputs
from wsol_core.engine.features import FeatureParams
from wsol_core.engine.inference import InferenceParams, upright
from wsol_core.engine.recipe import find_recipe
from wsol_core.engine.training_params import NetworkParams

START, START_WITH_TORCH = 2.5, 7.0
"""Seconds until a stage is at work, DVC's part included."""
WITH_TORCH = {*NETWORK_STAGES, "features", "ddt_boxes", "proposal_features", "train_detector", "detect"}
LIGHT = {
    "render_demo": 0.06, "scan": 0.001, "prepare": 0.006, "pseudo_masks": 0.0003, "calibrate": 0.005,
    "gaussian_labels": 0.0005, "gradient_masks": 0.0005, "oracle_masks": 0.003, "import_maps": 0.002,
    "localize": 0.001, "evaluate_localization": 0.004, "evaluate_classification": 0.0005, "score_proposals": 0.004,
    "vote": 0.002, "cues": 0.003, "evaluate_heat_maps": 0.01, "evaluate_segmentation": 0.01, "report": 0.002,
    "proposals": 0.002, "proposal_files": 0.002, "map_proposals": 0.02, "evaluate_proposals": 0.005,
    "proposal_features": 0.04, "oracle_objectness": 0.005, "evaluate_detection": 0.01, "train_detector": 0.015,
    "detect": 0.01, "grabcut": 0.04,
}  # fmt: skip
"""Seconds per image on one core, of stages without a network that sees images; of a training in each epoch."""
READING = 1e9
"""Bytes per second of a feature store."""
IN_PROCESSES = {"render_demo", "scan", "prepare", "refine_maps", "grabcut", "segments"}


class RunningTime:
    """Estimates for the stages of a pipeline.

    Args:
        params: the parameters.
        inputs: of the stages.
    """

    def __init__(self, params: Parameters, inputs: StageInputs) -> None:
        self._params, self._inputs = params, inputs
        self._workers = worker_count()

    def of(self, stage: Stage) -> tuple[float, str]:
        """Seconds from a stage's start to its end, and how they come about."""
        seconds, formula = self._seconds(stage)
        start = START_WITH_TORCH if stage.name in WITH_TORCH else START
        return start + seconds, f"{formula} + {start:g} s to start"

    def _seconds(self, stage: Stage) -> tuple[float, str]:
        if stage.name == "render_demo":
            return self._light(stage, self._inputs.rendered(stage)[0])
        extent, network, params = self._inputs.extent(stage), self._inputs.network(stage), self._params
        if extent is None:
            return 0.0, "no image counted"
        match stage.name:
            case "train" | "train_detector" if network:
                return self._training(extent, network)
            case "train_detector":
                entry = params.detectors[stage.item]
                epochs = entry.network.training.epochs if isinstance(entry, LinearDetectorEntry) else 0
                return self._light(stage, epochs * (extent.train + extent.held_out))
            case "detect" if network:
                detect = params.detectors[stage.item].detect
                views = _views(detect) if isinstance(detect, DetectParams) else 1
                return self._passes(extent, network, views)
            case "maps" | "transfer" if isinstance(network, NetworkParams):
                return self._maps(stage, extent, network)
            case "features":
                return self._features(extent, params.features[stage.item])
            case "ddt_boxes":
                return self._ddt(extent)
            case "selective_search":
                search = params.selective_search[stage.item]
                each = search_seconds(search, extent.sample, search.longest_side or 500)
                return self._in_processes(extent.images, each)
            case "proposal_features":
                return self._proposal_features(stage, extent)
            case "refine_maps":
                return self._crf(extent.images, params.crf, 2, params.crf.longest_side)
            case "segments":
                crf = params.segments[stage.item].crf
                return self._crf(extent.images, crf, 1 + len(extent.classes), crf.longest_side if crf else 0)
            case "calibrate":
                return self._light(stage, min(extent.train, params.calibrate.images))
        return self._light(stage, extent.images)

    def _training(self, extent: Extent, network: Network) -> tuple[float, str]:
        """Background images are as many as the others; a frozen backbone has no backward pass."""
        training = network.training
        if isinstance(network, NetworkParams) and (store := self._inputs.store(network)):
            return self._training_on_features(extent, network, store)
        background = isinstance(network, NetworkParams) and network.background != network.index
        images = extent.train * (2 if background else 1)
        step = network_speed(network, training.image_side, training=training.lr_backbone > 0).rate
        look = network_speed(network, training.image_side, training=False).rate
        kept = images * (training.resize or training.image_side) ** 2 * 3 <= CACHE_BYTES
        decoded = (images + extent.held_out) * (min(1, training.epochs) if kept else training.epochs)
        seconds = training.epochs * (images / step + extent.held_out / look) + decoded * extent.decoding / self._workers
        formula = f"{training.epochs} epochs x {images} images / {step:.0f} a second"
        if extent.held_out:
            formula += f" + {training.epochs} x {extent.held_out} held out / {look:.0f}"
        return seconds, f"{formula} + {decoded} to decode"

    def _training_on_features(self, extent: Extent, network: NetworkParams, store: FeatureParams) -> tuple[float, str]:
        """Rows that do not fit in memory are read anew in each epoch."""
        epochs, images, classes = network.training.epochs, extent.train, len(extent.classes)
        kept = images * row_bytes(store) <= CACHE_BYTES
        seconds = self._reading(extent, store, (images + extent.held_out) * (1 if kept else epochs))
        if not epochs:
            return seconds, f"{images + extent.held_out} rows of features to read"
        step, look = (head_speed(network, store, classes, training) for training in (True, False))
        seconds += epochs * (images / step + extent.held_out / look)
        formula = f"{epochs} epochs x {images} rows of features / {step:.0f} a second"
        if extent.held_out:
            formula += f" + {epochs} x {extent.held_out} held out / {look:.0f}"
        return seconds, f"{formula} + reading"

    def _reading(self, extent: Extent, store: FeatureParams, images: int) -> float:
        """Seconds until rows of a store are there, from the file or through the backbone."""
        if store.store == "never":
            return self._seeing(extent, store, images)
        return images * row_bytes(store) / READING

    def _seeing(self, extent: Extent, store: FeatureParams, images: int) -> float:
        """Seconds of the backbone's passes over all views of images, and of decoding."""
        return images * (len(store.views) / store_speed(store).rate + extent.decoding / self._workers)

    def _features(self, extent: Extent, store: FeatureParams) -> tuple[float, str]:
        if store.store == "never":
            return 0.0, "computed where they are read"
        formula = f"{extent.images} images x {len(store.views)} views / {store_speed(store).rate:.0f} a second"
        return self._seeing(extent, store, extent.images), f"{formula} + decoding"

    def _maps(self, stage: Stage, extent: Extent, network: NetworkParams) -> tuple[float, str]:
        """A pass for each output of all images; maps are averaged over views, gradients cost a training step."""
        if store := self._inputs.store(network):
            return self._maps_on_features(stage, extent, network, store)
        inference = self._params.inference
        views = {
            "maps": (1 + inference.flip) * sum(scale**2 for scale in inference.scales),
            "classes": 1,
            "pictures": 0,
        }
        gradients = find_recipe(network.method, network.network).needs_gradients
        crops = 10 if getattr(network, "ten_crop", False) else 1
        count = sum(views[output.kind] * crops for output in outputs(stage, network, len(extent.classes)).values())
        return self._passes(extent, network, count, gradients)

    def _maps_on_features(
        self, stage: Stage, extent: Extent, network: NetworkParams, store: FeatureParams
    ) -> tuple[float, str]:
        """Heads see the features of each view in which networks learn; of another set's images they may be missing."""
        classes = max(1, self._inputs.classes(network.set))
        look, views = head_speed(network, store, classes, False), len(upright(store.views))
        kinds = [output.kind for output in outputs(stage, network, len(extent.classes)).values()]
        passes = sum(views for kind in kinds if kind != "pictures")
        seconds = extent.images * passes / look
        formula = f"{extent.images} images x {passes} views / {look:.0f} a second"
        if stage.name == "transfer":
            unseen = store.model_copy(update={"store": "never"})
            store = self._inputs.stores.get(self._params.transfer[stage.item].sees, unseen)
        return seconds + len(kinds) * self._reading(extent, store, extent.images), f"{formula} + reading"

    def _passes(self, extent: Extent, network: Network, views: float, gradients: bool = False) -> tuple[float, str]:
        crops = getattr(network, "ten_crop", False)
        side = network.training.image_side if crops else network.training.inference_side
        rate = network_speed(network, side, training=gradients).rate
        seconds = extent.images * views / rate + extent.images * extent.decoding / self._workers
        return seconds, f"{extent.images} images x {views:g} views / {rate:.0f} a second + decoding"

    def _ddt(self, extent: Extent) -> tuple[float, str]:
        """Rows are read once class by class, and twice for all classes together."""
        stores = self._inputs.ddt_stores()
        read = sum(self._reading(extent, store, 2 * extent.images + extent.train) for store in stores)
        each = sum(
            len(store.views) * component_seconds(level_shape(store, layer))
            for store in stores for layer in self._params.ddt.layers
        )  # fmt: skip
        return read + extent.images * each, f"{extent.images} images x {each:.2g} s + reading three times"

    def _proposal_features(self, stage: Stage, extent: Extent) -> tuple[float, str]:
        seconds, formula = self._light(stage, extent.images)
        store = self._inputs.stores.get(self._params.proposal_features[stage.item].sees)
        return seconds + (self._reading(extent, store, extent.images) if store else 0.0), f"{formula} + reading"

    def _crf(self, images: int, params: CRFParams | None, labels: int, side: int) -> tuple[float, str]:
        if params is None:
            return 0.01 * images, f"{images} images x 0.01 s"
        return self._in_processes(images, crf_seconds(params, labels, side))

    def _light(self, stage: Stage, images: int) -> tuple[float, str]:
        each = LIGHT.get(stage.name)
        if each is None:
            return 0.0, "not known, left out"
        if stage.name in IN_PROCESSES:
            return self._in_processes(images, each)
        return each * images, f"{images} images x {each:g} s"

    def _in_processes(self, images: int, each: float) -> tuple[float, str]:
        return each * images / self._workers, f"{images} images x {each:.3g} s / {self._workers} processes"


def _views(params: InferenceParams | DetectParams) -> float:
    """Passes over the network's input side that averaging costs."""
    return (1 + params.flip) * sum(scale**2 for scale in params.scales)
