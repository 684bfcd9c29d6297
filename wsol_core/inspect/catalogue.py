"""What a workspace holds of one data set: its images, layers, thresholds and outcomes, read when they are asked for."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ValidationError

from wsol_core.core.boxes import BOX_COLUMNS, Boxes, iou
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.core.regions import Scale, boxes_at_thresholds, map_boxes
from wsol_core.data.index import ImageIndex
from wsol_core.inspect import reading
from wsol_core.inspect.layers import Layer, find_layers
from wsol_core.inspect.outcomes import Outcomes, measure
from wsol_core.inspect.workspaces import Workspace
from wsol_core.localization.localize import LocalizeParams, Threshold, read_calibration

TABLES = ("boxes", "detections")
"""Folders whose tables of boxes are measured."""
GROUND_TRUTH, PSEUDO_BOXES = "ground truth", "pseudo boxes"
COLUMNS = list(BOX_COLUMNS)


class Catalogue:
    """One data set in one workspace.

    Attributes:
        workspace: where it is read from.
        name: the data set's.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name = name
        self._outcomes: dict[str, tuple[tuple[reading.Stamp, ...], Outcomes]] = {}
        self._lookup: tuple[ImageIndex, dict[str, int]] | None = None

    @property
    def exists(self) -> bool:
        """Whether the workspace has an index of the data set."""
        return self._locate("index.parquet") is not None

    @property
    def index(self) -> ImageIndex:
        """The images."""
        return reading.index(self._required("index.parquet"))

    def layers(self) -> dict[str, Layer]:
        """The layers by key."""
        return find_layers(self.workspace, self.name)

    def position(self, image_id: str) -> int | None:
        """The row of an image in the index."""
        index = self.index
        if self._lookup is None or self._lookup[0] is not index:
            self._lookup = index, {name: row for row, name in enumerate(index.table["image_id"])}
        return self._lookup[1].get(image_id)

    def label(self, position: int) -> int:
        """The image's first label, -1 where it has none."""
        labels = self.index.table["labels"].iloc[position]
        return int(labels[0]) if len(labels) else CLASS_AGNOSTIC

    def picture(self, position: int) -> Path | None:
        """The image's file."""
        index, place = self.index, PurePosixPath(self.index.table["path"].iloc[position])
        if place.is_absolute() or ".." in place.parts:
            raise InputError(f"{self.name}: the path {str(place)!r} in the index leads out of the data set")
        if index.source:
            return self.workspace.locate(str(PurePosixPath(index.source) / place))
        path = index.root / place
        return path if path.is_file() else None

    def file_of(self, layer: Layer, image_id: str | None = None) -> Path | None:
        """A layer's file, or the one of an image in a layer's folder; the id stems from the index."""
        if image_id is not None and ".." in PurePosixPath(image_id).parts:
            raise InputError(f"{self.name}: the image id {image_id!r} in the index leads out of the data set")
        return self.workspace.locate(layer.path if image_id is None else f"{layer.path}/{image_id}.png")

    def measured(self) -> dict[str, str]:
        """Tables of boxes that have outcomes, by their method's name, in the order of `methods` in the parameters."""
        found = {
            entry.removesuffix(".parquet"): f"{folder}/{entry}"
            for folder in TABLES
            for entry in self.workspace.entries(f"data/{self.name}/{folder}")
            if entry.endswith(".parquet") and not entry.startswith(".")
        }
        order = list(self._params().get("methods") or ())
        return dict(sorted(found.items(), key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order)))

    def threshold(self, method: str) -> Threshold | None:
        """The threshold that `calibrate` chose, with its scale."""
        path = self._locate(f"thresholds/{method}.json")
        return read_calibration(path) if path else None

    def scale(self, method: str) -> Scale:
        """The scale of the calibrated threshold, else the one of the parameters."""
        chosen = self.threshold(method)
        return chosen.scale if chosen else self.localize_params().scale

    def localize_params(self) -> LocalizeParams:
        """The workspace's parameters of `localize`."""
        try:
            return LocalizeParams.model_validate(self._params().get("localize"))
        except ValidationError as error:
            raise InputError(f"params.yaml of {self.workspace.name}: localize: {error.errors()[0]['msg']}") from error

    def reference(self) -> tuple[str, pd.DataFrame]:
        """What boxes are held against, and its name: ground truth, else pseudo boxes, else nothing."""
        for name, title in (("truth/annotations.parquet", GROUND_TRUTH), ("pseudo_boxes.parquet", PSEUDO_BOXES)):
            path = self._locate(name)
            if path is not None and len(table := reading.table(path)):
                return title, table
        return "", pd.DataFrame(columns=["image_id", "label", *COLUMNS]).astype({"image_id": str})

    def outcomes(self, method: str) -> Outcomes | None:
        """The outcomes of a method, None where it has no boxes."""
        place = self.measured().get(method)
        path = self._locate(place) if place else None
        if path is None:
            return None
        files = [path, self._required("index.parquet")]
        files += filter(None, map(self._locate, ("truth/annotations.parquet", "pseudo_boxes.parquet")))
        stamps = tuple(reading.stamp(each) for each in files)
        if method not in self._outcomes or self._outcomes[method][0] != stamps:
            self._outcomes[method] = stamps, measure(self.index.table, reading.table(path), self.reference()[1])
        return self._outcomes[method][1]

    def boxes_at(
        self, method: str, image_id: str, label: int, thresholds: list[float], scale: Scale
    ) -> list[Boxes] | None:
        """For each of the ascending thresholds the boxes `(N, 4)` that `localize` gives there; None without a map."""
        score_map = self.find_map(f"maps/{method}", image_id, label)
        position = self.position(image_id)
        if score_map is None or position is None:
            return None
        block, size = self.localize_params(), self.index.table[["width", "height"]].iloc[position]
        place = (int(size["width"]), int(size["height"]), block.resolution, scale)
        if block.components == "all":
            return [map_boxes(score_map, threshold, *place, block.min_area)[0] for threshold in thresholds]
        return list(boxes_at_thresholds(score_map, np.array(thresholds), *place)[:, None])

    def find_map(self, key: str, image_id: str, label: int) -> npt.NDArray[np.float32] | None:
        """The map of an image for a label, or its class-agnostic one, in the store of a layer; or the layer's part."""
        layer = self.layers().get(key)
        path = self.file_of(layer) if layer else None
        if layer is None or path is None:
            return None
        return reading.store(path).find(image_id, label if layer.part is None else layer.part)

    def shown(self, several: list[Boxes], image_id: str, label: int) -> list[dict[str, Any]]:
        """Each of several arrays of boxes as numbers, and the first box's best IoU with the image's reference."""
        table = self.reference()[1]
        rows = table[(table["image_id"] == image_id) & table["label"].isin([label, CLASS_AGNOSTIC])]
        reference = rows[COLUMNS].to_numpy(np.float32)
        ious = [iou(boxes[:1], reference) for boxes in several]
        return [
            {"boxes": boxes.astype(float).tolist(), "iou": float(own.max()) if own.size else None}
            for boxes, own in zip(several, ious, strict=True)
        ]

    def _params(self) -> dict[str, Any]:
        path = self.workspace.locate("params.yaml")
        return reading.document(path) if path else {}

    def _locate(self, name: str) -> Path | None:
        return self.workspace.locate(f"data/{self.name}/{name}")

    def _required(self, name: str) -> Path:
        path = self._locate(name)
        if path is None:
            raise InputError(f"data/{self.name}/{name} of {self.workspace.name}: missing; run `dvc repro`")
        return path
