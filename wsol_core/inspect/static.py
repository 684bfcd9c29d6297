"""The page as a folder that can be sent to somebody: a few images with all their layers, opened without a server."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.written_files import output_folder
from wsol_core.inspect.catalogue import Catalogue
from wsol_core.inspect.inspection import THRESHOLDS, Inspection
from wsol_core.inspect.layers import methods
from wsol_core.inspect.queries import LayerQuery, PageQuery, PictureQuery, Q
from wsol_core.inspect.refusals import RefusalError
from wsol_core.inspect.server import PAGE_FILES, page_file

MARK = "<!-- data.js -->"
"""Where the page of a folder loads its data."""
WRITER = "wsol inspect"
"""Whose files these are, in the folder's list of written files."""

Answer = dict[str, Any]


def write_static(inspection: Inspection, query: PageQuery, most: int, out: Path, overwrite: bool) -> int:
    """Write the first `most` images of a filter to the folder `out`; other files in it stay.

    Returns:
        The number of images.

    Raises:
        InputError: no image passes the filter, or a file would replace one of the user's (and `overwrite` is not set)
            or one that is inspected.
    """
    rows = inspection.select(query)[:most].tolist()
    if not rows:
        raise InputError("no image passes the filter")
    overview = inspection.overview()
    overview["sets"] = {query.data_set: _without_places(overview["sets"][query.data_set])}
    images = inspection.images(query.data_set, rows, *overview["sets"][query.data_set]["measured"])
    inputs = (Path("data"), Path("params.yaml"))
    with output_folder(out, WRITER, overwrite, inputs, ["data.js", "index.html", *PAGE_FILES]) as folder:
        for name in ("thumbnails", "pictures", "layers"):
            (folder / name).mkdir(parents=True)
        for number, image in enumerate(tqdm(images, "inspect", unit="image", disable=None)):
            _write_image(inspection, query.data_set, image, number, folder)
        content = json.dumps({"overview": overview, "data_set": query.data_set, "images": images}, sort_keys=True)
        (folder / "data.js").write_text(f"window.INSPECTION = {content};\n", encoding="utf-8")
        for name in PAGE_FILES:
            (folder / name).write_bytes(page_file(name))
        page = page_file("index.html").decode().replace(MARK, '<script defer src="data.js"></script>')
        (folder / "index.html").write_text(page, encoding="utf-8")
    return len(images)


def _write_image(inspection: Inspection, data_set: str, image: Answer, number: int, folder: Path) -> None:
    """Write an image's files, and put their names and its boxes into `image`."""

    def keep(name: str, draw: Callable[[Q], bytes], query: Q) -> str | None:
        try:
            (folder / name).write_bytes(draw(query))
        except RefusalError:
            return None
        return name

    whole = PictureQuery(data_set=data_set, id=image["id"])
    image["thumbnail"] = keep(f"thumbnails/{number:05d}.jpg", inspection.thumbnail, whole)
    image |= {"pictures": [], "layers": [], "boxes": [], "live": []}
    for rev, catalogue in enumerate(inspection.catalogues(data_set)):
        place, query = f"{number:05d}-{rev}", whole.model_copy(update={"rev": rev})
        there = catalogue.exists and catalogue.position(image["id"]) is not None
        image["pictures"].append(keep(f"pictures/{place}.jpg", inspection.picture, query))
        drawn: Answer = {}
        lines: Answer = {}
        for position, (key, layer) in enumerate(catalogue.layers().items() if there else ()):
            asked = LayerQuery(**query.model_dump(), layer=key)
            if layer.kind == "boxes":
                lines[key] = inspection.boxes(asked)
            else:
                drawn[key] = keep(f"layers/{place}-{position}.png", inspection.layer, asked)
        image["layers"].append(drawn)
        image["boxes"].append(lines)
        image["live"].append(_live(catalogue, image["id"]) if there else {})


def _live(catalogue: Catalogue, image_id: str) -> Answer:
    """By method, the boxes at the calibrated threshold, and those at every stop of the slider where they change."""
    found: Answer = {}
    label = catalogue.label(catalogue.position(image_id) or 0)
    for method in methods(catalogue.layers()):
        chosen, scale = catalogue.threshold(method), catalogue.scale(method)
        stops = THRESHOLDS if chosen is None else sorted({*THRESHOLDS, chosen.value})
        swept = catalogue.boxes_at(method, image_id, label, stops, scale)
        if swept is None:
            continue
        shown = catalogue.shown(swept, image_id, label)
        every = [{"threshold": stop, "scale": scale} | own for stop, own in zip(stops, shown, strict=True)]
        steps = every[:1] + [own for before, own in pairwise(every) if own["boxes"] != before["boxes"]]
        found[method] = {"calibrated": None if chosen is None else every[stops.index(chosen.value)], "steps": steps}
    return found


def _without_places(content: Any) -> Any:
    """The same data, of absolute paths (weights in somebody's home) the last part alone."""
    if isinstance(content, dict):
        return {key: _without_places(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_places(value) for value in content]
    return PurePath(content).name if isinstance(content, str) and content.startswith(("/", "~")) else content
