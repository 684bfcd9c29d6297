"""Figures as they stand in the JSON files of results."""

import math
from typing import Any

DIGITS = 6


def rounded(value: Any) -> Any:
    """Every float in nested dictionaries and lists rounded, so that last bits make no difference; NaN becomes None."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, DIGITS)
    return value
