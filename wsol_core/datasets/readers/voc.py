"""PASCAL VOC: `JPEGImages`, `Annotations`, `ImageSets`, and if wanted `SegmentationClass` and `SegmentationObject`.

Folders of XML files without `ImageSets` too, as labelImg and Roboflow write them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_text
from wsol_core.data.images import is_image_file
from wsol_core.data.index import SPLITS, TEST, TRAIN_WEAKSUP
from wsol_core.data.paths import below, has_file, image_id, walk
from wsol_core.datasets.listing import (
    VOID,
    DataParams,
    InstanceMask,
    Listing,
    Problem,
    annotated,
    listed,
    splits_of,
)
from wsol_core.datasets.readers.listed_pictures import Named, picture_ids
from wsol_core.datasets.readers.voc_masks import read_instances
from wsol_core.datasets.readers.xml_objects import UNREADABLE_XML, Objects, read_objects

CLASS_FILE = re.compile(r"(.+)_(trainval|train|val|test)\.txt")
PICTURE = re.compile(r"^/?JPEGImages/(.+)\.jpg$")
FOLDER = "JPEGImages"
PICTURE_FOLDERS = (FOLDER, "images")
"""What stands for `Annotations` in the path of a picture."""
ANNOTATION_FOLDER = re.compile(r"(^|.*/)annotations(?=/|$)", re.IGNORECASE)
PICTURE_FOLDER = re.compile(r"(^|/)(?:JPEGImages|images)/")


class _Image(NamedTuple):
    """An image, its split and paths; `described` is None without a readable annotation."""

    name: str
    split: str
    picture: str
    annotated: bool
    described: Objects | None


def read(root: Path, params: DataParams) -> Listing:
    """List `root` (`VOC2007`, `VOC2012`), or a folder of XML files in the same form.

    The splits are the lists of `params.splits`, such as `ImageSets/Segmentation/trainaug.txt`. A line begins with an
    image's name or, as in some copies of that list, with the path of its picture; images of no list are left aside.

    Without `splits` those of `ImageSets/Main` count: `test` is the test split where `test.txt` exists, and then
    `trainval` (or `train` and `val`) is `train-weaksup`; without it `val` is the test split and `train` is
    `train-weaksup`. Lists named after the splits, as `wsol export` writes them, are these.

    Without lists every XML file below the root describes an image, in folders of splits (`train/`, `valid/`, `test/`)
    or else for training. The picture lies beside it (labelImg, Roboflow), or in `JPEGImages/` or `images/` beside
    `Annotations/`; the id is the picture's path without these folders and without suffix.

    A picture has the name of its XML file and any suffix; among several, or where there is none, `<filename>` counts.
    An image's labels are the classes with an object in it, difficult ones included; where an image has no XML file, the
    classes that `CLASS_SPLIT.txt` gives 1 or 0 (difficult). An object's instance is its place in the XML file, counted
    from 1; for masks see `voc_masks`.

    Raises:
        InputError: there is no image set and no XML file, or a list of `splits` is missing.
    """
    sets = {path.stem: path for path in sorted((root / "ImageSets" / "Main").glob("*.txt"))}
    names = _listed_names(root, params) if params.splits else _usual_names(sets)
    if names:
        found = _of_lists(root, names, params.follow_links)
    else:
        found = [] if sets else _of_files(root, params.follow_links)
    if not found:
        raise InputError(
            f"{params.name}: no ImageSets/Main/trainval.txt and no XML files without lists; "
            "the root is the folder that holds JPEGImages, or one with XML files beside their pictures"
        )
    by_list = _class_lists(list(sets.values()))
    labels = [set(image.described.names) if image.described else by_list[image.name] for image in found]
    classes = tuple(sorted(set.union(*labels, *by_list.values())))
    position = {name: place for place, name in enumerate(classes)}
    images, annotations, problems, sizes = [], [], [], {}
    for image, own in zip(found, labels, strict=True):
        images.append((image.name, image.picture, image.split, sorted(position[label] for label in own)))
        if image.described is None:
            problems += [Problem(image.name, image.picture, UNREADABLE_XML)] if image.annotated else []
            continue
        for place, (label, box, difficult) in enumerate(image.described.rows(), start=1):
            annotations.append((image.name, position[label], *box, difficult, place if place < VOID else 0))
        if image.described.size:
            sizes[image.name] = image.described.size
    objects = {image.name: image.described for image in found if image.described}
    folders = () if params.splits else (FOLDER,) if names else _folders(image.picture for image in found)
    masks = partial(_mask, root, objects)
    return Listing(classes, listed(images), annotated(annotations), folders, masks, tuple(problems), sizes=sizes)


def _of_lists(root: Path, names: list[tuple[str, str]], follow_links: bool) -> list[_Image]:
    xmls = {name: f"Annotations/{name}.xml" for name, _ in names}
    there = {name for name, xml in xmls.items() if has_file(root, xml, follow_links)}
    described = {name: read_objects(root / xmls[name]) if name in there else None for name in xmls}
    pictures = {name: below(FOLDER, f"{name}.jpg") for name in xmls}
    missing = [name for name, path in pictures.items() if not has_file(root, path, follow_links)]
    if missing and (root / FOLDER).is_dir():
        images = _images(root, walk(root, FOLDER, follow_links))
        pictures |= {name: _picture(images, FOLDER, name, described[name]) or pictures[name] for name in missing}
    return [_Image(name, split, pictures[name], name in there, described[name]) for name, split in names]


def _of_files(root: Path, follow_links: bool) -> list[_Image]:
    """The images of all XML files below the root."""
    files = sorted(walk(root, follow_links=follow_links))
    xmls = [
        PurePosixPath(path) for path in files if path.lower().endswith(".xml") and has_file(root, path, follow_links)
    ]
    splits = splits_of({part for xml in xmls for part in xml.parent.parts})
    images = _images(root, files)
    found, pictures = [], []
    for xml in xmls:
        described = read_objects(root / xml)
        split = next((splits[part] for part in xml.parent.parts if part in splits), TRAIN_WEAKSUP)
        own = str(xml.parent) if xml.parent.parts else ""
        folders = (own, *(ANNOTATION_FOLDER.sub(rf"\g<1>{name}", own) for name in PICTURE_FOLDERS))
        held = (_picture(images, folder, xml.stem, described) for folder in folders)
        picture = next(filter(None, held), below(folders[1], f"{xml.stem}.jpg"))
        pictures.append(Named(PICTURE_FOLDER.sub(r"\1", picture, count=1), picture))
        found.append(_Image("", split, picture, True, described))
    return [image._replace(name=name) for image, name in zip(found, picture_ids(pictures), strict=True)]


def _images(root: Path, paths: Iterable[str]) -> dict[str, list[str]]:
    """Image files, sorted, by their path without suffix."""
    images: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        if is_image_file(root / path):
            images[image_id(path)].append(path)
    return images


def _picture(images: dict[str, list[str]], folder: str, name: str, described: Objects | None) -> str | None:
    """The picture in a folder that belongs to an XML file `name`."""
    own = images.get(below(folder, name), [])
    said = below(folder, described.picture) if described else ""
    if said in own or (not own and said in images.get(image_id(said), [])):
        return said
    return own[0] if own else None


def _folders(pictures: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({picture.rpartition("/")[0] for picture in pictures}))


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
    lists = [(read_text(sets[name]).splitlines(), split) for name, split in splits.items()]
    return [(line.strip(), split) for lines, split in lists for line in lines if line.strip()]


def _splits(sets: dict[str, Path]) -> dict[str, str]:
    """Image set -> split."""
    if TRAIN_WEAKSUP in sets:
        return {name: name for name in SPLITS if name in sets}
    parts = {name for name in ("trainval", "train", "val", "test") if name in sets}
    if not parts & {"trainval", "train"}:
        return {}
    if "test" not in parts and {"train", "val"} <= parts:
        return {"train": TRAIN_WEAKSUP, "val": TEST}
    train = ["trainval"] if "trainval" in parts else sorted(parts - {"test"})
    return dict.fromkeys(train, TRAIN_WEAKSUP) | ({"test": TEST} if "test" in parts else {})


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
