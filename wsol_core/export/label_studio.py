"""Label Studio: `tasks.json` with the boxes as predictions, for people to correct, and `config.xml` for the project.

Positions are percent of the image's width and height, `x` and `y` of the upper left corner. An image without a box is a
task without a result. Create a project, paste `config.xml` under its labelling interface, import `tasks.json`. Images
are found under a prefix: the default is Label Studio's for local files, whose document root is then the data set's.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from wsol_core.core.boxes import BOX_COLUMNS, to_xywh
from wsol_core.export.results import BoxResults
from wsol_core.visualization.class_colours import class_colour

LOCAL_FILES = "/data/local-files/?d="


def write_boxes(results: BoxResults, folder: Path, prefix: str = LOCAL_FILES) -> None:
    """Write both files; an image's address is `prefix` and its path in the root."""
    tasks = [task(image, boxes, results, prefix) for image, boxes in results.by_image()]
    (folder / "tasks.json").write_text(json.dumps(tasks, indent=1) + "\n", encoding="utf-8")
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image")
    labels = ElementTree.SubElement(view, "RectangleLabels", name="label", toName="image")
    for label, name in enumerate(results.classes):
        colour = "#{:02x}{:02x}{:02x}".format(*class_colour(label))
        ElementTree.SubElement(labels, "Label", value=name, background=colour)
    ElementTree.indent(view)
    (folder / "config.xml").write_text(ElementTree.tostring(view, encoding="unicode") + "\n", encoding="utf-8")


def task(image: pd.Series, boxes: pd.DataFrame, results: BoxResults, prefix: str) -> dict[str, Any]:
    """The task of an image (a row of the index) with its boxes."""
    width, height = int(image["width"]), int(image["height"])
    shares = 100 * to_xywh(boxes[list(BOX_COLUMNS)].to_numpy(np.float32)) / np.array([width, height] * 2)
    found = [
        {
            "id": f"box{place}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": round(float(score), 6),
            "value": {
                **dict(zip(("x", "y", "width", "height"), (round(share, 4) for share in row), strict=True)),
                "rotation": 0,
                "rectanglelabels": [results.classes[label]],
            },
        }
        for place, (row, score, label) in enumerate(
            zip(shares.tolist(), boxes["score"], boxes["label"], strict=True), start=1
        )
    ]
    score = round(float(boxes["score"].mean()), 6) if len(boxes) else 0.0
    data = {"image": prefix + quote(str(image["path"])), "image_id": image["image_id"]}
    return {"data": data, "predictions": [{"model_version": results.source, "score": score, "result": found}]}
