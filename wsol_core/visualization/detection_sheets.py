"""Contact sheets of detectors: their boxes in their classes' colours, and which proposals objectness keeps."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS
from wsol_core.data.index import TEST
from wsol_core.visualization.class_colours import class_colour, legend
from wsol_core.visualization.contact_sheets import Draw, Report, Row, draw_boxes, draw_image
from wsol_core.visualization.pictures import GREEN, RED, Picture, outline, tag

SHARE = 0.5
"""Of the best detection's score in a picture; those below it are not drawn."""


def detections(report: Report, detectors: Mapping[str, pd.DataFrame], annotations: pd.DataFrame) -> Picture | None:
    """Test images with the boxes of each detector, a column each, and the true ones; classes have their colours.

    Of a picture's detections those are drawn whose score is at least half of the best one's, `params.proposals` at the
    most, the best on top. None without test images.

    Args:
        report: of which images.
        detectors: tables of boxes by name.
        annotations: all objects; without any there is no column for them.
    """
    count = report.params.proposals
    columns: dict[str, Draw] = {"image": draw_image}
    columns |= {name: _draw_classes(best_of_images(boxes, count)) for name, boxes in detectors.items()}
    columns["truth"] = _draw_classes(annotations)
    picture = report.steps(report.choose(TEST), columns)
    return None if picture is None else np.vstack([picture, legend(report.index.classes, picture.shape[1])])


def best_of_images(boxes: pd.DataFrame, count: int) -> pd.DataFrame:
    """Of each image the detections that are drawn, best first."""
    ranked = boxes.sort_values("score", ascending=False, kind="stable")
    best = ranked.groupby("image_id", sort=False)["score"].transform("max")
    return ranked[ranked["score"] >= SHARE * best].groupby("image_id", sort=False).head(count)


def filtered(report: Report, scored: pd.DataFrame, threshold: float, draw_map: Draw) -> Picture | None:
    """Test images with a map, and side by side the proposals that its objectness keeps and those that it filters.

    Of both the first in rank are drawn, `params.proposals` at the most. Classes that are exempt keep the latter too.

    Args:
        report: of which images.
        scored: proposals in their rank, `score` their objectness.
        threshold: the least objectness that is kept.
        draw_map: the map that objectness comes from.
    """
    count = report.params.proposals
    kept = scored["score"] >= threshold
    first = (rows.groupby("image_id", sort=False).head(count) for rows in (scored[kept], scored[~kept]))
    keeps, filters = (draw_boxes(rows, colour, count) for rows, colour in zip(first, (GREEN, RED), strict=True))
    columns = {"image": draw_image, "map": draw_map, f"kept, {threshold:g} or more": keeps, "filtered": filters}
    return report.steps(report.choose(TEST), columns)


def _draw_classes(boxes: pd.DataFrame) -> Draw:
    """Over the image its boxes, each with its score where there are scores; the first row on top."""
    by_image = {str(name): rows.iloc[::-1] for name, rows in boxes.groupby("image_id", sort=False)}

    def draw(row: Row, picture: Picture) -> Picture | None:
        own = by_image.get(row.image_id)
        if own is None:
            return None
        boxes, colours = own[list(BOX_COLUMNS)].to_numpy(np.float32), [class_colour(label) for label in own["label"]]
        for box, colour in zip(boxes, colours, strict=True):
            picture = outline(picture, box[None], row.width, row.height, colour)
        for box, colour, score in zip(boxes, colours, own["score"], strict=True) if "score" in own else ():
            picture = tag(picture, box[0] / row.width, box[1] / row.height, f"{score:.2f}", colour)
        return picture

    return draw
