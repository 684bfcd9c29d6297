"""All checks in turn, and the estimate; what comes later rests on what came before."""

from dataclasses import asdict, dataclass
from typing import Any

from wsol_core.core.params import PARAMS
from wsol_core.doctor.costs import Cost, estimate
from wsol_core.doctor.data_sets import check_data
from wsol_core.doctor.feature_stores import check_stores
from wsol_core.doctor.finding import Finding, tried
from wsol_core.doctor.machine import GIB, check_machine, free_bytes
from wsol_core.doctor.outputs import made_files
from wsol_core.doctor.parameters import check_parameters
from wsol_core.doctor.pipeline import read_pipeline, unmade_inputs
from wsol_core.doctor.weights import check_extras, check_versions, check_weights


@dataclass(frozen=True)
class Examination:
    """What was found, and what the stages will cost (none where there are errors, or not asked for)."""

    findings: tuple[Finding, ...]
    costs: tuple[Cost, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether there is an error."""
        return any(finding.level == "error" for finding in self.findings)

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(cost.seconds for cost in self.costs)

    @property
    def bytes(self) -> float:
        """Of all stages' outputs, once."""
        return sum(cost.bytes for cost in self.costs)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        total = {"seconds": round(self.seconds), "bytes": round(self.bytes)} if self.costs else None
        costs = [asdict(cost) for cost in self.costs]
        return {"findings": [asdict(each) for each in self.findings], "stages": costs, "total": total}


def examine(measure: bool) -> Examination:
    """Look at everything here, in the project's root.

    Args:
        measure: whether to measure speeds and estimate, which takes a few seconds for each network.
    """
    params, findings = check_parameters(PARAMS)
    if params is None:
        return Examination(tuple(findings))
    pipeline, wrong = tried("dvc", read_pipeline)
    findings += [*wrong, *check_versions()]
    if pipeline is None:
        return Examination(tuple(findings))
    made = tuple(made_files(pipeline.stages, params.networks))
    extents, data_findings = check_data(params, made)
    findings += [
        *unmade_inputs(pipeline.stages, made, params.heat_maps),
        *check_weights(params),
        *check_extras(params),
        *data_findings,
        *check_machine(pipeline.cache),
    ]
    free, copies = free_bytes(pipeline.cache), pipeline.copies
    stores, wrong = tried("params", lambda: check_stores(params.features, extents, free, copies))
    findings += [*(stores or ()), *wrong]
    for command in pipeline.running:
        text = f"another process is at work here: {command}; wait for its end, two runs stop each other"
        findings.append(Finding("warning", "dvc", text))
    examination = Examination(tuple(findings))
    if not measure or examination.failed:
        return examination
    costs, wrong = tried("params", lambda: tuple(estimate(pipeline.stages, params, extents)))
    needed = sum(cost.bytes for cost in costs or ()) * (2 if copies else 1)
    if needed > free:
        text = f"about {needed / GIB:.0f} GiB of artifacts, {free / GIB:.0f} free; make room"
        wrong.append(Finding("error", "machine", text))
    return Examination((*findings, *wrong), costs or ())
