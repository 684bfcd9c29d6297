"""PASCAL VOC: `JPEGImages`, `Annotations`, `ImageSets`, and if wanted `SegmentationClass` and `SegmentationObject`."""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

from wsol_core.core.errors import InputError
from wsol_core.data.index import TEST, TRAIN_WEAKSUP
from wsol_core.data.paths import below, is_inside
from wsol_core.datasets.listing import VOID, DataParams, InstanceMask, Listing, Problem, annotated, listed
from wsol_core.datasets.readers.voc_masks import read_instances
from wsol_core.datasets.readers.xml_objects import UNREADABLE_XML, Objects, read_objects

CLASS_FILE = re.compile(r"(.+)_(trainval|train|val|test)\.txt")
PICTURE = re.compile(r"^/?JPEGImages/(.+)\.jpg$")


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
    names = _listed_names(root, params.splits) if params.splits else _usual_names(sets)
    if not names:
        raise InputError(f"{params.name}: no ImageSets/Main/trainval.txt; the root is the folder that holds JPEGImages")
    objects, problems = _objects(root, sorted({name for name, _ in names}))
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
        images.append((name, below("JPEGImages", f"{name}.jpg"), split, sorted(position[label] for label in labels)))
    for name, described in objects.items():
        for place, (label, box, difficult) in enumerate(zip(*described, strict=True), start=1):
            annotations.append((name, position[label], *box, difficult, place if place < VOID else 0))
    folders = () if params.splits else ("JPEGImages",)
    masks = partial(_mask, root, objects)
    return Listing(classes, listed(images), annotated(annotations), folders, masks, tuple(problems))


def _listed_names(root: Path, splits: dict[str, str]) -> list[tuple[str, str]]:
    """Image and split, from the lists of the splits."""
    names = []
    for split, path in splits.items():
        if not is_inside(root, path) or not (root / path).is_file():
            raise InputError(f"{path}: no such list of images in the data set's root; see `splits`")
        words = [line.split()[0] for line in (root / path).read_text(encoding="utf-8").splitlines() if line.strip()]
        names += [(PICTURE.sub(r"\1", word), split) for word in words]
    return names


def _usual_names(sets: dict[str, Path]) -> list[tuple[str, str]]:
    """Image and split, from the sets that every release has."""
    splits = _splits(sets)
    return [(name, split) for set_name, split in splits.items() for name in sets[set_name].read_text().split()]


def _splits(sets: dict[str, Path]) -> dict[str, str]:
    """Image set -> split."""
    parts = {name for name in ("trainval", "train", "val", "test") if name in sets}
    if not parts & {"trainval", "train"}:
        return {}
    if "test" not in parts and {"train", "val"} <= parts:
        return {"train": TRAIN_WEAKSUP, "val": TEST}
    train = ["trainval"] if "trainval" in parts else sorted(parts - {"test"})
    return dict.fromkeys(train, TRAIN_WEAKSUP) | ({"test": TEST} if "test" in parts else {})


def _objects(root: Path, names: list[str]) -> tuple[dict[str, Objects], list[Problem]]:
    objects, problems = {}, []
    for name in names:
        path = f"Annotations/{name}.xml"
        if not is_inside(root, path) or not (root / path).is_file():
            continue
        described = read_objects(root / path)
        if described is None:
            problems.append(Problem(name, below("JPEGImages", f"{name}.jpg"), UNREADABLE_XML))
        else:
            objects[name] = described
    return objects, problems


def _class_lists(paths: list[Path]) -> defaultdict[str, set[str]]:
    """Image -> classes, from the files `CLASS_SPLIT.txt`."""
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for path in paths:
        if match := CLASS_FILE.fullmatch(path.name):
            lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
            for words in lines:
                if len(words) == 2 and words[1] in ("0", "1"):
                    classes[words[0]].add(match[1])
    return classes


def _mask(root: Path, objects: dict[str, Objects], name: str) -> InstanceMask | None:
    return read_instances(root, name, objects[name])
