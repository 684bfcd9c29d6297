"""Contact sheets: what each step of the chain made of an image, and where each method does best and worst."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from wsol_core.core.boxes import BOX_COLUMNS, Boxes
from wsol_core.core.map_store import Kind, MapStore
from wsol_core.core.params import Block
from wsol_core.data.images import decode
from wsol_core.data.index import ImageIndex
from wsol_core.localization.localize import final_boxes, find_targets
from wsol_core.metrics.errors import ERROR_TYPES, error_types
from wsol_core.metrics.localization import best_iou
from wsol_core.visualization.class_colours import paint
from wsol_core.visualization.pictures import GREEN, RED, Picture, Tile, heat, outline, sheet, shrink, stain

Row = Any
"""A row of images as pandas gives it: `image_id`, `path`, `width`, `height`, `label`."""

Draw = Callable[[Row, Picture], Picture | None]
"""Draws over an image's picture; None where there is nothing to show."""

COLUMNS_OF_CASES = 6


class ReportParams(Block):
    """What is pictured."""

    sets: tuple[str, ...] = ("localization",)
    """Data sets that get sheets."""
    images: int = Field(default=8, ge=1)
    """Images per sheet, and best cases per method."""
    worst: int = Field(default=24, ge=1)
    """Worst cases per method, by type of error."""
    proposals: int = Field(default=10, ge=1)
    """Proposals drawn per image, those of the highest objectness."""
    side: int = Field(default=150, ge=32, le=512)
    """Side of a tile in pixels."""


@dataclass(frozen=True)
class Report:
    """Draws sheets of the images of one data set.

    Attributes:
        index: the images.
        params: what is pictured.
        seed: of the choice of images.
    """

    index: ImageIndex
    params: ReportParams
    seed: int

    def choose(self, split: str, among: Collection[str] | None = None) -> pd.DataFrame:
        """Some images of a split, drawn at random, in order of id; `label` is the first of their labels, or -1.

        Where `among` is given, only images with these ids.
        """
        images = self.index.split(split)
        if among is not None:
            images = images[images["image_id"].isin(among)]
        return self._some(labelled(images))

    def choose_classes(self, split: str, among: Collection[str]) -> pd.DataFrame:
        """Some pairs of an image and a class that it shows, drawn at random, in order of id; `label` is the class.

        Only images of the split with these ids.
        """
        images = self.index.split(split)
        pairs = images[images["image_id"].isin(among)].explode("labels").dropna(subset="labels")
        return self._some(pairs.assign(label=pairs["labels"].astype(int)))

    def _some(self, rows: pd.DataFrame) -> pd.DataFrame:
        count = min(self.params.images, len(rows))
        return rows.iloc[np.sort(np.random.default_rng(self.seed).choice(len(rows), count, replace=False))]

    def steps(self, images: pd.DataFrame, columns: Mapping[str, Draw], names: Sequence[str] = ()) -> Picture | None:
        """A sheet with a row per image and a column per step; steps that show nothing here are left out.

        Where rows have names, they stand in place of the title of the first column.
        """
        rows = [[draw(row, picture) for draw in columns.values()] for row, picture in self._pictures(images)]
        shown = [i for i in range(len(columns)) if any(row[i] is not None for row in rows)]
        titles = list(columns)
        tiles = [[(row[i], "" if at else titles[i]) for i in shown] for at, row in enumerate(rows)]
        for row_tiles, name in zip(tiles, names, strict=False):
            row_tiles[0] = row_tiles[0][0], name
        return sheet(tiles, self.params.side) if tiles else None

    def cases(self, boxes: pd.DataFrame, annotations: pd.DataFrame, split: str, draws: Sequence[Draw]) -> list[Picture]:
        """Two sheets of the annotated images of a split: the best, then the worst by type of error.

        The draws are put over each other in each tile. None without annotations.
        """
        targets = find_targets(self.index, annotations, split)
        if not len(targets.images):
            return []
        found = final_boxes(boxes, targets.images)
        errors = [ERROR_TYPES[number] for number in error_types(found, targets.truth)]
        images = targets.images.assign(iou=best_iou(found[:, None], targets.truth)[:, 0], error=errors)
        images = images.merge(self.index.table[["image_id", "path"]], on="image_id")
        best = list(self._cases(self.ends(images)[0], draws))
        worst: list[list[Tile] | str] = []
        for heading, part in worst_by_error(images, self.params.worst):
            worst += [heading, *self._cases(part, draws)]
        return [sheet(best, self.params.side), sheet(worst, self.params.side)]

    def ends(self, images: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Of images with an `iou` those of the highest, best first, and those of the lowest, worst first."""
        ranked = images.sort_values(["iou", "image_id"], ascending=[False, True])
        return ranked.head(self.params.images), ranked.tail(self.params.images).iloc[::-1]

    def _cases(self, images: pd.DataFrame, draws: Sequence[Draw]) -> Iterator[list[Tile]]:
        tiles: list[Tile] = []
        for row, picture in self._pictures(images):
            for draw in draws:
                drawn = draw(row, picture)
                picture = picture if drawn is None else drawn
            tiles.append((picture, f"IoU {row.iou:.2f}"))
        for start in range(0, len(tiles), COLUMNS_OF_CASES):
            yield tiles[start : start + COLUMNS_OF_CASES]

    def _pictures(self, images: pd.DataFrame) -> Iterator[tuple[Row, Picture]]:
        root = self.index.root
        for row in images.itertuples():
            yield row, shrink(decode(root / str(row.path)), self.params.side)


def worst_by_error(images: pd.DataFrame, count: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Of images with an `iou` and an `error` the `count` of the lowest IoU, by error, each worst first.

    The commonest error comes first, of equals in the order of `ERROR_TYPES`; `correct` last, where fewer are wrong.
    Before each stands its heading.

    Example:
        >>> images = pd.DataFrame({"image_id": list("abc"), "iou": [0.1, 0.4, 0], "error": ["part", "part", "missing"]})
        >>> [(heading, part["image_id"].tolist()) for heading, part in worst_by_error(images, 3)]
        [('part: 2 of 3', ['a', 'b']), ('missing: 1 of 3', ['c'])]
    """
    worst = images.sort_values(["iou", "image_id"]).head(count)
    counts = Counter(worst["error"])
    for error in sorted(counts, key=lambda each: (each == "correct", -counts[each], ERROR_TYPES.index(each))):
        yield f"{error.replace('_', ' ')}: {counts[error]} of {len(worst)}", worst[worst["error"] == error]


def labelled(images: pd.DataFrame) -> pd.DataFrame:
    """Images of an index with a `label`, the first of their labels, or -1."""
    return images.assign(label=[int(labels[0]) if len(labels) else -1 for labels in images["labels"]])


def draw_image(_: Row, picture: Picture) -> Picture:
    """The image alone."""
    return picture


def draw_store(store: MapStore, label: int | None = None) -> Draw:
    """Over the image its map of its own label or of `label`: scores from blue to red, labels in their colours."""
    over = {Kind.SCORE: heat, Kind.LABELS: paint}.get(store.kind, stain)

    def draw(row: Row, picture: Picture) -> Picture | None:
        values = store.find(row.image_id, row.label if label is None else label)
        return None if values is None else over(picture, values)

    return draw


def draw_boxes(boxes: pd.DataFrame, colour: tuple[int, int, int], count: int = 1) -> Draw:
    """Over the image its `count` boxes of the highest score, whatever their label."""
    thickness = 2 if count == 1 else 1
    by_image = _group(boxes.sort_values(["image_id", "score"], ascending=[True, False], kind="stable"))

    def draw(row: Row, picture: Picture) -> Picture | None:
        found = by_image.get(row.image_id)
        return None if found is None else outline(picture, found[:count], row.width, row.height, colour, thickness)

    return draw


def draw_result(boxes: pd.DataFrame, annotations: pd.DataFrame) -> Draw:
    """Over the image its ground truth in green and its final box in red."""
    truth = _group(annotations)

    def draw(row: Row, picture: Picture) -> Picture:
        if row.image_id in truth:
            picture = outline(picture, truth[row.image_id], row.width, row.height, GREEN)
        final = final_boxes(boxes, pd.DataFrame({"image_id": [row.image_id], "label": [row.label]}))
        return outline(picture, final, row.width, row.height, RED)

    return draw


def _group(boxes: pd.DataFrame) -> dict[str, Boxes]:
    values: npt.NDArray[np.float32] = boxes[list(BOX_COLUMNS)].to_numpy(np.float32)
    return {str(key): values[rows] for key, rows in boxes.groupby("image_id", sort=False).indices.items()}
