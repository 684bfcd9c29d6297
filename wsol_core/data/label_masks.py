"""Folders of label masks: a PNG per image whose pixels are class numbers."""

import copy
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_text
from wsol_core.data.paths import image_id, is_inside, walk

Labels = npt.NDArray[np.uint8]


class LabelMasks:
    """The label masks below a folder, read one at a time.

    A mask is a PNG with a palette or in grey of 8 bits, its pixels class numbers (as in VOC's `SegmentationClass`).

    Attributes:
        root: the folder.
        image_ids: paths below it without suffix, sorted.

    Raises:
        InputError: there is no mask, or a link leads out of the folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"{root}: not a folder of PNG label masks")
        files = sorted(path for path in walk(root) if path.lower().endswith(".png"))
        if outside := [path for path in files if not is_inside(root, path)]:
            raise InputError(f"{root / outside[0]}: the link leads out of the folder; copy the file")
        if not files:
            raise InputError(f"{root}: no PNG label mask in it")
        self.root = root
        self._files = {image_id(path): path for path in files}
        self.image_ids = sorted(self._files)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.image_ids)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def only(self, names: Container[str]) -> "LabelMasks":
        """The masks of some images."""
        chosen = copy.copy(self)
        chosen._files = {name: path for name, path in self._files.items() if name in names}
        chosen.image_ids = sorted(chosen._files)
        return chosen

    def path(self, name: str) -> Path:
        """The file of one mask."""
        return self.root / self._files[name]

    def read(self, name: str) -> Labels:
        """The class numbers `(H, W)` of one mask.

        Raises:
            InputError: it is not a readable PNG with a palette or in grey of 8 bits.
        """
        path = self.path(name)
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                mode, labels = picture.mode, np.asarray(picture)
        except Exception as error:  # a broken file can raise anything inside a decoder
            raise InputError(f"{path}: not a readable PNG ({error})") from error
        if mode not in ("L", "P"):
            raise InputError(f"{path}: a PNG of mode {mode}; label masks have a palette or are grey, 8 bits")
        return labels


def read_class_names(path: Path) -> tuple[str, ...]:
    """Class names, one per line, in the order of their numbers in the masks (0 is the background, as a rule).

    Raises:
        InputError: the file is missing, empty, or names a class twice.
    """
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise InputError(f"{path}: class names, one per line, each once")
    return names
