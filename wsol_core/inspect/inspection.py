"""What the page asks for, as plain data: overview, pages of images, one image, its layers and boxes.

Image ids, layers, methods, data sets and revisions that a request names are looked up in tables; only what these hold
leads to a file.
"""

from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.core.errors import InputError, nearest
from wsol_core.inspect import drawing, reading
from wsol_core.inspect.catalogue import Catalogue
from wsol_core.inspect.filters import Rows, select
from wsol_core.inspect.layers import Layer, methods
from wsol_core.inspect.overview import Answer, describe
from wsol_core.inspect.queries import ImageQuery, LayerQuery, LiveQuery, PageQuery, PictureQuery
from wsol_core.inspect.refusals import RefusalError
from wsol_core.inspect.workspaces import Workspace
from wsol_core.localization.localize import Threshold
from wsol_core.metrics.localization import threshold_grid

PAGE = 60
SETS = ("localization", "detection")
THRESHOLDS = [*threshold_grid(0.01).tolist(), 1.0]
"""Where the slider stops."""
COLUMNS = list(BOX_COLUMNS)


class Inspection:
    """Answers to the page's questions.

    Raises:
        InputError: a workspace holds no data set.
    """

    def __init__(self, workspaces: list[Workspace]) -> None:
        self.workspaces = workspaces
        every = {name: [Catalogue(each, name) for each in workspaces] for name in SETS}
        for position, workspace in enumerate(workspaces):
            if not any(catalogues[position].exists for catalogues in every.values()):
                raise InputError(f"{workspace.name}: no data/SET/index.parquet; run `dvc repro` there first")
        self._catalogues = {name: own for name, own in every.items() if own[0].exists}
        if not self._catalogues:
            raise InputError("the revisions have no data set in common")

    @property
    def sets(self) -> list[str]:
        """The data sets of the first revision."""
        return list(self._catalogues)

    def overview(self) -> Answer:
        """Everything that does not depend on an image."""
        return {
            "revisions": [workspace.name for workspace in self.workspaces],
            "thresholds": THRESHOLDS,
            "page": PAGE,
            "sets": {name: describe(catalogues) for name, catalogues in self._catalogues.items()},
        }

    def page(self, query: PageQuery) -> Answer:
        """The images of one page, with the outcomes of one method."""
        rows = self.select(query)
        shown = rows[query.page * PAGE : (query.page + 1) * PAGE].tolist()
        return {"total": len(rows), "images": self.images(query.data_set, shown, self._method(query))}

    def select(self, query: PageQuery | ImageQuery) -> Rows:
        """Rows of the first revision's index, filtered and in order."""
        return select(self.catalogues(query.data_set), query.model_copy(update={"method": self._method(query)}))

    def images(self, data_set: str, rows: list[int], *names: str) -> list[Answer]:
        """What the grid shows of images: labels, true boxes, and each revision's outcomes of the named methods."""
        catalogues = self.catalogues(data_set)
        table = catalogues[0].index.table.iloc[rows]
        truth = _grouped(catalogues[0].reference()[1], table["image_id"])
        results = {name: [_results(each, name, table["image_id"]) for each in catalogues] for name in names if name}
        return [
            {name: row[name] for name in ("split", "width", "height")}
            | {
                "id": row["image_id"],
                "labels": [int(label) for label in row["labels"]],
                "thumbnail": _link("thumbnail", data_set=data_set, id=row["image_id"], v=row["digest"][:12] or None),
                "truth": truth.get(row["image_id"], []),
                "results": {name: [each.get(row["image_id"]) for each in own] for name, own in results.items()},
            }
            for row in table.to_dict("records")
        ]

    def image(self, query: ImageQuery) -> Answer:
        """One image, where it stands among those of the filter, and its picture in each revision."""
        catalogues = self.catalogues(query.data_set)
        position = self._position(catalogues[0], query.id)
        rows = self.select(query)
        place = np.flatnonzero(rows == position)
        around = [int(place[0]) + step for step in (-1, 1)] if len(place) else []
        ids = catalogues[0].index.table["image_id"]
        neighbours = [ids.iloc[rows[each]] if 0 <= each < len(rows) else None for each in around] or [None, None]
        known = [each.exists and each.position(query.id) is not None for each in catalogues]
        pictures = [
            _link("picture", data_set=query.data_set, id=query.id, rev=rev) if there else None
            for rev, there in enumerate(known)
        ]
        (found,) = self.images(query.data_set, [position], self._method(query))
        return found | {
            "place": int(place[0]) if len(place) else None,
            "total": len(rows),
            "previous": neighbours[0],
            "next": neighbours[1],
            "pictures": pictures,
        }

    def boxes(self, query: LayerQuery) -> Answer:
        """The boxes of a layer of boxes: `x0, y0, x1, y1, score, label`, best first; the score None without one."""
        catalogue, layer = self._layer(query)
        path = catalogue.file_of(layer)
        if layer.kind != "boxes" or path is None:
            raise RefusalError(f"layer {layer.key!r} is a picture, not boxes")
        rows = reading.rows_of(path, query.id)
        if "score" in rows:
            rows = rows.sort_values("score", ascending=False, kind="stable")
        rows = rows.iloc[: layer.most or len(rows)]
        labels, scored = rows["label"].tolist(), rows["score"].tolist() if "score" in rows else [None] * len(rows)
        corners = rows[COLUMNS].to_numpy(float).tolist()
        return {"boxes": [[*box, score, label] for box, score, label in zip(corners, scored, labels, strict=True)]}

    def live(self, query: LiveQuery) -> Answer:
        """The boxes that `localize` gives at a threshold, and the first one's IoU with the reference."""
        catalogue = self._catalogue(query)
        position = self._position(catalogue, query.id)
        label = catalogue.label(position) if query.label is None else query.label
        layers = catalogue.layers()
        if f"maps/{query.method}" not in layers:
            raise RefusalError(f"no maps of method {query.method!r}{nearest(query.method, methods(layers))}")
        chosen = catalogue.threshold(query.method)
        if query.threshold is not None:
            chosen = Threshold(query.threshold, catalogue.scale(query.method))
        if chosen is None:
            raise RefusalError(f"method {query.method!r} has no calibrated threshold; name one")
        found = catalogue.boxes_at(query.method, query.id, label, [chosen.value], chosen.scale)
        if found is None:
            raise RefusalError(f"method {query.method!r} has no map of this image")
        return {"threshold": chosen.value, "scale": chosen.scale} | catalogue.shown(found, query.id, label)[0]

    def thumbnail(self, query: PictureQuery) -> bytes:
        """A small JPEG."""
        return self._jpeg(query, drawing.thumbnail)

    def picture(self, query: PictureQuery) -> bytes:
        """A JPEG."""
        return self._jpeg(query, drawing.photograph)

    def layer(self, query: LayerQuery) -> bytes:
        """A layer's PNG, as large as the map or mask that it shows."""
        catalogue, layer = self._layer(query)
        if layer.kind == "boxes":
            raise RefusalError(f"layer {layer.key!r} is boxes, not a picture")
        if layer.kind == "store":
            label = catalogue.label(self._position(catalogue, query.id)) if query.label is None else query.label
            values = catalogue.find_map(layer.key, query.id, label)
            path = catalogue.file_of(layer)
            if values is None or path is None:
                raise RefusalError(f"layer {layer.key!r} has nothing for this image")
            return drawing.paint_store(values, reading.store(path).kind)
        path = catalogue.file_of(layer, query.id)
        if path is None:
            raise RefusalError(f"layer {layer.key!r} has nothing for this image")
        return drawing.paint_numbers(path)

    def catalogues(self, data_set: str) -> list[Catalogue]:
        """A data set in each revision.

        Raises:
            RefusalError: there is no such data set.
        """
        if data_set not in self._catalogues:
            raise RefusalError(f"no data set {data_set!r}{nearest(data_set, self._catalogues)}")
        return self._catalogues[data_set]

    def _jpeg(self, query: PictureQuery, draw: Any) -> bytes:
        catalogue = self._catalogue(query)
        position = self._position(catalogue, query.id)
        path = catalogue.picture(position)
        if path is None:
            raise RefusalError(f"the file of image {query.id!r} is missing")
        size = catalogue.index.table[["width", "height"]].iloc[position]
        picture: bytes = draw(path, reading.stamp(path), int(size["width"]), int(size["height"]))
        return picture

    def _catalogue(self, query: PictureQuery) -> Catalogue:
        catalogues = self.catalogues(query.data_set)
        if query.rev >= len(catalogues) or not catalogues[query.rev].exists:
            raise RefusalError(
                f"no revision {query.rev}: they are 0 to {len(catalogues) - 1}, as the page was opened with"
            )
        return catalogues[query.rev]

    def _position(self, catalogue: Catalogue, image_id: str) -> int:
        position = catalogue.position(image_id)
        if position is None:
            raise RefusalError(f"no image {image_id[:60]!r} in {catalogue.name} of {catalogue.workspace.name}")
        return position

    def _layer(self, query: LayerQuery) -> tuple[Catalogue, Layer]:
        catalogue = self._catalogue(query)
        self._position(catalogue, query.id)
        layers = catalogue.layers()
        if query.layer not in layers:
            raise RefusalError(f"no layer {query.layer!r}{nearest(query.layer, layers)}")
        return catalogue, layers[query.layer]

    def _method(self, query: PageQuery | ImageQuery) -> str:
        return query.method or next(iter(self.catalogues(query.data_set)[0].measured()), "")


def _results(catalogue: Catalogue, method: str, ids: pd.Series) -> dict[str, Answer]:
    """By image, the IoU of a method and its boxes; nothing where the revision has no boxes of it."""
    outcomes = catalogue.outcomes(method) if catalogue.exists else None
    if outcomes is None:
        return {}
    boxes = _grouped(outcomes.boxes, ids)
    rows = {image_id: catalogue.position(image_id) for image_id in ids}
    iou = outcomes.images["iou"].to_numpy()
    return {
        image_id: {"iou": None if np.isnan(iou[row]) else float(iou[row]), "boxes": boxes.get(image_id, [])}
        for image_id, row in rows.items()
        if row is not None
    }


def _grouped(boxes: pd.DataFrame, ids: pd.Series) -> dict[str, list[list[float]]]:
    """The boxes of a few images."""
    rows = boxes[boxes["image_id"].isin(ids)]
    return {str(name): own[COLUMNS].to_numpy(float).tolist() for name, own in rows.groupby("image_id")}


def _link(page: str, **words: object) -> str:
    return f"{page}?{urlencode({key: value for key, value in words.items() if value is not None})}"
