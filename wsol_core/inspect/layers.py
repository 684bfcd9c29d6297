"""What can be laid over an image: a table of the pipeline's outputs, and which of them a workspace holds."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

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
    """

    key: str
    group: str
    title: str
    kind: Kind
    path: str
    colour: str = ""
    most: int = 0


@dataclass(frozen=True)
class _Family:
    """Layers of one shape; `place` below `data/SET` ends in `*` or `*.suffix` where there is one for each name."""

    key: str
    group: str
    title: str
    kind: Kind
    place: str
    colour: str = ""
    most: int = 0


FAMILIES = (
    _Family("truth", "ground truth", "boxes", "boxes", "annotations.parquet", "truth"),
    _Family("masks", "ground truth", "masks", "instances", "masks"),
    _Family("pseudo", "pseudo labels", "pseudo box", "boxes", "pseudo_boxes.parquet", "pseudo"),
    _Family("pseudo-mask", "pseudo labels", "low-resolution mask", "store", "pseudo_masks.h5"),
    _Family("maps", "maps", "{}", "store", "maps/*.h5"),
    _Family("labels", "pseudo labels", "labels from {}", "store", "labels/*.h5"),
    _Family("seeds", "segmentation", "cues {}", "store", "seeds/*.h5"),
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
    place = PurePosixPath("data", data_set, family.place)
    suffix = place.name.removeprefix("*") if place.name.startswith("*") else None
    for entry in workspace.entries(str(place.parent)):
        name = entry.removesuffix(suffix) if suffix is not None and entry.endswith(suffix) else ""
        if suffix is None and entry == place.name:
            key, title = family.key, family.title
        elif name and NAME.fullmatch(name) and (suffix or "." not in name):
            key, title = f"{family.key}/{name}", family.title.format(name)
        else:
            continue
        path = str(place.with_name(entry))
        yield Layer(key, family.group, TITLES.get(key, title), family.kind, path, family.colour, family.most)
