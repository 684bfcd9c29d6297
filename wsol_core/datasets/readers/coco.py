"""COCO JSON: one file per split, images beside them or in a folder."""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from wsol_core.core.boxes import from_xywh
from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_json
from wsol_core.data.index import TEST, TRAIN_FULLSUP, TRAIN_WEAKSUP
from wsol_core.data.paths import below, has_file, image_ids
from wsol_core.datasets.listing import DUPLICATE, DataParams, InstanceMask, Listing, Problem, annotated, listed
from wsol_core.datasets.readers.coco_masks import MAX_INSTANCES, instance_mask

USUAL_FILES: tuple[dict[str, str], ...] = (
    {split: f"{split}.json" for split in (TRAIN_WEAKSUP, TRAIN_FULLSUP, TEST)},
    {TRAIN_WEAKSUP: "train.json", TEST: "val.json"},
    {TRAIN_WEAKSUP: "train.json", TRAIN_FULLSUP: "val.json", TEST: "test.json"},
    {TRAIN_WEAKSUP: "annotations/instances_train2017.json", TEST: "annotations/instances_val2017.json"},
    {TRAIN_WEAKSUP: "annotations/instances_train2014.json", TEST: "annotations/instances_val2014.json"},
)

Shape = tuple[int, int]
NO_BOX = (float("nan"),) * 4


@dataclass
class _Collected:
    images: list[tuple[str, str, str, list[int]]] = field(default_factory=list)
    annotations: list[tuple[str, int, float, float, float, float, bool, int]] = field(default_factory=list)
    segmentations: dict[str, tuple[Shape, list[Any]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)


def read(root: Path, params: DataParams) -> Listing:
    """Read the files of `params.splits`, or those with a usual name (`USUAL_FILES`: most files found wins).

    `file_name` counts from the root, from `images/`, or from the folder after which the JSON file is named
    (`instances_train2017`: `train2017/`). The image id is `file_name` without suffix, or with it where two would have
    one id. Labels are the categories of the image's annotations, in order of their ids; an annotation without `bbox` is
    a label alone; a crowd is difficult; a `bbox` that is not four numbers is a bad box. Masks: polygons and run
    lengths, packed or not; instances beyond 254 have none.

    Raises:
        InputError: no file was found, or one is not COCO JSON.
    """
    files = params.splits or _usual(root, params.name)
    contents = {split: _load(root, name, params.follow_links) for split, name in files.items()}
    classes = _classes(contents, files)
    collected = _Collected()
    for split, content in contents.items():
        try:
            folder = _folder(root, files[split], content, params.follow_links)
            _collect(collected, content, split, folder, classes)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"{files[split]}: not COCO JSON ({type(error).__name__}: {error})") from error
    folders = sorted({path.split("/")[0] if "/" in path else "" for _, path, _, _ in collected.images})
    masks = partial(_mask, collected.segmentations)
    images, annotations = listed(collected.images), annotated(collected.annotations)
    return Listing(
        classes, images, annotations, tuple(folders), masks, tuple(collected.problems), sizes=collected.sizes
    )


def _usual(root: Path, name: str) -> dict[str, str]:
    found = [{split: file for split, file in usual.items() if (root / file).is_file()} for usual in USUAL_FILES]
    trainable = [files for files in found if TRAIN_WEAKSUP in files]
    if not trainable:
        raise InputError(f"{name}: no {TRAIN_WEAKSUP}.json, train.json or annotations/instances_*.json; set `splits`")
    return max(trainable, key=len)


def _load(root: Path, name: str, follow_links: bool) -> dict[str, Any]:
    if not has_file(root, name, follow_links):
        raise InputError(f"{name}: no such file inside the data set's root")
    content = read_json(root / name, name)
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
        raise InputError(f"{name}: not COCO JSON (needs images, annotations and categories)")
    return content


def _classes(contents: dict[str, dict[str, Any]], files: dict[str, str]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for split, content in contents.items():
        try:
            names |= dict.fromkeys(c["name"] for c in sorted(content["categories"], key=lambda c: int(c["id"])))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{files[split]}: a category without id or name") from error
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise InputError(f"{', '.join(files.values())}: {wrong[0]!r} is no name of a category")
    return tuple(names)


def _folder(root: Path, file: str, content: dict[str, Any], follow_links: bool) -> str:
    """Where `file_name` counts from: the first folder that holds one of the first images."""
    candidates = ("", "images", Path(file).stem.removeprefix("instances_"))
    names = [image["file_name"] for image in content["images"][:100]]
    for folder in candidates:
        paths = (below(folder, name) for name in names)
        if any(has_file(root, path, follow_links) for path in paths):
            return folder
    return "images" if (root / "images").is_dir() else ""


def _collect(collected: _Collected, content: dict[str, Any], split: str, folder: str, classes: tuple[str, ...]) -> None:
    position = {c["id"]: classes.index(c["name"]) for c in content["categories"]}
    objects: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in objects:
            raise ValueError(f"an annotation of image {annotation['image_id']}, which is not listed")
        objects[annotation["image_id"]].append(annotation)
    uses = Counter(image["id"] for image in content["images"])
    ids = image_ids([image["file_name"].removeprefix("images/") for image in content["images"]])
    for image, name in zip(content["images"], ids, strict=True):
        shown, path = objects[image["id"]], below(folder, image["file_name"])
        labels = sorted({position.get(annotation["category_id"], -1) for annotation in shown})
        collected.images.append((name, path, split, labels))
        if uses[image["id"]] > 1:
            collected.problems.append(Problem(name, path, DUPLICATE))
        masked = [annotation for annotation in shown if annotation.get("segmentation")][:MAX_INSTANCES]
        instances = {id(annotation): number for number, annotation in enumerate(masked, start=1)}
        for annotation in shown:
            if "bbox" in annotation:
                label, instance = position.get(annotation["category_id"], -1), instances.get(id(annotation), 0)
                box = from_xywh([four_numbers(annotation["bbox"])])[0]
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
