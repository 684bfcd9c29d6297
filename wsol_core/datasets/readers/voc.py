"""PASCAL VOC: `JPEGImages`, `Annotations`, `ImageSets`, and if wanted `SegmentationClass` and `SegmentationObject`."""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_text
from wsol_core.data.images import is_image_file
from wsol_core.data.index import TEST, TRAIN_WEAKSUP
from wsol_core.data.paths import below, has_file, image_id, walk
from wsol_core.datasets.listing import VOID, DataParams, InstanceMask, Listing, Problem, annotated, listed
from wsol_core.datasets.readers.voc_masks import read_instances
from wsol_core.datasets.readers.xml_objects import UNREADABLE_XML, Objects, read_objects

CLASS_FILE = re.compile(r"(.+)_(trainval|train|val|test)\.txt")
PICTURE = re.compile(r"^/?JPEGImages/(.+)\.jpg$")
FOLDER = "JPEGImages"


def read(root: Path, params: DataParams) -> Listing:
    """List `root` (`VOC2007`, `VOC2012`).

    The splits are the lists of `params.splits`, such as `ImageSets/Segmentation/trainaug.txt`. A line begins with an
    image's name or, as in some copies of that list, with the path of its picture; images of no list are left aside.

    Without `splits` those of `ImageSets/Main` count: `test` is the test split where `test.txt` exists, and then
    `trainval` (or `train` and `val`) is `train-weaksup`; without it `val` is the test split and `train` is
    `train-weaksup`. An image's labels are the classes with an object in it, difficult ones included; where an image has
    no XML file, the classes that `CLASS_SPLIT.txt` gives 1 or 0 (difficult). An object's instance is its place in the
    XML file, counted from 1; for masks see `voc_masks`.

    Raises:
        InputError: there is no image set, or a list of `splits` is missing.
    """
    sets = {path.stem: path for path in sorted((root / "ImageSets" / "Main").glob("*.txt"))}
    names = _listed_names(root, params) if params.splits else _usual_names(sets)
    if not names:
        raise InputError(f"{params.name}: no ImageSets/Main/trainval.txt; the root is the folder that holds JPEGImages")
    pictures = _pictures(root, sorted({name for name, _ in names}), params.follow_links)
    objects, problems = _objects(root, pictures, params.follow_links)
    by_list = _class_lists(list(sets.values()))
    found = {label for described in objects.values() for label in described.names} | {
        label for labels in by_list.values() for label in labels
    }
    classes = tuple(sorted(found))
    position = {name: place for place, name in enumerate(classes)}
    images, annotations = [], []
    for name, split in names:
        described = objects.get(name)
        labels = set(described.names) if described else by_list[name]
        images.append((name, pictures[name], split, sorted(position[label] for label in labels)))
    for name, described in objects.items():
        for place, (label, box, difficult) in enumerate(described.rows(), start=1):
            annotations.append((name, position[label], *box, difficult, place if place < VOID else 0))
    folders = () if params.splits else (FOLDER,)
    masks = partial(_mask, root, objects)
    sizes = {name: described.size for name, described in objects.items() if described.size}
    return Listing(classes, listed(images), annotated(annotations), folders, masks, tuple(problems), sizes=sizes)


def _listed_names(root: Path, params: DataParams) -> list[tuple[str, str]]:
    """Image and split, from the lists of the splits."""
    names = []
    for split, path in (params.splits or {}).items():
        if not has_file(root, path, params.follow_links):
            raise InputError(f"{path}: no such list of images in the data set's root; see `splits`")
        words = [line.split()[0] for line in read_text(root / path, path).splitlines() if line.strip()]
        names += [(PICTURE.sub(r"\1", word), split) for word in words]
    return names


def _usual_names(sets: dict[str, Path]) -> list[tuple[str, str]]:
    """Image and split, from the sets that every release has."""
    splits = _splits(sets)
    return [(name, split) for set_name, split in splits.items() for name in read_text(sets[set_name]).split()]


def _splits(sets: dict[str, Path]) -> dict[str, str]:
    """Image set -> split."""
    parts = {name for name in ("trainval", "train", "val", "test") if name in sets}
    if not parts & {"trainval", "train"}:
        return {}
    if "test" not in parts and {"train", "val"} <= parts:
        return {"train": TRAIN_WEAKSUP, "val": TEST}
    train = ["trainval"] if "trainval" in parts else sorted(parts - {"test"})
    return dict.fromkeys(train, TRAIN_WEAKSUP) | ({"test": TEST} if "test" in parts else {})


def _pictures(root: Path, names: list[str], follow_links: bool) -> dict[str, str]:
    """The path of each image: `JPEGImages/NAME.jpg`, or where that is missing an image there of another suffix."""
    paths = {name: below(FOLDER, f"{name}.jpg") for name in names}
    missing = [name for name, path in paths.items() if not has_file(root, path, follow_links)]
    if missing and (root / FOLDER).is_dir():
        images = (path for path in sorted(walk(root, FOLDER, follow_links)) if is_image_file(root / path))
        others = {image_id(path): path for path in images}
        paths |= {name: others[below(FOLDER, name)] for name in missing if below(FOLDER, name) in others}
    return paths


def _objects(root: Path, pictures: dict[str, str], follow_links: bool) -> tuple[dict[str, Objects], list[Problem]]:
    objects, problems = {}, []
    for name, picture in pictures.items():
        path = f"Annotations/{name}.xml"
        if not has_file(root, path, follow_links):
            continue
        described = read_objects(root / path)
        if described is None:
            problems.append(Problem(name, picture, UNREADABLE_XML))
        else:
            objects[name] = described
    return objects, problems


def _class_lists(paths: list[Path]) -> defaultdict[str, set[str]]:
    """Image -> classes, from the files `CLASS_SPLIT.txt`."""
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for path in paths:
        if match := CLASS_FILE.fullmatch(path.name):
            lines = (line.split() for line in read_text(path).splitlines())
            for words in lines:
                if len(words) == 2 and words[1] in ("0", "1"):
                    classes[words[0]].add(match[1])
    return classes


def _mask(root: Path, objects: dict[str, Objects], name: str) -> InstanceMask | None:
    return read_instances(root, name, objects[name])
