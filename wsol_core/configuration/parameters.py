"""The one typed model of `params.yaml`."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from wsol_core.core.errors import InputError, nearest
from wsol_core.core.params import Block, explain
from wsol_core.core.texts import read_yaml
from wsol_core.data.index import DataSet
from wsol_core.datasets.listing import DataParams
from wsol_core.datasets.scenes import DemoParams
from wsol_core.detection.entry import DetectorEntry, detector_entry
from wsol_core.detection.proposal_features import ProposalFeatureParams
from wsol_core.engine.features import FeatureParams
from wsol_core.engine.inference import InferenceParams
from wsol_core.engine.recipe import entry_recipe
from wsol_core.engine.training_params import NetworkParams
from wsol_core.external.import_maps import ImportParams
from wsol_core.localization.calibrate import CalibrateParams, MethodParams
from wsol_core.localization.localize import LocalizeParams
from wsol_core.methods.bcct.masks import MaskParams
from wsol_core.methods.ddt.colocalization import DDTParams
from wsol_core.methods.sec.cues import CueParams
from wsol_core.methods.sec.segments import SegmentParams
from wsol_core.methods.spol.gaussian import GaussianParams
from wsol_core.methods.two_phase.voting import VotingParams
from wsol_core.methods.wsfl.pseudo_masks import PseudoMaskParams
from wsol_core.oracle.masks import OracleParams
from wsol_core.proposals.files import FileParams
from wsol_core.proposals.map_proposals import MapProposalParams
from wsol_core.proposals.objectness import ObjectnessParams
from wsol_core.proposals.selection import ProposalParams
from wsol_core.proposals.selective_search import SearchParams
from wsol_core.refinement.grabcut import GrabCutParams
from wsol_core.refinement.refine import RefineParams
from wsol_core.visualization.contact_sheets import ReportParams

PreparedSet = Literal["localization", "detection", "background"]
E = TypeVar("E", bound=Block)


def _plain(name: str) -> str:
    if not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError("names of entries consist of letters, digits, '-' and '_'")
    return name


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} twice; name it once")
    return names


Name = Annotated[str, AfterValidator(_plain)]
"""Chosen by the user; part of the names of stages and files."""
Names = Annotated[tuple[Name, ...], AfterValidator(_once)]


class TransferParams(Block):
    """A trained network on a data set that it was not trained on."""

    set: DataSet
    """data set that it gives maps of"""
    method: str
    """its method, as in `networks`"""
    sees: str = ""
    """what it sees there: the index for the images, or data/SET/features/NAME.h5, features like those it learned on"""

    @model_validator(mode="before")
    @classmethod
    def _name_the_index(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("sees"):
            return content
        return content | {"sees": f"data/{content.get('set')}/index.parquet"}


def _typed(kind: str, entry: Callable[[Any, str], E]) -> Callable[[Any], Any]:
    """A validator of a dictionary whose entries choose their own models."""

    def validate(content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        return {
            name: each if isinstance(each, Block) else entry(each, f"{kind}.{name}") for name, each in content.items()
        }

    return validate


def _network(content: Any, place: str) -> NetworkParams:
    model = entry_recipe(content, place).params
    return _explained(model, lambda: model.model_validate(content), place)


def _explained(model: type[Block], validated: Callable[[], E], place: str) -> E:
    try:
        return validated()
    except ValidationError as error:
        raise InputError(explain(error, model, place)) from error


class Parameters(Block):
    """All parameters of the pipeline. Dictionaries hold an entry, and so stages of DVC, for each name."""

    preset: str = Field(pattern=r"^\w[\w.-]*$")
    """name of the preset; results go to results/PRESET"""
    seed: int = Field(default=0, ge=0)
    """of training, calibration and pictures"""

    data: dict[PreparedSet, DataParams]
    """data sets: localization (a label per image), detection (several), background (none of the classes)"""
    rendered: Annotated[tuple[PreparedSet, ...], AfterValidator(_once)] = ()
    """sets of the embedded demo to compose; none for data of one's own"""
    scanned: Annotated[tuple[PreparedSet, ...], AfterValidator(_once)] = ()
    """data sets outside the project, whose files are looked over at every run"""
    demo: DemoParams
    """embedded demo: photographs composed from data/demo"""

    features: dict[Name, FeatureParams] = Field(default={})
    """feature maps of frozen networks, cached, by NAME of data/SET/features/NAME.h5"""
    ddt: DDTParams
    """pseudo boxes from image labels (WSFL 3.3.1)"""
    pseudo_masks: PseudoMaskParams = PseudoMaskParams()
    """low-resolution masks of the pseudo boxes (WSFL 3.3.2)"""
    gaussian_labels: dict[Name, GaussianParams] = Field(default={})
    """tri-state pseudo labels from maps (SPOL 3.4), by NAME of data/localization/targets/NAME.h5"""
    gradient_masks: dict[Name, MaskParams] = Field(default={})
    """masks from maps (BC-CT 3.2), by NAME of data/localization/targets/NAME.h5"""
    cues: dict[Name, CueParams] = Field(default={})
    """localization cues (SEC; Two-Phase 4.2), by NAME of data/detection/targets/NAME.h5"""
    oracle_masks: dict[Name, OracleParams] = Field(default={})
    """ground truth as targets, for upper bounds (WSFL, Table 1), by NAME oracle-..."""

    networks: Annotated[dict[Name, SerializeAsAny[NetworkParams]], BeforeValidator(_typed("networks", _network))] = (
        Field(default={})
    )
    """networks that are trained, by NAME of data/models/NAME.safetensors and data/SET/outputs/NAME"""
    transfer: dict[Name, TransferParams] = Field(default={})
    """networks that see another data set than their own too, by NAME in `networks`"""
    inference: InferenceParams = InferenceParams()
    """maps of every network, averaged over views of an image"""

    import_maps: dict[Name, ImportParams] = Field(default={})
    """score maps of others, by METHOD"""
    refined: Names = ()
    """methods whose maps are refined by dense CRF: METHOD gives METHOD-crf (extra `crf`)"""
    crf: RefineParams = RefineParams()
    """dense CRF of `refined`"""
    cut: Names = ()
    """methods whose maps become masks by GrabCut: METHOD gives METHOD-grabcut"""
    grabcut: GrabCutParams = GrabCutParams()
    """GrabCut of `cut`"""
    votes: dict[Name, VotingParams] = Field(default={})
    """maps of two methods merged, by weighted map voting (Two-Phase, Eq. 5) or by their mean, by METHOD"""
    segments: dict[Name, SegmentParams] = Field(default={})
    """label masks from maps of classes by dense CRF, held against the true ones, by NAME"""

    methods: dict[Name, MethodParams] = Field(default={})
    """localization methods that are calibrated, turned into boxes and evaluated, by METHOD of outputs/METHOD"""
    class_scores: Names = ()
    """networks whose class scores name the class of a box, for Top-1 and Top-5 localization"""
    calibrate: CalibrateParams = CalibrateParams()
    """box threshold without ground truth: the best agreement with pseudo labels"""
    localize: LocalizeParams = LocalizeParams()
    """how maps become boxes"""

    selective_search: dict[Name, SearchParams] = Field(default={})
    """proposals (boxes that may hold an object) by selective search, by SOURCE"""
    proposal_files: dict[Name, FileParams] = Field(default={})
    """proposals of others, by SOURCE"""
    map_proposals: dict[Name, MapProposalParams] = Field(default={})
    """proposals around regions of a method's maps, by SOURCE"""
    proposals: ProposalParams = ProposalParams()
    """source that detection uses; the recall of all sources is measured"""
    objectness: ObjectnessParams = ObjectnessParams()
    """mean of a map inside each proposal (WSFL 3.5)"""
    oracle_objectness: dict[Name, OracleParams] = Field(default={})
    """objectness by ground truth (WSFL, Table 3), by NAME oracle-..."""
    proposal_features: dict[Name, ProposalFeatureParams] = Field(default={})
    """features of each proposal from a frozen network, by NAME of data/detection/proposal_features/NAME.h5"""
    detectors: Annotated[
        dict[Name, SerializeAsAny[DetectorEntry]], BeforeValidator(_typed("detectors", detector_entry))
    ] = Field(default={})
    """detectors from image labels, by NAME"""
    detections: Names = ()
    """detectors whose boxes are measured"""
    heat_maps: dict[Name, str] = Field(default={})
    """maps of classes held against masks or boxes, by NAME: "STORE STORE ..."; empty for the store of its name"""

    report: ReportParams = ReportParams()
    """pictures"""

    @model_validator(mode="after")
    def _agree(self) -> "Parameters":
        for fault in self._faults():
            raise ValueError(fault)
        return self

    def _faults(self) -> Iterator[str]:
        """Where two blocks contradict one another."""
        sets = {f"networks.{name}.set": entry.set for name, entry in self.networks.items()}
        for block in ("features", "transfer", "import_maps", "votes"):
            sets |= {f"{block}.{name}.set": entry.set for name, entry in getattr(self, block).items()}
        named = {"scanned": self.scanned, "objectness.sets": self.objectness.sets, "report.sets": self.report.sets}
        places = [*sets.items(), *((place, each) for place, names in named.items() for each in names)]
        for place, each in places:
            if each not in self.data:
                yield f"{place}: no data set {each!r} in data{nearest(each, self.data)}"
        for name, entry in self.transfer.items():
            network = self.networks.get(name)
            if network is None:
                yield f"transfer.{name}: no network {name!r} in networks{nearest(name, self.networks)}"
            elif (network.method, network.set == entry.set) != (entry.method, False):
                yield f"transfer.{name}: the method is that of networks.{name}, {network.method}, and the set another"


def read_parameters(path: Path) -> Parameters:
    """All parameters of a file like `params.yaml`.

    Raises:
        InputError: it is missing, not YAML, or a key is missing, unknown or wrong; the message names it.
    """
    if not path.exists():
        raise InputError(f"{path}: missing; run from the project's root")
    try:
        content = read_yaml(path)
    except InputError as error:
        raise InputError(f"{error}; mend it, or `wsol use demo` writes it anew") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not blocks of parameters; `wsol use demo` writes it anew")
    try:
        return typed(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def typed(content: Mapping[str, Any]) -> Parameters:
    """Parameters from what a YAML file holds.

    Raises:
        InputError: a key is missing, unknown or wrong; the message names it, and the nearest right key.
    """
    return _explained(Parameters, lambda: Parameters.model_validate(content), "")
