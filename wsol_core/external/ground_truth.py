"""Ground truth in any of the layouts in which it is published."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from wsol_core.core.errors import InputError, nearest
from wsol_core.core.texts import read_json
from wsol_core.data.images import MAX_PIXELS, displayed_size
from wsol_core.data.index import TEST, read_annotations, read_index
from wsol_core.data.paths import is_inside
from wsol_core.datasets.listing import NAMED, VOID, DataParams, InstanceMask, Listing
from wsol_core.datasets.readers import coco, cub
from wsol_core.external import metadata_folder, voc_xml
from wsol_core.external.checked_boxes import check_boxes
from wsol_core.external.names import ImageNames

LONGEST_SIDE = 1_000_000
"""Pixels that an image of a ground truth may say to be wide or high."""

LAYOUTS = (
    "a COCO .json file, a folder of VOC .xml files or VOC's ImageSets/Main/SET.txt, the folder CUB_200_2011, "
    "a folder with image_ids.txt, class_labels.txt, image_sizes.txt and localization.txt, or a data set of the pipeline"
)

Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Truth:
    """What predictions are held against.

    Attributes:
        images: `image_id`, `width`, `height`, `labels` (list of int, positions in `classes`), sorted by id, each once.
        boxes: `image_id`, `label`, `x0, y0, x1, y1` (float32, half-open pixels), `difficult`; sorted by image.
        classes: class names.
        mask: from an image id to its foreground, uint8 `(H, W)`, 1 inside an object, 255 ignored; None without one.
        image_numbers: ids by the numbers, or texts, that COCO gives to images.
        class_numbers: positions in `classes` by the numbers that the layout gives to classes; empty where it has none.
        cut: how many boxes reached outside their image.
        left_out: boxes that are none, see `CheckedBoxes`.
        elsewhere: ids of the layout's images in other splits, or not wanted; what is predicted for them is passed over.
        not_predicted: how many images `only` has left out; None where all count.
    """

    images: pd.DataFrame
    boxes: pd.DataFrame
    classes: tuple[str, ...]
    mask: Callable[[str], Mask | None]
    image_numbers: dict[int | str, str] = field(default_factory=dict)
    class_numbers: dict[int | str, int] = field(default_factory=dict)
    cut: int = 0
    left_out: pd.DataFrame = field(default_factory=pd.DataFrame)
    elsewhere: frozenset[str] = frozenset()
    not_predicted: int | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many objects were cut off, and left out; and how many images, where not all count."""
        counts = {"objects_cut": self.cut, "objects_left_out": len(self.left_out)}
        return counts if self.not_predicted is None else counts | {"images_left_out": self.not_predicted}

    def only(self, predicted: Iterable[str]) -> "Truth":
        """The truth of those of its images that are among `predicted`, by id; the others count for nothing.

        Raises:
            InputError: there is none.
        """
        wanted = set(predicted) - self.elsewhere
        images = self.images[self.images["image_id"].isin(wanted)].reset_index(drop=True)
        if not len(images):
            raise InputError("--only-predicted: nothing is predicted for any image of the ground truth")
        others = frozenset(self.images["image_id"]) - wanted
        boxes = self.boxes[~self.boxes["image_id"].isin(others)].reset_index(drop=True)
        left_out = self.left_out[~self.left_out["image_id"].isin(others)] if len(self.left_out) else self.left_out
        return replace(
            self,
            images=images,
            boxes=boxes,
            left_out=left_out,
            elsewhere=self.elsewhere | others,
            not_predicted=len(others),
        )

    @property
    def names(self) -> ImageNames:
        """Finds an image, of this split or another, by what a file calls it."""
        return ImageNames([*self.images["image_id"], *self.elsewhere], self.image_numbers)

    def find_class(self, name: object, place: object) -> int:
        """The position of the class that has this name, or this number.

        Raises:
            InputError: there is no such class; it is named with the nearest.
        """
        text = str(name)
        if text in self.classes and not isinstance(name, int):
            return self.classes.index(text)
        number = int(text) if text.isdecimal() else text
        if number in self.class_numbers:
            return self.class_numbers[number]
        raise InputError(f"{place}: unknown class {text!r}{self._known_classes(text)}")

    def _known_classes(self, text: str) -> str:
        """What may have been meant: the nearest name, or the numbers that there are."""
        numbers = list(map(str, self.class_numbers))
        if not text.isdecimal() or not numbers:
            return nearest(text, self.classes)
        shown = ", ".join([*numbers[:NAMED], *(["..."] if len(numbers) > NAMED else [])])
        why = "; numbers that count from 0 are positions in a detector's own list of classes" if text == "0" else ""
        return f"; the ground truth numbers its classes {shown}{why}: give its numbers, or the names"


def read_ground_truth(path: Path, mask_root: Path | None = None, split: str = TEST) -> Truth:
    """Read the ground truth at `path`; the layout is known by its files.

    - COCO JSON: a file. Sizes and numbers from it; masks from its segmentations.
    - VOC: a folder of `.xml` files (or one that has them in `Annotations/`), all of which count; or an image set,
      `ImageSets/Main/test.txt`. Masks from `SegmentationObject/`.
    - CUB: the folder of its authors; the images of `split`. Sizes from `images/`, masks from `segmentations/`.
    - The metadata folder of "Evaluating Weakly Supervised Object Localization Methods Right", of one split;
      paths of masks count from `mask_root`, by default the folder itself.
    - `data/SET` of this pipeline, after `prepare`; the images of `split`.

    Raises:
        InputError: another layout, a missing or malformed file, an image twice, a path outside the root, or boxes of
            another convention (see `checked_boxes`).
    """
    if path.suffix == ".json" and path.is_file():
        return _checked(_coco(path), path)
    if path.suffix == ".txt" and path.parent.name == "Main" and path.is_file():
        return _checked(_of_listing(*voc_xml.read_set(path)), path)
    if (path / "image_ids.txt").is_file():
        return _checked(_metadata(path, mask_root or path), path)
    for mark, reader in _FOLDERS.items():
        if (path / mark).is_file():
            return _checked(reader(path, split), path)
    if path.is_dir() and (folder := voc_xml.find_folder(path)):
        return _checked(_of_listing(*voc_xml.read_folder(folder)), path)
    raise InputError(f"{path}: no ground truth; it may be {LAYOUTS}")


def _checked(truth: Truth, path: Path) -> Truth:
    images, boxes = truth.images.sort_values("image_id", ignore_index=True), truth.boxes.reset_index(drop=True)
    if not len(images):
        splits = f" of this split; it has {len(truth.elsewhere)} in others" if truth.elsewhere else " in it"
        raise InputError(f"{path}: no image{splits}")
    if (twice := images["image_id"].duplicated()).any():
        raise InputError(f"{path}: image {images['image_id'][twice].iloc[0]!r} stands in it twice")
    wrong = boxes[~boxes["label"].between(0, len(truth.classes) - 1)]
    if len(wrong):
        raise InputError(f"{path}: image {wrong['image_id'].iloc[0]!r} has a box of an unknown class")
    checked = check_boxes(boxes, images, path)
    boxes = checked.boxes.sort_values("image_id", kind="stable", ignore_index=True)
    return replace(truth, images=images, boxes=boxes, cut=checked.cut, left_out=checked.left_out)


def _coco(path: Path) -> Truth:
    params = DataParams(name="coco", source="coco", reader="coco", splits={TEST: path.name})
    listing = coco.read(path.parent, params)
    content = read_json(path)
    try:
        shapes = [(int(image["width"]), int(image["height"])) for image in content["images"]]
        if any(not 1 <= side <= LONGEST_SIDE for shape in shapes for side in shape):
            raise ValueError(f"a width or height outside 1 to {LONGEST_SIDE}")
        sizes = pd.DataFrame(shapes, columns=["width", "height"]).assign(image_id=listing.images["image_id"])
        numbers = dict(zip((coco.plain_id(image["id"]) for image in content["images"]), sizes["image_id"], strict=True))
        classes = {coco.plain_id(each["id"]): listing.classes.index(each["name"]) for each in content["categories"]}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: an image without id, file_name, width or height ({error!r})") from error
    if listing.problems:
        raise InputError(f"{path}: image {listing.problems[0].image_id!r}: {listing.problems[0].reason}")
    return _of_listing(listing, sizes, numbers, classes)


def _cub(root: Path, split: str) -> Truth:
    listing = cub.read(root, DataParams(name="CUB", source="cub", reader="cub"))
    chosen = listing.images["split"] == split
    images = listing.images[chosen]
    shapes = [_picture_size(root, path) for path in images["path"]]
    sizes = pd.DataFrame(shapes, columns=["width", "height"]).assign(image_id=images["image_id"].to_numpy())
    return replace(_of_listing(listing, sizes), elsewhere=frozenset(listing.images.loc[~chosen, "image_id"]))


def _picture_size(root: Path, path: str) -> tuple[int, int]:
    if not is_inside(root, path):
        raise InputError(f"{root}: {path!r} is a path outside the root")
    return displayed_size(root / path)


def _prepared(root: Path, split: str) -> Truth:
    index = read_index(root / "index.parquet")
    images = index.split(split)
    boxes = read_annotations(root / "truth" / "annotations.parquet")
    kept = boxes[boxes["image_id"].isin(images["image_id"])]

    partly = _partly_masked(kept)

    def mask(name: str) -> Mask | None:
        file = root / "truth" / "masks" / f"{name}.png"
        if name in partly or not file.is_file():
            return None
        with Image.open(file, formats=["PNG"]) as picture:
            return _foreground(np.asarray(picture))

    elsewhere = frozenset(index.table["image_id"]) - frozenset(images["image_id"])
    return Truth(images, kept, index.classes, mask, elsewhere=elsewhere)


def _metadata(root: Path, mask_root: Path) -> Truth:
    images, boxes, classes, mask = metadata_folder.read(root, mask_root)
    return Truth(images, boxes, classes, mask, class_numbers={int(name): int(name) for name in classes})


def _of_listing(
    listing: Listing,
    sizes: pd.DataFrame,
    image_numbers: dict[int | str, str] | None = None,
    class_numbers: dict[int | str, int] | None = None,
) -> Truth:
    """The truth of the images in `sizes` (`image_id`, `width`, `height`)."""
    images = listing.images[["image_id", "labels"]].drop_duplicates("image_id").merge(sizes, on="image_id")
    kept = listing.annotations[listing.annotations["image_id"].isin(images["image_id"])]

    partly = _partly_masked(kept)
    giant = frozenset(images.loc[images["width"] * images["height"] > MAX_PIXELS, "image_id"])

    def mask(name: str) -> Mask | None:
        if name in giant and name not in partly:
            raise InputError(f"image {name!r}: more than {MAX_PIXELS} pixels, so its mask is not painted")
        try:
            instances: InstanceMask | None = None if name in partly else listing.masks(name)
        except Exception as error:  # a broken file or segmentation can raise anything
            raise InputError(f"image {name!r}: its mask is not readable ({error})") from error
        return None if instances is None else _foreground(instances)

    return Truth(images, kept, listing.classes, mask, image_numbers or {}, class_numbers or {})


def _foreground(instances: InstanceMask) -> Mask:
    return np.where(instances == VOID, VOID, instances > 0).astype(np.uint8)


def _partly_masked(boxes: pd.DataFrame) -> frozenset[str]:
    """The images with an object that has no mask: half a truth would count correct pixels as wrong."""
    return frozenset(boxes.loc[boxes["instance"] == 0, "image_id"])


_FOLDERS: dict[str, Callable[[Path, str], Truth]] = {
    "bounding_boxes.txt": _cub,
    "index.parquet": _prepared,
}
