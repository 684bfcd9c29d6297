"""Masks of any stage at the images' own size: of score maps, of pseudo masks and labels, of segmentations.

A mask is `(height, width)` uint8 as VOC has it: 0 background, 1 + label on a class, 255 where nothing is said. What is
class-agnostic has the image's label where that is one, else the class `object` behind the others. Scores are enlarged
(bilinear, the centres of pixels aligned) and cut at a threshold; masks and labels are enlarged without mixing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC, IGNORE, Kind, MapStore
from wsol_core.core.parallel import in_threads
from wsol_core.core.params import load
from wsol_core.core.regions import Scale, rescale, upsample
from wsol_core.data.index import ImageIndex, read_index
from wsol_core.data.paths import leaves_root
from wsol_core.export.coco import ClassMask
from wsol_core.export.results import OBJECT, chosen_images, find_result, own_labels
from wsol_core.localization.localize import LocalizeParams, Threshold, check_chosen, read_calibration
from wsol_core.visualization.class_colours import COLOURS
from wsol_core.visualization.pictures import stretch

LabelMask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class MaskResults:
    """Masks of a stage.

    Attributes:
        source: of the masks, as asked for.
        images: rows of the image index, all that were asked for, with masks or not, by id.
        classes: names; the last is `object`, where there may be masks without a class.
        read: from an image's id, width and height to its mask; zeros of one without.
    """

    source: str
    images: pd.DataFrame
    classes: tuple[str, ...]
    read: Callable[[str, int, int], LabelMask]

    def by_image(self) -> Iterator[tuple[str, LabelMask]]:
        """Every image's id with its mask, made in threads."""

        def make(image_id: str, width: int, height: int) -> tuple[str, LabelMask]:
            return image_id, self.read(image_id, width, height)

        rows: Iterator[tuple[str, int, int]] = self.images[["image_id", "width", "height"]].itertuples(
            index=False, name=None
        )
        yield from tqdm(in_threads(make, rows), "masks", len(self.images), unit="mask", disable=None)

    def by_class(self) -> Iterator[ClassMask]:
        """Every class in every image; pixels of which nothing is said belong to none."""
        for image_id, mask in self.by_image():
            for value in np.unique(mask[(mask > 0) & (mask < IGNORE)]).tolist():
                yield image_id, value - 1, (mask == value).astype(np.uint8)


def read_masks(set_name: str, source: str, splits: Sequence[str] = (), threshold: float | None = None) -> MaskResults:
    """The masks of a stage.

    Args:
        set_name: `localization` or `detection`.
        source: a method (of `outputs/`), or the path of a map store below `data/SET`, without `.h5`:
            `targets/pseudo_masks`, `outputs/bcct/branch`, ...; or of a folder of masks, `segments/NAME`.
        splits: whose images; none for all.
        threshold: of score maps; None for the method's calibrated one.

    Raises:
        InputError: there is no such result, it is damaged, or score maps have no threshold.
    """
    check_chosen(threshold)
    folder = Path("data", set_name)
    index = read_index(folder / "index.parquet")
    images = chosen_images(index, splits)
    classes = (*index.classes, OBJECT)
    if len(classes) >= IGNORE:
        raise InputError(f"data set {index.name!r} has {len(index.classes)} classes; masks can tell {IGNORE - 2} apart")
    if Path(source).parts[:-1] == ("segments",) and (folder / source).is_dir():
        return MaskResults(source, images, index.classes, lambda *image: _read_png(folder / source, *image))
    path = find_result(folder, source, ("outputs/{}/maps.h5", "targets/{}.h5", "{}.h5"))
    store = MapStore(path)
    agnostic = store.kind is not Kind.LABELS and (store.labels == CLASS_AGNOSTIC).any()
    cut = _threshold(path, threshold) if store.kind is Kind.SCORE else Threshold(0.0, "value")
    painter = Painter(store, index, cut.value, cut.scale)
    used = agnostic and len(index.classes) in painter.own.values()
    return MaskResults(source, images, classes if used else index.classes, painter.paint)


def _threshold(path: Path, threshold: float | None) -> Threshold:
    """Of the score maps at `path`: the calibrated one of their method, or one chosen by hand, of the same scale.

    Raises:
        InputError: none is chosen and none is calibrated.
    """
    calibrated = Path(f"data/localization/thresholds/{path.parent.name}.json")
    if path.name == "maps.h5" and calibrated.is_file():
        found = read_calibration(calibrated)
        return found if threshold is None else replace(found, value=threshold)
    if threshold is None:
        raise InputError(f"{path}: no threshold is calibrated for these maps; give --threshold")
    return Threshold(threshold, load(LocalizeParams, "localize").scale)


class Painter:
    """Makes the mask of an image from its rows in a map store."""

    def __init__(self, store: MapStore, index: ImageIndex, threshold: float, scale: Scale) -> None:
        self._store, self._threshold, self._scale = store, threshold, scale
        self.own = own_labels(index.table, index.classes)
        rows = pd.Series(np.arange(len(store))).groupby(pd.Series(store.image_ids, dtype=object))
        self._rows: dict[str, list[int]] = {str(name): group.tolist() for name, group in rows}

    def paint(self, image_id: str, width: int, height: int) -> LabelMask:
        """The mask of an image of `width x height`; where classes overlap, the one of the higher value wins."""
        mask = np.zeros((height, width), dtype=np.uint8)
        best = np.zeros((height, width), dtype=np.float32)
        for row in self._rows.get(image_id, []):
            found, label = self._store[row], int(self._store.labels[row])
            if self._store.kind is Kind.LABELS:
                return stretch(found, height, width).astype(np.uint8)
            value = 1 + (self.own[image_id] if label == CLASS_AGNOSTIC else label)
            if self._store.kind is Kind.SCORE:
                scores = rescale(upsample(found, height, width), self._scale)
                wins = (scores > np.float32(self._threshold)) & ((mask == 0) | (scores > best))
                best = np.where(wins, scores, best)
                mask[wins] = value
            else:
                large = stretch(found, height, width)
                mask[(large == IGNORE) & (mask == 0)] = IGNORE
                mask[large == 1] = value
        return mask


def write_pngs(results: MaskResults, folder: Path) -> int:
    """Write `IMAGE_ID.png` for every image, with a palette as VOC's masks, and `classes.txt`; how many there are.

    Raises:
        InputError: an image's id leads out of the folder.
    """
    if outside := [name for name in results.images["image_id"] if leaves_root(name)]:
        raise InputError(f"image {outside[0]!r}: an id that leads out of the folder; prepare the data set again")
    count = 0
    for image_id, mask in results.by_image():
        path = folder / f"{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(mask)
        picture.putpalette(np.vstack([COLOURS[:IGNORE], [[224, 224, 192]]]).astype(np.uint8).tobytes())
        picture.save(path)
        count += 1
    names = ("background", *results.classes)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return count


def _read_png(folder: Path, image_id: str, width: int, height: int) -> LabelMask:
    path = folder / f"{image_id}.png"
    if not path.is_file():
        return np.zeros((height, width), dtype=np.uint8)
    with Image.open(path, formats=["PNG"]) as picture:
        mask = np.array(picture, dtype=np.uint8)
    if mask.shape != (height, width):
        raise InputError(f"{path}: not a mask of {width} x {height} pixels; run `dvc repro segments` again")
    return mask
