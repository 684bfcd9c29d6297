"""What each stage will take, in time and disk, from measured speeds; how each figure comes about stands beside it.

Heads, losses and targets are left out: a network costs what its backbone does. A killed or repeated stage costs less.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from wsol_core.core.params import Block
from wsol_core.data.index import SPLITS
from wsol_core.data.loading import CACHE_BYTES
from wsol_core.datasets.scan import worker_count
from wsol_core.datasets.scenes import DemoParams
from wsol_core.detection.infer import DetectParams
from wsol_core.detection.linear_detector import LinearDetectorParams
from wsol_core.detection.proposal_features import DescriptionParams
from wsol_core.doctor.data_sets import Extent
from wsol_core.doctor.pipeline import Stage
from wsol_core.doctor.speed import Pass, Speed, crf_seconds, pass_speed, search_seconds
from wsol_core.engine.inference import InferenceParams
from wsol_core.engine.training_params import NetworkParams
from wsol_core.localization.calibrate import CalibrateParams
from wsol_core.refinement.crf import CRFParams
from wsol_core.refinement.refine import RefineParams
from wsol_core.methods.ddt.colocalization import DDTParams
from wsol_core.methods.sec.segments import SegmentParams
from wsol_core.proposals.selection import ProposalParams
from wsol_core.proposals.selective_search import SearchParams

START, START_WITH_TORCH = 2.5, 7.0
"""Seconds until a stage is at work, DVC's part included."""
OTHERS_WITH_TORCH = {"ddt_boxes", "describe_proposals", "train_linear_detector", "detect_linear"}
LIGHT = {
    "render_demo": 0.06, "scan": 0.001, "scan_background": 0.001, "prepare": 0.006, "pseudo_masks": 0.0003,
    "calibrate": 0.005,
    "gaussian_labels": 0.0005, "background_masks": 0.0005, "oracle_masks": 0.003, "import_maps": 0.002,
    "localize": 0.001, "evaluate_localization": 0.004, "evaluate_classification": 0.0005, "score_proposals": 0.004,
    "two_phase_maps": 0.002, "seeds": 0.003, "evaluate_heat_maps": 0.01, "evaluate_segmentation": 0.01, "report": 0.002,
    "proposals": 0.002, "proposal_files": 0.002, "map_proposals": 0.02, "evaluate_proposals": 0.005,
    "oracle_objectness": 0.005, "evaluate_detection": 0.01, "train_linear_detector": 0.01, "detect_linear": 0.01,
}  # fmt: skip
"""Seconds per image on one core, of stages without a network that sees images; of a training in each epoch."""
IN_PROCESSES = {"render_demo", "scan", "scan_background", "prepare", "refine_maps", "segments"}
THROUGH_GRADIENTS = {"background_maps", "backprop_maps", "saliency_maps"}
"""Maps that are gradients: an image costs a training step."""

SHOWN = {"branches", "parts"}
"""Folders of stores that hold maps of a few images, for pictures."""


@dataclass(frozen=True)
class Cost:
    """Of one stage.

    Attributes:
        stage: as DVC calls it.
        seconds: from start to end.
        bytes: of its outputs, once.
        formula: how the seconds come about.
    """

    stage: str
    seconds: float
    bytes: float
    formula: str


class Costs:
    """Estimates for the stages of a pipeline.

    Args:
        stages: all of them.
        blocks: the parameters by name.
        extents: the data sets by key.
    """

    def __init__(self, stages: Sequence[Stage], blocks: Mapping[str, Block], extents: Mapping[str, Extent]) -> None:
        self._stages, self._blocks, self._extents = stages, blocks, extents
        self._workers = worker_count()
        self._networks = {
            out: network for stage in stages if (network := self._declared_network(stage)) for out in stage.outs
        }

    def __iter__(self) -> Iterator[Cost]:
        for stage in self._stages:
            seconds, formula = self._seconds(stage)
            network = self._network(stage)
            torch = network is not None or stage.name in OTHERS_WITH_TORCH
            start = START_WITH_TORCH if torch else START
            yield Cost(stage.address, start + seconds, self._bytes(stage), f"{formula} + {start:g} s to start")

    def _seconds(self, stage: Stage) -> tuple[float, str]:
        extent, network = self._extent(stage), self._network(stage)
        if stage.name == "render_demo":
            return self._light(stage, self._rendered(stage)[0])
        if extent is None:
            return 0.0, "no image counted"
        if stage.name == "ddt_boxes":
            return self._ddt(extent)
        if network is not None and any(_is_model(out) for out in stage.outs):
            return self._training(stage, extent, network)
        if network is not None:
            return self._inference(stage, extent, network)
        match stage.name:
            case "selective_search":
                return self._search(stage, extent)
            case "describe_proposals":
                return self._describing(stage, extent)
            case "train_linear_detector":
                linear = self._blocks.get(f"linear_detectors.{stage.item}.network")
                epochs = linear.training.epochs if isinstance(linear, LinearDetectorParams) else 0
                return self._light(stage, epochs * (extent.train + extent.held_out))
            case "refine_maps":
                block = self._blocks.get("crf")
                side = block.longest_side if isinstance(block, RefineParams) else 0
                return self._crf(extent.images, block, 2, side)
            case "segments":
                block = self._blocks.get(f"sec.{stage.item}.segments")
                crf = block.crf if isinstance(block, SegmentParams) else None
                return self._crf(extent.images, crf, 1 + len(extent.classes), crf.longest_side if crf else 0)
            case "calibrate":
                params = self._blocks.get("calibrate")
                images = params.images if isinstance(params, CalibrateParams) else extent.train
                return self._light(stage, min(extent.train, images))
        return self._light(stage, extent.images)

    def _training(self, stage: Stage, extent: Extent, network: NetworkParams) -> tuple[float, str]:
        frozen = stage.name == "train_background"
        training = network.training
        images = extent.train * (2 if frozen else 1)
        step = self._speed(network, training.image_side, training=not frozen).rate
        look = self._speed(network, training.image_side, training=False).rate
        side = training.resize or training.image_side
        kept = images * side**2 * 3 <= CACHE_BYTES
        decoded = (images + extent.held_out) * (min(1, training.epochs) if kept else training.epochs)
        seconds = training.epochs * (images / step + extent.held_out / look) + decoded * extent.decoding / self._workers
        formula = f"{training.epochs} epochs x {images} images / {step:.0f} a second"
        if extent.held_out:
            formula += f" + {training.epochs} x {extent.held_out} held out / {look:.0f}"
        return seconds, f"{formula} + {decoded} to decode"

    def _inference(self, stage: Stage, extent: Extent, network: NetworkParams) -> tuple[float, str]:
        views, side = 1.0, network.training.inference_side
        declared = (self._blocks.get(name) for name in stage.blocks)
        averaged = next((each for each in declared if isinstance(each, InferenceParams | DetectParams)), None)
        if getattr(network, "ten_crop", False):
            views, side = 10, network.training.image_side
        elif averaged is not None:
            views = (1 + averaged.flip) * sum(scale**2 for scale in averaged.scales)
        rate = self._speed(network, side, training=stage.name in THROUGH_GRADIENTS).rate
        seconds = extent.images * views / rate + extent.images * extent.decoding / self._workers
        return seconds, f"{extent.images} images x {views:g} views / {rate:.0f} a second + decoding"

    def _ddt(self, extent: Extent) -> tuple[float, str]:
        params = self._blocks.get("ddt")
        if not isinstance(params, DDTParams):
            return 0.0, "no block ddt"
        rate = pass_speed(Pass(params.backbone.name, 32, params.image_side, False, params.precision)).rate
        passes = 2 if params.scope == "dataset" else 1
        seconds = passes * (extent.images / rate + extent.images * extent.decoding / self._workers)
        return seconds, f"{extent.images} images x {passes} / {rate:.0f} a second + decoding"

    def _search(self, stage: Stage, extent: Extent) -> tuple[float, str]:
        params = self._blocks.get(f"selective_search.{stage.item}")
        if not isinstance(params, SearchParams):
            return 0.0, "no such block"
        each = search_seconds(params, extent.sample, params.longest_side or 500)
        return each * extent.images / self._workers, self._shared(extent.images, each)

    def _describing(self, stage: Stage, extent: Extent) -> tuple[float, str]:
        """A proposal as a picture of its cells; the stages behind the level take less than the whole network."""
        params = self._blocks.get(f"descriptions.{stage.item}")
        if not isinstance(params, DescriptionParams):
            return 0.0, "no such block"
        picture = self._described(params, params.image_side)
        if not -len(picture.strides) <= params.level < len(picture.strides):
            return 0.0, "no such level"
        proposal = self._described(params, params.cells * picture.strides[params.level])
        count = self._proposals()
        seconds = extent.images * (1 / picture.rate + count / proposal.rate + extent.decoding / self._workers)
        each = f"(1 / {picture.rate:.0f} + {count} proposals / {proposal.rate:.0f} a second)"
        return seconds, f"at most {extent.images} images x {each} + decoding"

    def _described(self, params: DescriptionParams, side: int) -> Speed:
        return pass_speed(Pass(params.backbone.name, params.output_stride, side, False, params.precision))

    def _proposals(self) -> int:
        params = self._blocks.get("proposals")
        return params.max_proposals if isinstance(params, ProposalParams) else 0

    def _crf(self, images: int, params: object, labels: int, side: int) -> tuple[float, str]:
        if not isinstance(params, CRFParams):
            return 0.01 * images, f"{images} images x 0.01 s"
        each = crf_seconds(params, labels, side)
        return each * images / self._workers, self._shared(images, each)

    def _light(self, stage: Stage, images: int) -> tuple[float, str]:
        each = LIGHT.get(stage.name)
        if each is None:
            return 0.0, "not known, left out"
        if stage.name in IN_PROCESSES:
            return each * images / self._workers, self._shared(images, each)
        return each * images, f"{images} images x {each:g} s"

    def _shared(self, images: int, each: float) -> str:
        return f"{images} images x {each:.3g} s / {self._workers} processes"

    def _speed(self, network: NetworkParams, side: int, training: bool) -> Speed:
        stride = getattr(network, "output_stride", 32)
        return pass_speed(Pass(network.backbone.name, stride, side, training, network.training.precision))

    def _bytes(self, stage: Stage) -> float:
        return sum(self._bytes_of(stage, PurePosixPath(out)) for out in stage.outs)

    def _bytes_of(self, stage: Stage, out: PurePosixPath) -> float:
        extent, network, kind = self._extent(stage), self._network(stage), out.parent.name
        if stage.name == "render_demo":
            images, side = self._rendered(stage)
            return 0.35 * images * side**2
        if _is_model(str(out)) and network is not None:
            return 4.0 * self._speed(network, network.training.image_side, training=False).parameters
        if extent is None:
            return 0.0
        if out.name == "proposals.parquet" or kind == "objectness":
            return 20.0 * extent.images * self._proposals()
        described = self._blocks.get(f"descriptions.{out.stem}") if kind == "descriptions" else None
        if isinstance(described, DescriptionParams):
            width = self._described(described, described.image_side).width
            return 2.0 * extent.images * self._proposals() * width
        if out.suffix == ".h5" and kind == "maps":
            return 2.0 * extent.images * self._maps_per_image(network, extent) * self._cells(stage, network)
        return 0.25 * extent.images * 56**2 if out.suffix == ".h5" and kind not in SHOWN else 200.0 * extent.images

    def _maps_per_image(self, network: NetworkParams | None, extent: Extent) -> float:
        if getattr(network, "losses", None):
            return 1 + len(extent.classes)
        if hasattr(network, "set"):
            return len(extent.classes) if getattr(network, "maps", "") == "all" else extent.labels
        return 1.0

    def _cells(self, stage: Stage, network: NetworkParams | None) -> float:
        ddt, crf = self._blocks.get("ddt"), self._blocks.get("crf")
        if stage.name == "ddt_boxes" and isinstance(ddt, DDTParams):
            return (ddt.image_side / 32) ** 2
        if network is None:
            return crf.resolution**2 if isinstance(crf, RefineParams) else 56**2
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
        demo = self._blocks.get("demo")
        if not isinstance(demo, DemoParams):
            return 0, 0
        images = demo.localization if stage.item == "background" else getattr(demo, stage.item)
        return demo.backgrounds if stage.item == "background" else sum(map(images.count, SPLITS)), images.side

    def _network(self, stage: Stage) -> NetworkParams | None:
        """The network that a stage trains, or whose weights it reads."""
        read = (self._networks[dep] for dep in stage.deps if _is_model(dep) and dep in self._networks)
        return self._declared_network(stage) or next(read, None)

    def _declared_network(self, stage: Stage) -> NetworkParams | None:
        for name in stage.blocks:
            block = self._blocks.get(name)
            network = getattr(block, "network", block)
            if isinstance(network, NetworkParams):
                return network
        return None


def _is_model(path: str) -> bool:
    return path.startswith("data/models/") and path.endswith(".safetensors")
