"""Every block of params.yaml against the model that the stages load it as."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from wsol_core.core import params
from wsol_core.core.errors import InputError, nearest
from wsol_core.core.params import PARAMS, Block
from wsol_core.datasets.background import BackgroundParams
from wsol_core.datasets.listing import DataParams
from wsol_core.datasets.scenes import DemoParams
from wsol_core.detection.detector import DetectorParams
from wsol_core.detection.infer import DetectParams
from wsol_core.detection.linear_detector import LinearDetectorParams
from wsol_core.detection.postprocess import SelectionParams
from wsol_core.detection.proposal_features import DescriptionParams
from wsol_core.doctor.finding import Finding, tried
from wsol_core.engine.inference import InferenceParams
from wsol_core.external.import_maps import ImportParams
from wsol_core.localization.calibrate import CalibrateParams
from wsol_core.localization.localize import LocalizeParams
from wsol_core.oracle.masks import OracleParams
from wsol_core.refinement.refine import RefineParams
from wsol_core.methods.bcct.binary import GradientParams
from wsol_core.methods.bcct.ct import BCCTParams
from wsol_core.methods.bcct.joint import JointParams
from wsol_core.methods.classifier.network import ClassifierParams
from wsol_core.methods.ddt.colocalization import DDTParams
from wsol_core.methods.fam.network import FamParams
from wsol_core.methods.psol.network import PsolParams
from wsol_core.methods.sec.cues import CueParams
from wsol_core.methods.sec.network import SecParams
from wsol_core.methods.sec.segments import SegmentParams
from wsol_core.methods.spol.gaussian import GaussianParams
from wsol_core.methods.spol.networks import CamParams, SegmentationParams
from wsol_core.methods.two_phase.phases import LaterPhaseParams, PhaseParams
from wsol_core.methods.two_phase.saliency import SaliencyParams
from wsol_core.methods.two_phase.voting import VotingParams
from wsol_core.methods.wsfl.foreground import ForegroundParams, TransferredParams
from wsol_core.methods.wsfl.pseudo_masks import PseudoMaskParams
from wsol_core.proposals.files import FileParams
from wsol_core.proposals.map_proposals import MapProposalParams
from wsol_core.proposals.selection import ProposalParams
from wsol_core.proposals.selective_search import SearchParams
from wsol_core.visualization.contact_sheets import ObjectnessParams, ReportParams

MODELS: dict[str, type[Block]] = {
    "background": BackgroundParams,
    "backprop.*": GradientParams,
    "bc.*": GradientParams,
    "bcct.*": BCCTParams,
    "bcct_joint.*": JointParams,
    "calibrate": CalibrateParams,
    "cam.*": CamParams,
    "classifier.*": ClassifierParams,
    "crf": RefineParams,
    "data.*": DataParams,
    "ddt": DDTParams,
    "demo": DemoParams,
    "descriptions.*": DescriptionParams,
    "detectors.*.detect": DetectParams,
    "detectors.*.network": DetectorParams,
    "fam.*": FamParams,
    "foreground": ForegroundParams,
    "gaussian": GaussianParams,
    "import_maps.*": ImportParams,
    "inference": InferenceParams,
    "linear_detectors.*.detect": SelectionParams,
    "linear_detectors.*.network": LinearDetectorParams,
    "localize": LocalizeParams,
    "objectness": ObjectnessParams,
    "map_proposals.*": MapProposalParams,
    "oracle.*.network": ForegroundParams,
    "oracle.*.targets": OracleParams,
    "oracle_objectness.*": OracleParams,
    "phase_one.*": PhaseParams,
    "phase_two.*": LaterPhaseParams,
    "proposal_files.*": FileParams,
    "proposals": ProposalParams,
    "pseudo_masks": PseudoMaskParams,
    "psol.*": PsolParams,
    "report": ReportParams,
    "saliency.*": SaliencyParams,
    "sec.*.network": SecParams,
    "sec.*.seeds": CueParams,
    "sec.*.segments": SegmentParams,
    "segmentation.network": SegmentationParams,
    "selective_search.*": SearchParams,
    "transferred.*": TransferredParams,
    "two_phase.*": VotingParams,
}
"""The model of each block; `*` stands for each of the names that the user chose."""

LISTS = (
    "rendered", "scanned", "segmentation.sources", "segmentation.carried", "refined", "methods", "class_scores",
    "segments", "detections", "carried_fam",
)  # fmt: skip
PLAIN = ("preset", "seed", "heat_maps", *LISTS)

Place = tuple[str, ...]


def read_params() -> dict[str, Any]:
    """All of params.yaml.

    Raises:
        InputError: it is missing, not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{PARAMS}: missing; run from the project's root") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{PARAMS}: not valid YAML ({error}); mend it, or `wsol use demo` writes it anew") from error
    if not isinstance(content, dict):
        raise InputError(f"{PARAMS}: not blocks of parameters; `wsol use demo` writes it anew")
    return content


def check_blocks(content: Mapping[str, Any]) -> tuple[dict[str, Block], list[Finding]]:
    """The blocks that are right, by name like `cam.cam`, and what is wrong with the others and with other keys."""
    blocks: dict[str, Block] = {}
    findings = [
        Finding("error", "params", f"{name}: unknown key{hint}; remove or rename it")
        for name, hint in _unknown(content, [tuple(each.split(".")) for each in (*MODELS, *PLAIN)])
    ]
    for pattern, model in MODELS.items():
        for name in _names(content, tuple(pattern.split("."))):
            block, wrong = tried("params", lambda: params.load(model, name))  # noqa: B023
            findings += wrong
            if block is not None:
                blocks[name] = block
    for read in (params.preset, params.seed, params.heat_maps):
        findings += tried("params", read)[1]
    return blocks, findings + [finding for name in LISTS for finding in _check_list(content, name)]


def _names(content: Any, pattern: Place) -> Iterator[str]:
    """The names that a pattern stands for; one without `*` stands for itself, whether it is there or not."""
    if "*" not in pattern:
        yield ".".join(pattern)
        return
    head, rest = pattern[: pattern.index("*")], pattern[pattern.index("*") + 1 :]
    for key in _at(content, head) or ():
        yield ".".join((*head, str(key), *rest))


def _at(content: Any, place: Place) -> Any:
    for key in place:
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict | list) else None


def _unknown(content: Mapping[str, Any], patterns: Sequence[Place], place: Place = ()) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        rest = [pattern[1:] for pattern in patterns if pattern[0] in (key, "*")]
        if not rest:
            yield ".".join((*place, str(key))), nearest(str(key), {pattern[0] for pattern in patterns})
        elif () not in rest and isinstance(value, dict):
            yield from _unknown(value, rest, (*place, str(key)))


def _check_list(content: Mapping[str, Any], name: str) -> list[Finding]:
    *head, last = name.split(".")
    block = content
    for key in head:
        block = block.get(key) or {}
    names = block.get(last)
    if isinstance(names, list) and all(isinstance(each, str) for each in names):
        twice = sorted({each for each in names if names.count(each) > 1})
        return [Finding("error", "params", f"{name}: {each!r} twice; name it once") for each in twice]
    return [Finding("error", "params", f"{name}: {names!r} is not a list of names; [] for none")]
