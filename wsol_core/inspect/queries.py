"""What a request may ask, typed; anything else is refused with one line."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import Field, ValidationError

from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.core.params import Block
from wsol_core.inspect.filters import Filter
from wsol_core.inspect.refusals import BAD, RefusalError

LONGEST_NAME, LONGEST_ID, LONGEST_ECHO = 200, 1000, 60
MOST_CLASSES = 10**6


class PageQuery(Filter):
    """A page of a data set's images."""

    data_set: str = Field(max_length=LONGEST_NAME)
    page: int = Field(default=0, ge=0, le=10**7)


class ImageQuery(Filter):
    """An image, and the filter among whose images its neighbours are sought."""

    data_set: str = Field(max_length=LONGEST_NAME)
    id: str = Field(max_length=LONGEST_ID)


class PictureQuery(Block):
    """An image in a revision."""

    data_set: str = Field(max_length=LONGEST_NAME)
    id: str = Field(max_length=LONGEST_ID)
    rev: int = Field(default=0, ge=0, le=100)
    """Position of the revision among those that the page was opened with."""


class LayerQuery(PictureQuery):
    """A layer of it."""

    layer: str = Field(max_length=LONGEST_NAME)
    label: int | None = Field(default=None, ge=CLASS_AGNOSTIC, le=MOST_CLASSES)
    """The class whose map it is, the image's first one by default; the class-agnostic map where there is none."""


class LiveQuery(PictureQuery):
    """The boxes of a method's map at a threshold; at the calibrated one where none is given."""

    method: str = Field(max_length=LONGEST_NAME)
    label: int | None = Field(default=None, ge=CLASS_AGNOSTIC, le=MOST_CLASSES)
    threshold: float | None = Field(default=None, ge=0, le=1)


Q = TypeVar("Q", bound=Block)


def read_query(model: type[Q], words: Mapping[str, str]) -> Q:
    """A request's words as a query; empty ones count as not given.

    Raises:
        RefusalError: a word is unknown, missing or has a wrong value; the line names it.
    """
    try:
        return model.model_validate({key: value for key, value in words.items() if value != ""})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))[:LONGEST_ECHO]
        got = "" if first["type"] == "missing" else f" (got {str(first['input'])[:LONGEST_ECHO]!r})"
        raise RefusalError(f"{name}: {first['msg']}{got}", BAD) from error
