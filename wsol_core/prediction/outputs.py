"""Predictions as files: for every image a JSON, a mask and an overlay, each whole or not there at all.

    OUT/settings.json          the method, its threshold, how maps become boxes, the digest of the network
    OUT/images/NAME.json       written last: an image that has it is done
    OUT/masks/NAME.png         k on the object of the k-th box, 0 elsewhere, the image's size
    OUT/overlays/NAME.jpg      mask and boxes over the picture, its longer side at most 1024 pixels
    OUT/predictions.json       all images of the last run

A later run with the same settings passes over the images that are done and have not changed since. Other files in OUT
stay as they are; see `written_files` for what may be replaced.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_json
from wsol_core.core.written_files import WrittenFiles
from wsol_core.data.images import Picture, decode
from wsol_core.prediction.predictor import Prediction, Predictor, Seen
from wsol_core.prediction.sources import Source
from wsol_core.visualization.class_colours import COLOURS
from wsol_core.visualization.pictures import note, outline, shrink, stretch, write_jpeg

OVERLAY_SIDE = 1024
TINT = 0.5
SETTINGS = "settings.json"
PREDICTIONS = "predictions.json"
WRITER = "wsol predict"
"""Whose files these are, in the folder's list of written files."""

Record = dict[str, Any]


class Outputs:
    """Writes predictions below a folder.

    Args:
        folder: the output.
        predictor: whose predictions.
        overwrite: whether outputs of other settings, and files of the user, may be replaced.
        inputs: files that the predictions are made of, which are never replaced.

    Raises:
        InputError: the folder is a file, or holds predictions of other settings and `overwrite` is not set.
    """

    def __init__(self, folder: Path, predictor: Predictor, overwrite: bool, inputs: Iterable[Path]) -> None:
        self._folder, self._predictor = folder, predictor
        self._settings = {**predictor.card.model_dump(mode="json", exclude={"made_by"}), "network": predictor.digest}
        self._key = hashlib.blake2b(json.dumps(self._settings, sort_keys=True).encode(), digest_size=8).hexdigest()
        self._files = WrittenFiles(folder, WRITER, overwrite, inputs)
        self._files.check([SETTINGS, PREDICTIONS])
        path = folder / SETTINGS
        if not overwrite and path.exists() and _read(path) != self._settings:
            raise InputError(
                f"--out {folder}: holds predictions of other settings (see {path}); choose another folder, or say "
                "--overwrite"
            )

    def start(self, sources: Iterable[Source]) -> None:
        """Check that all files of some images may be written, and write the settings.

        Raises:
            InputError: a file would replace a user's file or an input.
        """
        self._files.check(name for source in sources for name in _names(source))
        self._write_json(SETTINGS, self._settings)

    def done(self, source: Source) -> Record | None:
        """What was written of an image, if that is done and the file has not changed since."""
        path = self._folder / _names(source)[0]
        record = _read(path)
        if not record or record.get("settings") != self._key or record.get("image") != str(source.path):
            return None
        try:
            return record if path.stat().st_mtime_ns >= source.path.stat().st_mtime_ns else None
        except OSError:
            return None

    def write(self, source: Source, seen: Seen) -> Record:
        """Write what was seen of an image, its JSON last.

        Raises:
            InputError: the file is no usable image.
        """
        picture = decode(source.path)
        height, width = picture.shape[:2]
        found = self._predictor.locate(seen, width, height)
        own, mask, overlay = _names(source)
        with self._files.writing(mask) as temporary:
            Image.fromarray(found.mask).save(temporary, format="PNG")
        with self._files.writing(overlay) as temporary:
            write_jpeg(temporary, draw(picture, found))
        record = {
            "image": str(source.path),
            "name": source.name,
            "width": width,
            "height": height,
            "boxes": [
                {"box": [round(float(side), 3) for side in box], "score": round(float(score), 6)}
                for box, score in zip(found.boxes, found.scores, strict=True)
            ],
            "label": found.label,
            "probability": None if found.probability is None else round(found.probability, 6),
            "mask": mask,
            "overlay": overlay,
            "method": self._predictor.card.method,
            "threshold": self._predictor.card.threshold,
            "scale": self._predictor.card.scale,
            "settings": self._key,
        }
        self._write_json(own, record)
        return record

    def finish(self, records: list[Record], failed: list[Record]) -> None:
        """Write `predictions.json`: all images of a run, and those that could not be read."""
        self._write_json(PREDICTIONS, {"settings": self._settings, "images": records, "failed": failed})
        self._files.shorten_list()

    def _write_json(self, name: str, content: Record) -> None:
        with self._files.writing(name) as temporary:
            temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def draw(picture: Picture, found: Prediction) -> Picture:
    """The picture, reduced, with each object tinted in a colour of its own, its box in the same, and the class."""
    height, width = picture.shape[:2]
    drawn = shrink(picture, OVERLAY_SIDE) if max(height, width) > OVERLAY_SIDE else picture
    mask = stretch(found.mask, *drawn.shape[:2])
    tinted = np.where(mask[:, :, None] > 0, (1 - TINT) * drawn + TINT * COLOURS[mask], drawn)
    drawn = np.round(tinted).astype(np.uint8)
    thickness = max(2, max(drawn.shape) // 250)
    for instance, box in enumerate(found.boxes, start=1):
        red, green, blue = COLOURS[1 + (instance - 1) % (len(COLOURS) - 1)].tolist()
        drawn = outline(drawn, box[None], width, height, (255, 255, 255), thickness + 2)
        drawn = outline(drawn, box[None], width, height, (red, green, blue), thickness)
    text = "" if found.label is None else f"{found.label} {found.probability or 0:.0%}"
    return note(drawn, text) if text else drawn


def _names(source: Source) -> tuple[str, str, str]:
    """An image's JSON, mask and overlay, below the output folder."""
    return f"images/{source.name}.json", f"masks/{source.name}.png", f"overlays/{source.name}.jpg"


def _read(path: Path) -> Record:
    """A JSON object, empty where the file is missing or damaged."""
    try:
        content = read_json(path)
    except (OSError, InputError):
        return {}
    return content if isinstance(content, dict) else {}
