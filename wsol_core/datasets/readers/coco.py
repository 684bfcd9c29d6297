"""COCO JSON: one file per split, images beside them or in a folder."""

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from wsol_core.core.boxes import from_xywh
from wsol_core.core.errors import InputError
from wsol_core.data.index import TEST, TRAIN_FULLSUP, TRAIN_WEAKSUP
from wsol_core.data.paths import below, image_id, is_inside
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


@dataclass
class _Collected:
    images: list[tuple[str, str, str, list[int]]] = field(default_factory=list)
    annotations: list[tuple[str, int, float, float, float, float, bool, int]] = field(default_factory=list)
    segmentations: dict[str, tuple[Shape, list[Any]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read(root: Path, params: DataParams) -> Listing:
    """Read the files of `params.splits`, or those with a usual name (`USUAL_FILES`: most files found wins).

    `file_name` counts from the root, from `images/`, or from the folder after which the JSON file is named
    (`instances_train2017`: `train2017/`). The image id is `file_name` without suffix. Labels are the categories of
    the image's annotations, in order of their ids; an annotation without `bbox` is a label alone; a crowd is
    difficult. Masks: polygons and run lengths, packed or not; instances beyond 254 have none.

    Raises:
        InputError: no file was found, or one is not COCO JSON.
    """
    files = params.splits or _usual(root, params.name)
    contents = {split: _load(root, name) for split, name in files.items()}
    classes = _classes(contents, files)
    collected = _Collected()
    for split, content in contents.items():
        try:
            _collect(collected, content, split, _folder(root, files[split], content), classes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{files[split]}: not COCO JSON ({type(error).__name__}: {error})") from error
    folders = sorted({path.split("/")[0] if "/" in path else "" for _, path, _, _ in collected.images})
    masks = partial(_mask, collected.segmentations)
    images, annotations = listed(collected.images), annotated(collected.annotations)
    return Listing(classes, images, annotations, tuple(folders), masks, tuple(collected.problems))


def _usual(root: Path, name: str) -> dict[str, str]:
    found = [{split: file for split, file in usual.items() if (root / file).is_file()} for usual in USUAL_FILES]
    trainable = [files for files in found if TRAIN_WEAKSUP in files]
    if not trainable:
        raise InputError(f"{name}: no {TRAIN_WEAKSUP}.json, train.json or annotations/instances_*.json; set `splits`")
    return max(trainable, key=len)


def _load(root: Path, name: str) -> dict[str, Any]:
    if not is_inside(root, name) or not (root / name).is_file():
        raise InputError(f"{name}: no such file inside the data set's root")
    try:
        content = json.loads((root / name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{name}: not JSON ({error})") from error
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
        raise InputError(f"{name}: not COCO JSON (needs images, annotations and categories)")
    return content


def _classes(contents: dict[str, dict[str, Any]], files: dict[str, str]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for split, content in contents.items():
        try:
            names |= dict.fromkeys(c["name"] for c in sorted(content["categories"], key=lambda c: int(c["id"])))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{files[split]}: a category without id or name") from error
    return tuple(names)


def _folder(root: Path, file: str, content: dict[str, Any]) -> str:
    """Where `file_name` counts from: the first folder that holds one of the first images."""
    candidates = ("", "images", Path(file).stem.removeprefix("instances_"))
    names = [image["file_name"] for image in content["images"][:100]]
    for folder in candidates:
        paths = (below(folder, name) for name in names)
        if any(is_inside(root, path) and (root / path).is_file() for path in paths):
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
    for image in content["images"]:
        name, shown = image_id(image["file_name"].removeprefix("images/")), objects[image["id"]]
        path = below(folder, image["file_name"])
        labels = sorted({position.get(annotation["category_id"], -1) for annotation in shown})
        collected.images.append((name, path, split, labels))
        if uses[image["id"]] > 1:
            collected.problems.append(Problem(name, path, DUPLICATE))
        masked = [annotation for annotation in shown if annotation.get("segmentation")][:MAX_INSTANCES]
        instances = {id(annotation): number for number, annotation in enumerate(masked, start=1)}
        for annotation in shown:
            if "bbox" in annotation:
                label, instance = position.get(annotation["category_id"], -1), instances.get(id(annotation), 0)
                box = from_xywh([annotation["bbox"]])[0]
                collected.annotations.append((name, label, *box, bool(annotation.get("iscrowd", 0)), instance))
        if masked:
            shape = (int(image["height"]), int(image["width"]))
            collected.segmentations[name] = (shape, [annotation["segmentation"] for annotation in masked])


def _mask(segmentations: dict[str, tuple[Shape, list[Any]]], name: str) -> InstanceMask | None:
    if name not in segmentations:
        return None
    shape, objects = segmentations[name]
    return instance_mask(*shape, objects)
