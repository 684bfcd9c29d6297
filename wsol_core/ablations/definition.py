"""Ablations: a table of a paper, each of its rows a change of parameters; `tables` has the kinds of tables."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from wsol_core.ablations.overrides import Overrides, leaves
from wsol_core.core.errors import nearest
from wsol_core.core.params import Block

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Unit = Literal["percent", "share", "three", "pixels"]
"""`three`: a share with three digits"""
Read = Callable[[str], dict[str, Any]]
"""The content of a JSON file, by its path from `results/PRESET`."""
Figures = dict[str, dict[str, Any]]
"""Split -> name -> value."""


class Column(NamedTuple):
    """A figure as the document shows it."""

    title: str
    figure: str
    unit: Unit = "percent"
    in_paper: bool = True
    """whether papers have it, in the same unit; theirs stands to its left; else it is left out where no row has it"""
    split: str = "test"
    """split that it is of"""


class Row(Block):
    """One row of a table."""

    name: Name
    """of the row"""
    params: Overrides = Field(default={})
    """what it changes: dotted keys, as `overrides.apply` has it; `${NAME}` is a value of the user's or a parameter"""
    method: str | None = None
    """whose figures are read; none for the table's"""
    paper: dict[str, float] = Field(default={})
    """the paper's figures, by name"""


class Table(Block):
    """A table and how it is made."""

    figures: ClassVar[tuple[str, ...]]
    """what is kept of each run and split: columns of the CSV"""
    baseline: ClassVar[tuple[str, str] | None] = None
    """a figure that all rows share: how the document says it, and its name"""

    name: Name
    """that of the file"""
    measure: str
    """what is measured: the stage `evaluate_MEASURE@METHOD` writes `results/PRESET/MEASURE/METHOD.json`"""
    title: str
    """one line"""
    source: str
    """paper, table, its data set and backbone, and what differs here"""
    preset: str
    """the preset that the rows are meant for"""
    method: str
    """whose figures are read"""
    params: Overrides = Field(default={})
    """what all rows change"""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """of the runs, where the user names none"""
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    """in the paper's order"""

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        if len(self.rows_by_name()) < len(self.rows):
            raise ValueError("two rows of one name")
        known = [column.figure for column in self.columns() if column.in_paper]
        for row in self.rows:
            for figure in row.paper:
                if figure not in known:
                    raise ValueError(f"row {row.name}: no figure {figure!r} of papers{nearest(figure, known)}")
        return self

    def rows_by_name(self) -> dict[str, Row]:
        """In the same order."""
        return {row.name: row for row in self.rows}

    def method_of(self, row: Row) -> str:
        """Whose figures the row shows."""
        return row.method or self.method

    def targets(self, row: Row) -> list[str]:
        """The DVC stages that the row needs."""
        return [f"evaluate_{self.measure}@{self.method_of(row)}"]

    def changes(self, row: Row) -> Overrides:
        """What the row changes beside the method that is evaluated, leaf by leaf."""
        return dict(leaves(self.params)) | dict(leaves(row.params))

    def overrides(self, *rows: Row) -> Overrides:
        """What rows of equal `changes` change; their methods are evaluated whether the preset does so or not."""
        return self.evaluated([self.method_of(row) for row in rows]) | self.changes(rows[0])

    def read_figures(self, row: Row, read: Read) -> Figures:
        """The figures of a run, `figures` among them; no split where nothing could be measured."""
        return read(f"{self.measure}/{self.method_of(row)}.json")

    @abstractmethod
    def columns(self) -> Sequence[Column]:
        """What the document shows, the main figure first."""

    @abstractmethod
    def evaluated(self, methods: Sequence[str]) -> Overrides:
        """The parameters with which DVC has the stages that evaluate methods, and none for others if lists say so."""
