"""What can be laid over an image: a table of the pipeline's outputs, and which of them a workspace holds."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

from wsol_core.core.errors import InputError
from wsol_core.inspect import reading
from wsol_core.inspect.workspaces import Workspace

Kind = Literal["boxes", "store", "instances", "class_mask"]
"""`boxes`: a table of boxes, drawn as lines; `store`: a map store; `instances` and `class_mask`: folders of PNGs."""

NAME = re.compile(r"\w[\w.-]*")
PROPOSALS_SHOWN = 10


@dataclass(frozen=True)
class Layer:
    """One layer of a data set.

    Attributes:
        key: its name in links, such as `maps/ddt`.
        group: the heading that it stands under.
        title: its name for people.
        kind: how it is read.
        path: its file or folder, relative to the project.
        colour: of its lines, a name that the page's style sheet knows; "" where it is a picture.
        most: the boxes shown, those of the highest score; 0 for all.
        part: the label of its maps where that is no class; None where the image's label tells which map is shown.
    """

    key: str
    group: str
    title: str
    kind: Kind
    path: str
    colour: str = ""
    most: int = 0
    part: int | None = None


@dataclass(frozen=True)
class _Family:
    """Layers of one shape; a `*` in `place`, below `data/SET`, stands for the name of each of them."""

    key: str
    group: str
    title: str
    kind: Kind
    place: str
    colour: str = ""
    most: int = 0
    parted: bool = False
    """whether the labels of its stores are no classes but parts, a layer each"""


INSIDE = "inside the networks"
FAMILIES = (
    _Family("truth", "ground truth", "boxes", "boxes", "truth/annotations.parquet", "truth"),
    _Family("masks", "ground truth", "masks", "instances", "truth/masks"),
    _Family("pseudo", "pseudo labels", "pseudo box", "boxes", "pseudo_boxes.parquet", "pseudo"),
    _Family("targets", "pseudo labels", "targets: {}", "store", "targets/*.h5"),
    _Family("maps", "maps", "{}", "store", "outputs/*/maps.h5"),
    _Family("layers", INSIDE, "{}", "store", "outputs/*/layers.h5", parted=True),
    _Family("branch", INSIDE, "{}: branch", "store", "outputs/*/branch.h5"),
    _Family("saliency", INSIDE, "{}: saliency", "store", "outputs/*/saliency.h5"),
    _Family("segments", "segmentation", "{}", "class_mask", "segments/*"),
    _Family("proposals", "proposals", "first in rank", "boxes", "proposals.parquet", "proposal", PROPOSALS_SHOWN),
    _Family("objectness", "proposals", "by {}", "boxes", "objectness/*.parquet", "proposal", PROPOSALS_SHOWN),
    _Family("detections", "detections", "{}", "boxes", "detections/*.parquet", "detection"),
)
TITLES = {"maps/ddt": "ddt (indicator map)"}


def find_layers(workspace: Workspace, data_set: str) -> dict[str, Layer]:
    """The layers of a data set that a workspace holds, by key, in the order of the pipeline."""
    found = [layer for family in FAMILIES for layer in _members(workspace, data_set, family)]
    groups = list(dict.fromkeys(family.group for family in FAMILIES))
    return {layer.key: layer for layer in sorted(found, key=lambda layer: groups.index(layer.group))}


def methods(layers: dict[str, Layer]) -> list[str]:
    """The names of the layers that are maps of methods."""
    return [key.removeprefix("maps/") for key in layers if key.startswith("maps/")]


def _members(workspace: Workspace, data_set: str, family: _Family) -> Iterator[Layer]:
    for name, path in _files(workspace, f"data/{data_set}/{family.place}"):
        key = f"{family.key}/{name}" if name else family.key
        title = TITLES.get(key, family.title.format(name))
        layer = Layer(key, family.group, title, family.kind, path, family.colour, family.most)
        parts = _parts(workspace, path) if family.parted else ()
        if not parts:
            yield layer
        for number, part in enumerate(parts, start=1):
            yield replace(layer, key=f"{key}/{part}", title=f"{title}: layer {number} of {len(parts)}", part=part)


def _files(workspace: Workspace, place: str) -> Iterator[tuple[str, str]]:
    """The files and folders of a place with a `*`, with the names that it stands for; "" of a place without one."""
    if "*" not in place:
        if PurePosixPath(place).name in workspace.entries(str(PurePosixPath(place).parent)):
            yield "", place
        return
    folder, rest = place.split("/*")
    suffix, _, inner = rest.partition("/")
    for entry in workspace.entries(folder):
        name = entry.removesuffix(suffix) if entry.endswith(suffix) else ""
        if not NAME.fullmatch(name) or (not suffix and "." in name):
            continue
        if not inner or inner in workspace.entries(f"{folder}/{entry}"):
            yield name, f"{folder}/{entry}" + (f"/{inner}" if inner else "")


def _parts(workspace: Workspace, path: str) -> tuple[int, ...]:
    """The labels of a store; none of a damaged one, which says so when it is looked at."""
    file = workspace.locate(path)
    try:
        return reading.labels(file) if file else ()
    except InputError:
        return ()
