"""All that is wrong in params.yaml, where the pipeline itself would stop at the first fault."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from wsol_core.configuration.parameters import Parameters, read_parameters
from wsol_core.core.errors import InputError, nearest
from wsol_core.core.params import explain
from wsol_core.core.texts import read_yaml
from wsol_core.doctor.finding import Finding, tried


def check_parameters(path: Path) -> tuple[Parameters | None, list[Finding]]:
    """The parameters of a file; None and a line for each block or entry that is wrong."""
    params, findings = tried("params", lambda: read_parameters(path))
    if params is not None:
        return params, []
    try:
        content = read_yaml(path)
    except (OSError, InputError):
        return None, findings
    lines = list(faults(content)) if isinstance(content, Mapping) else []
    return None, [Finding("error", "params", line) for line in lines] or findings


def faults(content: Mapping[str, Any]) -> Iterator[str]:
    """A line for each unknown key, block and entry that does not fit its model."""
    for key, value in content.items():
        field = Parameters.model_fields.get(key)
        if field is None:
            yield f"{key}: unknown key{nearest(key, Parameters.model_fields)}; remove or rename it"
        elif isinstance(value, Mapping) and get_args(field.annotation):
            for name, entry in value.items():
                yield from _faults(key, field, {name: entry})
        else:
            yield from _faults(key, field, value)


def _faults(key: str, field: FieldInfo, value: Any) -> Iterator[str]:
    annotation: Any = field.annotation
    try:
        TypeAdapter(Annotated[annotation, field]).validate_python(value)
    except ValidationError as error:
        yield explain(error, annotation, key)
    except InputError as error:
        yield str(error)
