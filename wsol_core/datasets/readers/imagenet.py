"""ImageNet (ILSVRC localization): a train folder per synset, validation images and their XML boxes."""

from pathlib import Path
from typing import Any

from wsol_core.core.errors import InputError
from wsol_core.data.images import is_image_file
from wsol_core.data.index import TEST, TRAIN_WEAKSUP
from wsol_core.data.paths import has_file, image_id, walk
from wsol_core.datasets.listing import DataParams, Listing, Problem, annotated, listed
from wsol_core.datasets.readers.xml_objects import UNREADABLE_XML, read_objects

IMAGES = ("Data/CLS-LOC", "")
ANNOTATIONS = ("Annotations/CLS-LOC/val", "Annotations/val", "annotations/val")
NO_ANNOTATION = "no annotation"


def read(root: Path, params: DataParams) -> Listing:
    """List `train/SYNSET/IMAGE` and `val/IMAGE` (or `val/SYNSET/IMAGE`), below `Data/CLS-LOC` or the root itself.

    The validation images are the test split; their label is the first object's name in `Annotations/val/IMAGE.xml`
    (or `Annotations/CLS-LOC/val/`). The image id is the path below the images' folder without suffix.

    Raises:
        InputError: there is no train folder, or no folder of annotations beside a `val` folder.
    """
    prefix = next((folder for folder in IMAGES if (root / folder / "train").is_dir()), None)
    if prefix is None:
        raise InputError(f"{params.name}: no folder train, nor Data/CLS-LOC/train, in the data set's root")
    train_folder, val_folder = (f"{prefix}/{name}".lstrip("/") for name in ("train", "val"))
    depth = train_folder.count("/") + 2
    train = [path for path in _images(root, train_folder, params.follow_links) if path.count("/") >= depth]
    val = _images(root, val_folder, params.follow_links)
    synsets = sorted({path.split("/")[-2] for path in train})
    position = {name: place for place, name in enumerate(synsets)}
    below = len(prefix) + 1 if prefix else 0
    images = [(image_id(path[below:]), path, TRAIN_WEAKSUP, [position[path.split("/")[-2]]]) for path in train]
    annotations, problems = list[Any](), list[Problem]()
    sizes: dict[str, tuple[int, int]] = {}
    described = _annotation_folder(root, params.name) if val else ""
    for path in val:
        name, xml = image_id(path[below:]), f"{described}/{Path(path).stem}.xml"
        exists = has_file(root, xml, params.follow_links)
        objects = read_objects(root / xml) if exists else None
        if objects is None or not objects.names:
            problems.append(Problem(name, path, UNREADABLE_XML if exists else NO_ANNOTATION))
            images.append((name, path, TEST, []))
            continue
        images.append((name, path, TEST, [position.get(objects.names[0], -1)]))
        if objects.size:
            sizes[name] = objects.size
        for label, box, difficult in objects.rows():
            annotations.append((name, position.get(label, -1), *box, difficult, 0))
    folders = (train_folder, val_folder) if val else (train_folder,)
    return Listing(
        tuple(synsets), listed(images), annotated(annotations), folders, problems=tuple(problems), sizes=sizes
    )


def _images(root: Path, folder: str, follow_links: bool) -> list[str]:
    if not (root / folder).is_dir():
        return []
    return sorted(path for path in walk(root, folder, follow_links) if is_image_file(root / path))


def _annotation_folder(root: Path, name: str) -> str:
    folder = next((folder for folder in ANNOTATIONS if (root / folder).is_dir()), None)
    if folder is None:
        raise InputError(f"{name}: no folder Annotations/val, nor Annotations/CLS-LOC/val, in the data set's root")
    return folder
