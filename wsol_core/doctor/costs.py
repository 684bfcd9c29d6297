"""What each stage will take, in time and disk, from measured speeds; how each figure comes about stands beside it.

Heads, losses and targets are left out: a network costs what its backbone does. A killed or repeated stage costs less.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from wsol_core.configuration.parameters import Parameters
from wsol_core.core.crf_params import CRFParams
from wsol_core.core.parallel import worker_count
from wsol_core.data.index import SPLITS
from wsol_core.data.loading import CACHE_BYTES
from wsol_core.detection.detector import DetectorParams
from wsol_core.detection.entry import ImageDetectorEntry, LinearDetectorEntry
from wsol_core.detection.infer import DetectParams
from wsol_core.doctor.data_sets import BACKGROUND, Extent
from wsol_core.doctor.outputs import NETWORK_STAGES, outputs
from wsol_core.doctor.pipeline import Stage
from wsol_core.doctor.speed import Pass, Speed, crf_seconds, pass_speed, search_seconds
from wsol_core.engine.inference import InferenceParams
from wsol_core.engine.recipe import Output, find_recipe
from wsol_core.engine.training_params import NetworkParams

Network = NetworkParams | DetectorParams

START, START_WITH_TORCH = 2.5, 7.0
"""Seconds until a stage is at work, DVC's part included."""
WITH_TORCH = {*NETWORK_STAGES, "ddt_boxes", "proposal_features", "train_detector", "detect"}
LIGHT = {
    "render_demo": 0.06, "scan": 0.001, "prepare": 0.006, "pseudo_masks": 0.0003, "calibrate": 0.005,
    "gaussian_labels": 0.0005, "gradient_masks": 0.0005, "oracle_masks": 0.003, "import_maps": 0.002,
    "localize": 0.001, "evaluate_localization": 0.004, "evaluate_classification": 0.0005, "score_proposals": 0.004,
    "vote": 0.002, "cues": 0.003, "evaluate_heat_maps": 0.01, "evaluate_segmentation": 0.01, "report": 0.002,
    "proposals": 0.002, "proposal_files": 0.002, "map_proposals": 0.02, "evaluate_proposals": 0.005,
    "oracle_objectness": 0.005, "evaluate_detection": 0.01, "train_detector": 0.01, "detect": 0.01,
}  # fmt: skip
"""Seconds per image on one core, of stages without a network that sees images; of a training in each epoch."""
IN_PROCESSES = {"render_demo", "scan", "prepare", "refine_maps", "segments"}


@dataclass(frozen=True)
class Cost:
    """Of one stage: its address, seconds from start to end, bytes of its outputs, and how the seconds come about."""

    stage: str
    seconds: float
    bytes: float
    formula: str


class Costs:
    """Estimates for the stages of a pipeline.

    Args:
        stages: all of them.
        params: the parameters.
        extents: the data sets by key.
    """

    def __init__(self, stages: Sequence[Stage], params: Parameters, extents: Mapping[str, Extent]) -> None:
        self._stages, self._params, self._extents = stages, params, extents
        self._workers = worker_count()

    def __iter__(self) -> Iterator[Cost]:
        for stage in self._stages:
            seconds, formula = self._seconds(stage)
            start = START_WITH_TORCH if stage.name in WITH_TORCH else START
            yield Cost(stage.address, start + seconds, self._bytes(stage), f"{formula} + {start:g} s to start")

    def _seconds(self, stage: Stage) -> tuple[float, str]:
        if stage.name == "render_demo":
            return self._light(stage, self._rendered(stage)[0])
        extent, network, params = self._extent(stage), self._network(stage), self._params
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
            case "ddt_boxes":
                return self._ddt(extent)
            case "selective_search":
                search = params.selective_search[stage.item]
                each = search_seconds(search, extent.sample, search.longest_side or 500)
                return self._in_processes(extent.images, each)
            case "proposal_features":
                return self._features(stage, extent)
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
        background = isinstance(network, NetworkParams) and network.background != network.index
        images = extent.train * (2 if background else 1)
        step = self._speed(network, training.image_side, training=training.lr_backbone > 0).rate
        look = self._speed(network, training.image_side, training=False).rate
        kept = images * (training.resize or training.image_side) ** 2 * 3 <= CACHE_BYTES
        decoded = (images + extent.held_out) * (min(1, training.epochs) if kept else training.epochs)
        seconds = training.epochs * (images / step + extent.held_out / look) + decoded * extent.decoding / self._workers
        formula = f"{training.epochs} epochs x {images} images / {step:.0f} a second"
        if extent.held_out:
            formula += f" + {training.epochs} x {extent.held_out} held out / {look:.0f}"
        return seconds, f"{formula} + {decoded} to decode"

    def _maps(self, stage: Stage, extent: Extent, network: NetworkParams) -> tuple[float, str]:
        """A pass for each output of all images; maps are averaged over views, gradients cost a training step."""
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

    def _passes(self, extent: Extent, network: Network, views: float, gradients: bool = False) -> tuple[float, str]:
        crops = getattr(network, "ten_crop", False)
        side = network.training.image_side if crops else network.training.inference_side
        rate = self._speed(network, side, training=gradients).rate
        seconds = extent.images * views / rate + extent.images * extent.decoding / self._workers
        return seconds, f"{extent.images} images x {views:g} views / {rate:.0f} a second + decoding"

    def _ddt(self, extent: Extent) -> tuple[float, str]:
        params = self._params.ddt
        rate = pass_speed(Pass(params.backbone.name, 32, params.image_side, False, params.precision)).rate
        passes = 2 if params.scope == "dataset" else 1
        seconds = passes * (extent.images / rate + extent.images * extent.decoding / self._workers)
        return seconds, f"{extent.images} images x {passes} / {rate:.0f} a second + decoding"

    def _features(self, stage: Stage, extent: Extent) -> tuple[float, str]:
        """A proposal as a picture of its cells; the stages behind the level take less than the whole network."""
        params = self._params.proposal_features[stage.item]
        picture = self._features_speed(stage.item, params.image_side)
        if not -len(picture.strides) <= params.level < len(picture.strides):
            return 0.0, "no such level"
        proposal = self._features_speed(stage.item, params.cells * picture.strides[params.level])
        count = self._params.proposals.max_proposals
        seconds = extent.images * (1 / picture.rate + count / proposal.rate + extent.decoding / self._workers)
        each = f"(1 / {picture.rate:.0f} + {count} proposals / {proposal.rate:.0f} a second)"
        return seconds, f"at most {extent.images} images x {each} + decoding"

    def _features_speed(self, name: str, side: int) -> Speed:
        params = self._params.proposal_features[name]
        return pass_speed(Pass(params.backbone.name, params.output_stride, side, False, params.precision))

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

    def _speed(self, network: Network, side: int, training: bool) -> Speed:
        stride = getattr(network, "output_stride", 32)
        return pass_speed(Pass(network.backbone.name, stride, side, training, network.training.precision))

    def _bytes(self, stage: Stage) -> float:
        extent, network = self._extent(stage), self._network(stage)
        if stage.name == "render_demo":
            images, side = self._rendered(stage)
            return 0.35 * images * side**2
        if stage.name in ("train", "train_detector") and network is not None:
            return 4.0 * self._speed(network, network.training.image_side, training=False).parameters
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
            side = self._params.proposal_features[stage.item].image_side
            return 2.0 * proposals * self._features_speed(stage.item, side).width
        if stage.name == "ddt_boxes" and out.parent.name == "outputs":
            return 2.0 * extent.images * (self._params.ddt.image_side / 32) ** 2
        if out.parent.name == "outputs":
            return 2.0 * extent.images * (self._params.crf.resolution if stage.name == "refine_maps" else 56) ** 2
        if out.name == "proposals.parquet" or out.parent.name == "objectness":
            return 20.0 * proposals
        return 0.25 * extent.images * 56**2 if out.suffix == ".h5" else 200.0 * extent.images

    def _cells(self, network: Network) -> float:
        """Of a map."""
        if resolution := getattr(network, "resolution", 0):
            return float(resolution**2)
        levels = getattr(network, "levels", (getattr(network, "level", -1),))
        strides = self._speed(network, network.training.image_side, training=False).strides
        return (network.training.inference_side / min(strides[level] for level in levels)) ** 2

    def _extent(self, stage: Stage) -> Extent | None:
        """Of the data set that a stage reads: the first folder of `data/` among its inputs that is one."""
        parts = [PurePosixPath(path).parts for path in (*stage.deps, *stage.outs)]
        sets = [each[1] for each in parts if len(each) > 1 and each[0] == "data" and each[1] in self._extents]
        return self._extents.get(sets[0] if sets else stage.item)

    def _rendered(self, stage: Stage) -> tuple[int, int]:
        """Images that a stage renders, and their longer side."""
        demo = self._params.demo
        if stage.item == BACKGROUND:
            return demo.backgrounds, demo.localization.side
        images = getattr(demo, stage.item)
        return sum(map(images.count, SPLITS)), images.side

    def _network(self, stage: Stage) -> Network | None:
        """The network that a stage trains or runs; none of a detector of heads alone."""
        if stage.name in NETWORK_STAGES:
            return self._params.networks.get(stage.item)
        entry = self._params.detectors[stage.item] if stage.name in ("train_detector", "detect") else None
        return entry.network if isinstance(entry, ImageDetectorEntry) else None


def _views(params: InferenceParams | DetectParams) -> float:
    """Passes over the network's input side that averaging costs."""
    return (1 + params.flip) * sum(scale**2 for scale in params.scales)
