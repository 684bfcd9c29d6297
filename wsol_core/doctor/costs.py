"""What each stage will take, in time and disk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wsol_core.configuration.parameters import Parameters
from wsol_core.doctor.data_sets import Extent
from wsol_core.doctor.disk_space import DiskSpace
from wsol_core.doctor.pipeline import Stage
from wsol_core.doctor.running_time import RunningTime
from wsol_core.doctor.stage_inputs import StageInputs


@dataclass(frozen=True)
class Cost:
    """Of one stage: its address, seconds from start to end, bytes of its outputs, and how the seconds come about."""

    stage: str
    seconds: float
    bytes: float
    formula: str


def estimate(stages: Sequence[Stage], params: Parameters, extents: Mapping[str, Extent]) -> Iterator[Cost]:
    """The costs of a pipeline's stages, in their order.

    Args:
        stages: all of them.
        params: the parameters.
        extents: the data sets by key.

    Raises:
        InputError: a store's backbone is unknown or lacks a level that is asked for.
    """
    inputs = StageInputs(params, extents)
    time, space = RunningTime(params, inputs), DiskSpace(params, inputs)
    for stage in stages:
        seconds, formula = time.of(stage)
        yield Cost(stage.address, seconds, space.of(stage), formula)
