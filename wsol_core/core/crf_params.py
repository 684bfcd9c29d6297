"""Parameters of the dense CRF, which SEC's loss and the refinement of maps share."""

from pydantic import Field

from wsol_core.core.params import Block

FLOOR = 1e-4
"""Least probability of a label, as in SEC."""


class CRFParams(Block):
    """The dense CRF; weights and deviations are SEC's, for its images of 321 pixels."""

    iterations: int = Field(default=10, ge=0)
    """of the mean field"""
    appearance_weight: float = Field(default=10.0, ge=0)
    """of neighbours alike in place and colour"""
    appearance_pixels: float = Field(default=80.0, gt=0)
    """their standard deviation in place"""
    appearance_levels: float = Field(default=13.0, gt=0)
    """their standard deviation in colour, of 256 levels"""
    smoothness_weight: float = Field(default=3.0, ge=0)
    """of neighbours in place"""
    smoothness_pixels: float = Field(default=3.0, gt=0)
    """their standard deviation"""
