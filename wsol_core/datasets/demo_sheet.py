"""The demo's contact sheet: `python -m wsol_core.datasets.demo_sheet` writes `docs/pictures/demo.jpg`."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from wsol_core.core.errors import InputError, run_stage
from wsol_core.core.texts import read_json
from wsol_core.core.written_files import output_file
from wsol_core.datasets.composition import read_picture

Picture = npt.NDArray[np.uint8]

COLOURS = (
    (255, 90, 60),
    (60, 200, 90),
    (70, 140, 255),
    (250, 210, 50),
    (230, 90, 230),
    (70, 220, 220),
    (255, 160, 200),
)


def draw_sheet(rendered: Path, split: str, columns: int, skip: int, height: int) -> Picture:
    """Rows of the rendered sets, two each, with the boxes drawn in a colour per class.

    Args:
        rendered: the folder that `render_demo` wrote.
        split: the split shown.
        columns: pictures in a row.
        skip: pictures left out at the start.
        height: side of a tile, pixels.

    Returns:
        the sheet, `(4 * height, columns * height, 3)` uint8, RGB.

    Raises:
        InputError: the sets were not rendered, or have too few pictures.
    """
    rows = []
    for name in ("localization", "detection"):
        tiles = _tiles(rendered / name, split, skip, 2 * columns, height)
        rows += [np.hstack(tiles[:columns]), np.hstack(tiles[columns:])]
    return np.vstack(rows)


def _tiles(folder: Path, split: str, skip: int, number: int, height: int) -> list[Picture]:
    file = folder / f"{split}.json"
    if not file.exists():
        raise InputError(f"{file}: missing; run `dvc repro render_demo`")
    content = read_json(file)
    images = content["images"][skip : skip + number]
    if len(images) < number:
        raise InputError(f"{file}: has {len(content['images'])} images; the sheet needs {skip + number}")
    tiles = []
    for image in images:
        picture = (read_picture(folder / "images" / image["file_name"]) * 255).round().astype(np.uint8)
        boxes = [(a["bbox"], a["category_id"]) for a in content["annotations"] if a["image_id"] == image["id"]]
        tiles.append(_tile(picture, boxes, height))
    return tiles


def _tile(picture: Picture, boxes: list[tuple[list[int], int]], height: int) -> Picture:
    scale = (height - 4) / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for (x, y, w, h), category in boxes:
        corners = (np.array([x, y, x + w, y + h]) * scale).round().astype(int).tolist()
        cv2.rectangle(small, corners[:2], corners[2:], COLOURS[(category - 1) % len(COLOURS)], 2, cv2.LINE_AA)
    tile = np.full((height, height, 3), 255, dtype=np.uint8)
    top, left = (height - small.shape[0]) // 2, (height - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile


def main() -> None:
    """Write the sheet of the rendered demo's test split; a picture that was changed by hand stops it."""
    with output_file(Path("docs/pictures/demo.jpg"), inputs=[Path("data")]) as temporary:
        sheet = draw_sheet(Path("data/rendered"), "test", columns=9, skip=6, height=140)
        temporary.write_bytes(cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


if __name__ == "__main__":
    run_stage(main)
