"""YOLO: a text file of shares per image, `data.yaml` or a list of names; as ultralytics, Roboflow, CVAT write it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from wsol_core.core.boxes import BOX_COLUMNS, from_centre
from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_text, read_yaml
from wsol_core.data.images import is_image_file
from wsol_core.data.index import SPLITS, TEST, TRAIN_FULLSUP, TRAIN_WEAKSUP
from wsol_core.data.paths import has_file, image_id, is_file, is_folder, is_inside, walk
from wsol_core.datasets.listing import (
    NO_SUCH_FOLDER,
    SPLIT_NAMES,
    DataParams,
    InstanceMask,
    Listing,
    Problem,
    annotated,
    listed,
    splits_of,
)
from wsol_core.datasets.readers.coco_masks import MAX_INSTANCES, instance_mask
from wsol_core.datasets.readers.listed_pictures import Named, picture_ids
from wsol_core.datasets.scan import scan

DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "*.yaml", "*.yml")
NAME_LISTS = ("classes.txt", "labels/classes.txt", "obj.names", "*.names")
UNREADABLE_LABELS = "unreadable labels"

Shape = tuple[int, int]
Object = tuple[int, list[float]]
"""A class and what follows it on a line: `x y width height`, or a polygon `x y x y ...`, shares of the image."""


def read(root: Path, params: DataParams) -> Listing:
    """List the images of `data.yaml`'s splits, or of a root with `classes.txt` or `obj.names`.

    `train`, `val` and `test` are folders of images, lists of them, or text files that name images; `val` is the test
    split where there is no `test`. An image of several counts for training, else for the test. A path counts from
    `path`, or from the root; where there is nothing, its leading folders go one by one, since many a description was
    written elsewhere (`../train/images`, `/content/set/train`). Without splits the folders `train`, `val` (`valid`) and
    `test` of the images' paths say them, else all is for training.

    The labels of `.../images/NAME.jpg` stand in `.../labels/NAME.txt`, or beside the image. A line is a class, counted
    from 0, and a box, to which a score may be added, or a polygon of three corners or more, whose box is its bounds and
    which becomes a mask; with `kpt_shape` keypoints follow the box. An image without such a file shows nothing.

    Shares are of the image as displayed, so that images are looked at here already (see `scan`). The id is the path
    without the folders `images` and without suffix.

    Raises:
        InputError: there is no description and no list of names, or it is malformed; or there is no image.
    """
    description = _description(root, params.name)
    classes = _classes(root, description)
    paths, problems = _split_images(root, description, params)
    if not paths:
        missing = ", ".join(repr(problem.path) for problem in problems)
        why = f"data.yaml names what is not there: {missing}" if missing else "put the pictures into images/"
        raise InputError(f"{params.name}: no image in the data set's root; {why}")
    pictures = [Named(_without_images(path), path) for path in paths]
    names = dict(zip(paths, picture_ids(pictures), strict=True))
    inside = [path for path in paths if has_file(root, path, params.follow_links)]
    looks = scan(root, inside, params.max_pixels)
    sizes = dict(zip(looks["path"], zip(looks["width"], looks["height"], strict=True), strict=True))
    images, annotations = list[Any](), list[Any]()
    polygons: dict[str, tuple[Shape, list[list[float]]]] = {}
    for path, split in paths.items():
        name, (width, height) = names[path], sizes.get(path, (0, 0))
        objects = _objects(root, path, "kpt_shape" in description, params.follow_links)
        if objects is None:
            problems.append(Problem(name, path, UNREADABLE_LABELS))
            objects = []
        labels = [label if label < len(classes) else -1 for label, _ in objects]
        images.append((name, path, split, sorted(set(labels))))
        if not width:
            continue
        drawn = [place for place, (_, numbers) in enumerate(objects) if len(numbers) > 4][:MAX_INSTANCES]
        instances = {place: number for number, place in enumerate(drawn, start=1)}
        for place, (label, (_, numbers)) in enumerate(zip(labels, objects, strict=True)):
            annotations.append((name, label, *_box(numbers, width, height), False, instances.get(place, 0)))
        if drawn:
            outlines = [(np.reshape(objects[place][1], (-1, 2)) * [width, height]).ravel().tolist() for place in drawn]
            polygons[name] = ((height, width), outlines)
    folders = tuple(sorted({path.rpartition("/")[0] for path in paths}))
    masks = partial(_mask, polygons)
    return Listing(classes, listed(images), annotated(annotations), folders, masks, tuple(problems))


def _description(root: Path, name: str) -> dict[str, Any]:
    """What the description says; nothing where there is none but a list of names."""
    found = [path for pattern in DESCRIPTIONS for path in sorted(root.glob(pattern))]
    if not found:
        if any(next(root.glob(pattern), None) for pattern in NAME_LISTS):
            return {}
        raise InputError(f"{name}: no data.yaml, classes.txt or obj.names at the root; the classes' names stand there")
    content = read_yaml(found[0])
    if not isinstance(content, dict) or "names" not in content:
        raise InputError(f"{found[0].name}: not a YOLO description (needs names, and train, val and test)")
    return content


def _classes(root: Path, description: dict[str, Any]) -> tuple[str, ...]:
    if not description:
        path = next(path for pattern in NAME_LISTS for path in root.glob(pattern))
        return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    names = description["names"]
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or len(set(map(str, names))) < len(names):
        raise InputError("data.yaml: names must be a list, or name the classes 0, 1, 2, ..., each once")
    return tuple(map(str, names))


def _split_images(root: Path, description: dict[str, Any], params: DataParams) -> tuple[dict[str, str], list[Problem]]:
    """Path -> split, in the order of the splits; and what the description names that is not there."""
    splits = splits_of(key for key in description if isinstance(key, str) and description[key])
    if not splits:
        return _by_folder(root, params), []
    images: dict[str, str] = {}
    problems = []
    for key, split in sorted(splits.items(), key=lambda pair: (TRAIN_WEAKSUP, TEST, TRAIN_FULLSUP).index(pair[1])):
        given = description[key]
        for place in map(str, given if isinstance(given, list) else [given]):
            found = _inside(root, f"{description.get('path') or ''}/{place}", params.follow_links)
            if found is None:
                problems.append(Problem(place, place, NO_SUCH_FOLDER))
            else:
                images = dict.fromkeys(_images_at(root, found, params), split) | images
    return dict(sorted(images.items(), key=_by_split)), problems


def _by_folder(root: Path, params: DataParams) -> dict[str, str]:
    paths = [path for path in walk(root, "", params.follow_links) if is_image_file(root / path)]
    splits = splits_of({part for path in paths for part in path.split("/")[:-1]})
    own = {path: next((splits[part] for part in path.split("/") if part in splits), TRAIN_WEAKSUP) for path in paths}
    return dict(sorted(own.items(), key=_by_split))


def _by_split(pair: tuple[str, str]) -> tuple[int, str]:
    return SPLITS.index(pair[1]), pair[0]


def _images_at(root: Path, place: str, params: DataParams) -> list[str]:
    """The images of a folder, or those that a list names."""
    if is_folder(root / place):
        return [path for path in walk(root, place, params.follow_links) if is_image_file(root / path)]
    lines = [line.strip() for line in read_text(root / place, place).splitlines() if line.strip()]
    folder = str(PurePosixPath(place).parent)
    return [_inside(root, f"{folder}/{line}", params.follow_links) or line for line in lines]


def _inside(root: Path, place: str, follow_links: bool) -> str | None:
    """The path from the root of a file or folder that a description names; None where there is none.

    Leading folders go one by one, up to one that names a split.
    """
    parts = [part for part in place.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    last = next((start for start, part in enumerate(parts) if part.lower() in SPLIT_NAMES), len(parts) - 1)
    tails = ("/".join(parts[start:]) for start in range(last + 1))
    inside = (tail for tail in tails if is_inside(root, tail, follow_links))
    return next((tail for tail in inside if is_file(root / tail) or is_folder(root / tail)), None)


def _without_images(path: str) -> str:
    return "/".join(part for part in path.split("/") if part != "images")


def _objects(root: Path, path: str, keypoints: bool, follow_links: bool) -> list[Object] | None:
    """The objects of an image; None where its file is unreadable or a line is malformed."""
    beside = f"{image_id(path)}.txt"
    before, images, after = f"/{beside}".rpartition("/images/")
    apart = f"{before}/labels/{after}".lstrip("/") if images else beside
    found = next((place for place in (apart, beside) if has_file(root, place, follow_links)), None)
    if found is None:
        return []
    try:
        lines = [line.split() for line in read_text(root / found).splitlines()]
        return [_object([float(word) for word in words], keypoints) for words in lines if words]
    except (InputError, ValueError, OverflowError):
        return None


def _object(numbers: Sequence[float], keypoints: bool) -> Object:
    label, rest = int(numbers[0]), list(numbers[1:])
    if label != numbers[0] or label < 0:
        raise ValueError("a class is a whole number from 0")
    if len(rest) in (4, 5) or (keypoints and len(rest) > 4):
        return label, rest[:4]
    if len(rest) < 6 or len(rest) % 2:
        raise ValueError("neither a box nor a polygon")
    return label, rest


def _box(numbers: list[float], width: int, height: int) -> list[float]:
    """Corners, pixels, of a box or of a polygon's bounds."""
    if len(numbers) == len(BOX_COLUMNS):
        box: list[float] = from_centre([numbers], [[width, height]])[0].tolist()
        return box
    x, y = np.reshape(numbers, (-1, 2)).T * [[width], [height]]
    return [float(x.min()), float(y.min()), float(x.max()), float(y.max())]


def _mask(polygons: dict[str, tuple[Shape, list[list[float]]]], name: str) -> InstanceMask | None:
    if name not in polygons:
        return None
    shape, outlines = polygons[name]
    return instance_mask(*shape, [[outline] for outline in outlines])
