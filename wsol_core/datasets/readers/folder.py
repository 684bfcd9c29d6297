"""A folder of one's own: a subfolder per class, if wanted below `train/` and `test/`. No ground truth."""

from pathlib import Path

from wsol_core.core.errors import InputError
from wsol_core.data.images import SUFFIXES
from wsol_core.data.index import TEST, TRAIN_FULLSUP, TRAIN_WEAKSUP
from wsol_core.data.paths import image_id, walk
from wsol_core.datasets.listing import DataParams, Listing, annotated, linked_folders, listed

SPLIT_FOLDERS = {
    "train": TRAIN_WEAKSUP,
    TRAIN_WEAKSUP: TRAIN_WEAKSUP,
    "val": TRAIN_FULLSUP,
    TRAIN_FULLSUP: TRAIN_FULLSUP,
    "test": TEST,
}


def read(root: Path, params: DataParams) -> Listing:
    """List `root/CLASS/**/IMAGE`, or `root/{train,val,test}/CLASS/**/IMAGE` where there is a `root/train`.

    `val` becomes `train-fullsup`. The image id is the path without suffix. Files that are no images by name are not
    looked at; images that stand in no class's folder are reported as unlisted.

    Raises:
        InputError: no class folder holds an image.
    """
    splits = {name: split for name, split in SPLIT_FOLDERS.items() if (root / name).is_dir()}
    if TRAIN_WEAKSUP not in splits.values():
        splits = {"": TRAIN_WEAKSUP}
    rows, problems = [], []
    for folder, split in splits.items():
        problems += linked_folders(root, folder)
        depth = 1 if folder else 0
        for path in sorted(walk(root, folder)):
            parts = path.split("/")
            if len(parts) > depth + 1 and Path(path).suffix.lower() in SUFFIXES:
                rows.append((path, split, parts[depth]))
    if not rows:
        raise InputError(f"{params.name}: no images; put them into a subfolder per class of the data set's root")
    classes = tuple(sorted({name for _, _, name in rows}))
    positions = {name: position for position, name in enumerate(classes)}
    images = [(image_id(path), path, split, [positions[name]]) for path, split, name in rows]
    return Listing(classes, listed(images), annotated([]), problems=tuple(problems))
