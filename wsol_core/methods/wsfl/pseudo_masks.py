"""Parameters of the low-resolution pseudo masks that pseudo boxes become (WSFL 3.3.2)."""

from pydantic import Field

from wsol_core.core.params import Block


class PseudoMaskParams(Block):
    """How pseudo masks are made."""

    resolution: int = Field(default=14, gt=0)
    """side of the square masks, in cells"""
