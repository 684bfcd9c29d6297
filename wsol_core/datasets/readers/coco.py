"""COCO JSON: one file per split or one in all, images beside it or in a folder."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from wsol_core.core.boxes import from_xywh
from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_json
from wsol_core.data.index import SPLITS, TRAIN_WEAKSUP
from wsol_core.data.paths import below, has_file
from wsol_core.datasets.listing import (
    DUPLICATE,
    NAMED,
    DataParams,
    InstanceMask,
    Listing,
    Problem,
    annotated,
    listed,
    splits_of,
)
from wsol_core.datasets.readers.coco_masks import MAX_INSTANCES, instance_mask
from wsol_core.datasets.readers.listed_pictures import Named, find_pictures, picture_ids

USUAL_FILES = (
    "{}.json", "annotations/instances_{}2017.json", "annotations/instances_{}2014.json",
    "annotations/instances_{}.json", "annotations/{}.json", "instances_{}.json", "{}/*.json",
)  # fmt: skip
"""Of a split's annotations, {} standing for the split's name: COCO, CVAT, FiftyOne, Roboflow."""
PICTURE_FOLDERS = ("{}", "images/{}", "{}/images", "{}/data", "", "images", "data", "JPEGImages")
"""Where the pictures of an annotation file may be, {} standing for what the file is named after."""

Shape = tuple[int, int]
NO_BOX = (float("nan"),) * 4
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


@dataclass
class _Collected:
    images: list[tuple[str, str, str, list[int]]] = field(default_factory=list)
    annotations: list[tuple[str, int, float, float, float, float, bool, int]] = field(default_factory=list)
    segmentations: dict[str, tuple[Shape, list[Any]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)


def read(root: Path, params: DataParams) -> Listing:
    """Read the files of `params.splits`, or those with a usual name (`USUAL_FILES`: most files found wins).

    Without a file for training the only JSON file at the root or in `annotations/` is it. `val` is the test split where
    there is no `test`. `file_name` counts from the annotation file's folder or one above it, or there from `images/`,
    `data/`, or the folder after which the file is named (`instances_train2017`: `train2017/`, `images/train2017/`).

    The image id is `file_name` without suffix, with it where two would have one id, with the folder where two splits
    have one name (see `listed_pictures`). Ids are numbers or text. Labels are the categories of the image's
    annotations, in order of their ids; an annotation without `bbox` is a label alone; a crowd is difficult; a `bbox`
    that is not four numbers is a bad box. Masks: polygons and run lengths, packed or not; instances beyond 254 have
    none.

    Raises:
        InputError: no file was found, or one is not COCO JSON.
    """
    files = params.splits or _usual(root, params.name)
    contents = {split: _load(root, name, params.follow_links) for split, name in files.items()}
    classes = _classes(contents, files)
    pictures = {split: _pictures(root, files[split], content, params) for split, content in contents.items()}
    ids = iter(picture_ids([picture for own in pictures.values() for picture in own]))
    collected = _Collected()
    for split, content in contents.items():
        try:
            _collect(collected, content, split, [(next(ids), picture.path) for picture in pictures[split]], classes)
        except _MALFORMED as error:
            raise _not_coco(files[split], error) from error
    folders = sorted({path.split("/")[0] if "/" in path else "" for _, path, _, _ in collected.images})
    masks = partial(_mask, collected.segmentations)
    images, annotations = listed(collected.images), annotated(collected.annotations)
    return Listing(
        classes, images, annotations, tuple(folders), masks, tuple(collected.problems), sizes=collected.sizes
    )


def _usual(root: Path, name: str) -> dict[str, str]:
    found = [_split_files(root, usual) for usual in USUAL_FILES]
    trainable = [files for files in found if TRAIN_WEAKSUP in files]
    if trainable:
        return max(trainable, key=len)
    others = [
        path.relative_to(root).as_posix() for folder in ("", "annotations/") for path in root.glob(f"{folder}*.json")
    ]
    if len(others) == 1 and not any(found):
        return {TRAIN_WEAKSUP: others[0]}
    there = f" (there are {', '.join(others[:NAMED])})" if others else ""
    raise InputError(
        f"{name}: no {TRAIN_WEAKSUP}.json, train.json, annotations/instances_train*.json or train/*.json, nor one JSON "
        f"file alone{there}; set `splits`"
    )


def _split_files(root: Path, usual: str) -> dict[str, str]:
    """Split -> file, of the files named in one usual way; none where a split has several."""
    pattern = re.compile(re.escape(usual).replace(r"\{\}", "([^/]+)").replace(r"\*", "[^/]+"))
    paths = sorted(path.relative_to(root).as_posix() for path in root.glob(usual.replace("{}", "*")))
    words = {path: match[1] for path in paths if (match := pattern.fullmatch(path))}
    splits = splits_of(words.values())
    found = [(splits[word], path) for path, word in words.items() if word in splits]
    files = dict(sorted(found, key=lambda pair: SPLITS.index(pair[0])))
    return files if len(files) == len(found) else {}


def _load(root: Path, name: str, follow_links: bool) -> dict[str, Any]:
    if not has_file(root, name, follow_links):
        raise InputError(f"{name}: no such file inside the data set's root")
    content = read_json(root / name, name)
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
        raise InputError(f"{name}: not COCO JSON (needs images, annotations and categories)")
    return content


def _not_coco(file: str, error: Exception) -> InputError:
    return InputError(f"{file}: not COCO JSON ({type(error).__name__}: {error})")


def _classes(contents: dict[str, dict[str, Any]], files: dict[str, str]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for split, content in contents.items():
        try:
            numbered = [(plain_id(c["id"]), c["name"]) for c in content["categories"]]
            ordered = sorted(numbered, key=lambda pair: (isinstance(pair[0], str), pair[0]))
            names |= dict.fromkeys(name for _, name in ordered)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{files[split]}: a category without id or name") from error
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise InputError(f"{', '.join(files.values())}: {wrong[0]!r} is no name of a category")
    return tuple(names)


def plain_id(value: Any) -> int | str:
    """An id as a number, also where it is written as text ("7") or with a point (7.0); other text as it stands.

    Raises:
        ValueError: it is neither a whole number nor text.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int | str):
        raise ValueError(f"an id that is neither a whole number nor text: {value!r}")
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _pictures(root: Path, file: str, content: dict[str, Any], params: DataParams) -> list[Named]:
    above = [folder.as_posix() for folder in PurePosixPath(file).parents]
    named_after = PurePosixPath(file).stem.removeprefix("instances_")
    folders = [below(each, folder.format(named_after)) for folder in PICTURE_FOLDERS for each in above]
    try:
        return find_pictures(root, [image["file_name"] for image in content["images"]], folders, params.follow_links)
    except _MALFORMED as error:
        raise _not_coco(file, error) from error


def _collect(
    collected: _Collected,
    content: dict[str, Any],
    split: str,
    pictures: Sequence[tuple[str, str]],
    classes: tuple[str, ...],
) -> None:
    """Add one split's images, each with its id and path in `pictures`."""
    position = {plain_id(c["id"]): classes.index(c["name"]) for c in content["categories"]}
    numbers = [plain_id(image["id"]) for image in content["images"]]
    objects: dict[int | str, list[tuple[int, dict[str, Any]]]] = {number: [] for number in numbers}
    for annotation in content["annotations"]:
        number = plain_id(annotation["image_id"])
        if number not in objects:
            raise ValueError(f"an annotation of image {number}, which is not listed")
        objects[number].append((position.get(plain_id(annotation["category_id"]), -1), annotation))
    uses = Counter(numbers)
    for number, image, (name, path) in zip(numbers, content["images"], pictures, strict=True):
        shown = objects[number]
        collected.images.append((name, path, split, sorted({label for label, _ in shown})))
        if uses[number] > 1:
            collected.problems.append(Problem(name, path, DUPLICATE))
        masked = [annotation for _, annotation in shown if annotation.get("segmentation")][:MAX_INSTANCES]
        instances = {id(annotation): place for place, annotation in enumerate(masked, start=1)}
        for label, annotation in shown:
            if "bbox" in annotation:
                box = from_xywh([four_numbers(annotation["bbox"])])[0]
                instance = instances.get(id(annotation), 0)
                collected.annotations.append((name, label, *box, bool(annotation.get("iscrowd", 0)), instance))
        if size := _size(image):
            collected.sizes[name] = size
        if masked:
            shape = (int(image["height"]), int(image["width"]))
            collected.segmentations[name] = (shape, [annotation["segmentation"] for annotation in masked])


def four_numbers(box: Any) -> tuple[float, ...]:
    """A `bbox` as four floats; four NaN where it is anything else."""
    try:
        numbers = tuple(float(number) for number in box)
    except (TypeError, ValueError, OverflowError):
        return NO_BOX
    return numbers if len(numbers) == 4 else NO_BOX


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height of an entry, where it gives them."""
    width, height = image.get("width"), image.get("height")
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    return None


def _mask(segmentations: dict[str, tuple[Shape, list[Any]]], name: str) -> InstanceMask | None:
    if name not in segmentations:
        return None
    shape, objects = segmentations[name]
    return instance_mask(*shape, objects)
