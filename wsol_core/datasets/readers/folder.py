"""A folder of one's own: a subfolder per class, if wanted below `train/` and `test/`. No ground truth."""

from pathlib import Path

from wsol_core.data.images import is_image_file
from wsol_core.data.index import SPLITS, TRAIN_WEAKSUP
from wsol_core.data.paths import image_ids, walk
from wsol_core.datasets.listing import (
    NO_IMAGE,
    SPLIT_NAMES,
    DataParams,
    Listing,
    Problem,
    annotated,
    listed,
    nothing_found,
)


def read(root: Path, params: DataParams) -> Listing:
    """List `root/CLASS/**/IMAGE`, or `root/{train,val,test}/CLASS/**/IMAGE` where there is a `root/train`.

    `val` (`valid`, `validation`) becomes `train-fullsup`. The image id is the path without suffix, or with it where two
    would have one id. What is no image by name and by its first bytes is listed as such; images in no class's folder
    are reported as unlisted.

    Raises:
        InputError: no class folder holds an image.
    """
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    splits = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    if TRAIN_WEAKSUP not in splits.values():
        splits = {"": TRAIN_WEAKSUP}
    rows, problems = [], []
    for folder, split in sorted(splits.items(), key=lambda pair: SPLITS.index(pair[1])):
        depth = 1 if folder else 0
        for path in sorted(walk(root, folder, params.follow_links)):
            parts = path.split("/")
            if len(parts) <= depth + 1:
                continue
            if is_image_file(root / path):
                rows.append((path, split, parts[depth]))
            else:
                problems.append(Problem(path, path, NO_IMAGE))
    if not rows:
        raise nothing_found(root, params, "no images; put them into a subfolder per class of the data set's root")
    classes = tuple(sorted({name for _, _, name in rows}))
    positions = {name: position for position, name in enumerate(classes)}
    ids = image_ids([path for path, _, _ in rows])
    images = [(own, path, split, [positions[name]]) for own, (path, split, name) in zip(ids, rows, strict=True)]
    return Listing(classes, listed(images), annotated([]), problems=tuple(problems))
