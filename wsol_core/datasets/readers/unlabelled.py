"""A folder of pictures without labels, in any order, such as BC-CT's background images. No ground truth."""

from pathlib import Path

from wsol_core.data.images import is_image_file
from wsol_core.data.index import TRAIN_WEAKSUP
from wsol_core.data.paths import walk
from wsol_core.datasets.listing import NO_IMAGE, DataParams, Listing, Problem, annotated, listed, nothing_found


def read(root: Path, params: DataParams) -> Listing:
    """List all images in the root and its subfolders, all in `train-weaksup`. There are no classes.

    The image id is the path, suffix and all, since names may come from anywhere. What is no image by name and by its
    first bytes is listed as such.

    Raises:
        InputError: there is no image.
    """
    found = sorted(walk(root, follow_links=params.follow_links))
    paths = [path for path in found if is_image_file(root / path)]
    if not paths:
        raise nothing_found(root, params, f"no image in {root}; put pictures there")
    others = sorted(set(found) - set(paths))
    problems = tuple(Problem(path, path, NO_IMAGE) for path in others)
    return Listing((), listed([(path, path, TRAIN_WEAKSUP, []) for path in paths]), annotated([]), problems=problems)
