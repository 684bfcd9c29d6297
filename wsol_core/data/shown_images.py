"""The few images whose inner maps (branches, parts) are kept, for the eye."""

from dataclasses import replace

import numpy as np

from wsol_core.data.index import TEST, ImageIndex

SHOWN = 64
"""How many, at the most."""


def shown_images(index: ImageIndex) -> ImageIndex:
    """Up to `SHOWN` images, evenly over the test split, or over all images where it is empty."""
    test = index.split(TEST)
    table = index.table if test.empty else test
    chosen = np.linspace(0, len(table) - 1, min(SHOWN, len(table))).astype(int)
    return replace(index, table=table.iloc[chosen].reset_index(drop=True))
