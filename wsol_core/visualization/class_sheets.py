"""Contact sheets of images of several classes: heat maps with their peaks, cues and label masks (Two-Phase Figs. 3-7).

Figs. 3 and 4, saliency and the location that each network predicts, become one sheet, with a row per image and class.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from wsol_core.core.map_store import MapStore
from wsol_core.data.class_masks import ClassMasks
from wsol_core.data.index import TEST, TRAIN_WEAKSUP
from wsol_core.data.label_masks import LabelMasks
from wsol_core.metrics.saliency import peak
from wsol_core.metrics.segmentation import Confusion
from wsol_core.visualization.class_colours import class_colour, legend, paint
from wsol_core.visualization.contact_sheets import Draw, Report, Row, draw_image, draw_store, labelled
from wsol_core.visualization.pictures import Picture, mark, note

RADIUS, RIM = 5, 4
"""Of a peak's disc in pixels of the tile, and by how much the next store's disc is larger, to be seen behind it."""


def heat_maps(report: Report, stores: Mapping[str, MapStore]) -> Picture | None:
    """Test images, each with a class that it shows and the map of this class from every store (Figs. 3 and 4).

    A map's peak is a disc in the store's colour; over the image alone stand those of all stores, the first on top. None
    where no store has a map of a test image that shows a class.
    """
    ids = set().union(*(store.image_ids for store in stores.values()))
    columns = {"image": _draw_peaks(stores)}
    for number, (name, store) in enumerate(stores.items()):
        columns[name] = _draw_map(store, number)
    pairs = report.choose_classes(TEST, ids)
    return report.steps(pairs, columns, [report.index.classes[label] for label in pairs["label"]])


def _draw_peaks(stores: Mapping[str, MapStore]) -> Draw:
    def draw(row: Row, picture: Picture) -> Picture:
        for number, store in reversed(list(enumerate(stores.values()))):
            picture = _mark_peak(store, row, picture, number, RADIUS + RIM * number)
        return picture

    return draw


def _draw_map(store: MapStore, number: int) -> Draw:
    over = draw_store(store)

    def draw(row: Row, picture: Picture) -> Picture | None:
        drawn = over(row, picture)
        return None if drawn is None else _mark_peak(store, row, drawn, number, RADIUS)

    return draw


def _mark_peak(store: MapStore, row: Row, picture: Picture, number: int, radius: int) -> Picture:
    """The picture with the peak of the image's map, if there is one; a map of zeros has none."""
    scores = store.find(row.image_id, row.label)
    if scores is None or not scores.any():
        return picture
    x, y, _ = peak(scores, row.width, row.height, row.image_id)
    return mark(picture, x, y, row.width, row.height, class_colour(number), radius)


def segmentations(
    report: Report, cues: Mapping[str, MapStore], masks: Mapping[str, LabelMasks], truth: ClassMasks
) -> Iterator[tuple[str, Picture]]:
    """Sheets by name: images of both splits with cues, label masks and the true ones; best and worst cases (Figs. 5-7).

    A column per method, so that methods are compared on one image; a mask bears its IoU in the image (`image_iou`).

    Args:
        report: of which images.
        cues: by method, `Kind.LABELS`; methods without cues are missing.
        masks: by method.
        truth: the true masks; without any there are no cases.

    Raises:
        InputError: a mask is damaged, or has another size than its image or an unknown class.
    """
    classes = report.index.classes
    columns: dict[str, Draw] = {"image": draw_image}
    columns |= {f"cues of {name}": draw_store(store) for name, store in cues.items()}
    columns |= {name: _draw_mask(own, truth, len(classes)) for name, own in masks.items()}
    columns["truth"] = _draw_truth(truth)
    chosen = {f"segments-{split}": report.choose(split) for split in (TRAIN_WEAKSUP, TEST)}
    for name, own in masks.items():
        ends = report.ends(_rank(own, truth, len(classes), name))
        chosen |= zip((f"{name}-best", f"{name}-worst"), ends, strict=True)
    for name, images in chosen.items():
        picture = report.steps(images, columns)
        if picture is not None:
            yield name, np.vstack([picture, legend(classes, picture.shape[1])])


def image_iou(predicted: npt.NDArray[np.integer], truth: npt.NDArray[np.integer], classes: int, name: str) -> float:
    """Mean IoU within one image, over the classes that truth or prediction shows, background among them.

    (The data set's mean IoU counts pixels of all images together: this one ranks images.)

    Args:
        predicted: `(H, W)`, 0 background and 1 + label on a class.
        truth: `(H, W)`, likewise, and 255 where a pixel does not count.
        classes: their number, without the background.
        name: the image, for errors.

    Returns:
        0 to 1; NaN where no pixel counts.

    Raises:
        InputError: shapes differ, or a mask holds an unknown class.
    """
    confusion = Confusion(1 + classes)
    confusion.add(predicted, truth, name)
    return confusion.figures().miou


def _rank(masks: LabelMasks, truth: ClassMasks, classes: int, name: str) -> pd.DataFrame:
    """The test images with a mask and a true one, and their `iou`."""
    images = truth.images[(truth.images["split"] == TEST) & truth.images["image_id"].isin(masks.image_ids)]
    ids = tqdm(images["image_id"], f"cases of {name}", unit="mask", disable=None)
    ious = [image_iou(masks.read(each), truth.read(each), classes, str(masks.path(each))) for each in ids]
    return labelled(images).assign(iou=np.array(ious, dtype=np.float64)).dropna(subset="iou")


def _draw_mask(masks: LabelMasks, truth: ClassMasks, classes: int) -> Draw:
    def draw(row: Row, picture: Picture) -> Picture | None:
        if row.image_id not in masks:
            return None
        labels = masks.read(row.image_id)
        drawn = paint(picture, labels)
        if row.image_id not in truth:
            return drawn
        iou = image_iou(labels, truth.read(row.image_id), classes, str(masks.path(row.image_id)))
        return note(drawn, f"IoU {iou:.2f}")

    return draw


def _draw_truth(truth: ClassMasks) -> Draw:
    def draw(row: Row, picture: Picture) -> Picture | None:
        return paint(picture, truth.read(row.image_id)) if row.image_id in truth else None

    return draw
