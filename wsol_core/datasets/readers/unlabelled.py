"""A folder of pictures without labels, in any order, such as BC-CT's background images. No ground truth."""

from pathlib import Path

from wsol_core.core.errors import InputError
from wsol_core.data.images import SUFFIXES
from wsol_core.data.index import TRAIN_WEAKSUP
from wsol_core.data.paths import is_inside, walk
from wsol_core.datasets.listing import DataParams, Listing, annotated, listed


def read(root: Path, params: DataParams) -> Listing:
    """List all images in the root and its subfolders, all in `train-weaksup`. There are no classes.

    The image id is the path, suffix and all, since names may come from anywhere. Files that are no images by name are
    not looked at, nor are links that lead out of the root.

    Raises:
        InputError: there is no image.
    """
    paths = [path for path in sorted(walk(root)) if Path(path).suffix.lower() in SUFFIXES and is_inside(root, path)]
    if not paths:
        raise InputError(f"{params.name}: no image in {root}; put pictures there")
    return Listing((), listed([(path, path, TRAIN_WEAKSUP, []) for path in paths]), annotated([]), folders=())
