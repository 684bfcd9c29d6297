"""Score maps of any method: a folder of `.npy` and PNG files, or one HDF5 file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt
from PIL import Image

from wsol_core.core.errors import InputError
from wsol_core.core.hdf5 import dataset
from wsol_core.core.map_store import CLASS_AGNOSTIC, Kind
from wsol_core.data.paths import image_id, is_inside, walk

FULL_SCALE = {"1": 1, "L": 255, "I;16": 65535, "I;16B": 65535, "I": 65535}
"""The value that means 1, by mode of a PNG."""

ROUNDING = 1e-6
"""How far a score may lie outside [0, 1], as sums and upsampling leave it; it is clipped."""

ScoreMap = npt.NDArray[np.float32]


class ScoreMaps(Protocol):
    """Maps by name and label.

    Attributes:
        place: where they come from, for messages.
        names: the images' names as the source writes them, sorted, each once.
    """

    place: Path
    names: Sequence[str]

    def labels(self, name: str) -> Sequence[int]:
        """The labels for which an image has a map; -1 is the class-agnostic one."""
        ...

    def read(self, name: str, label: int) -> ScoreMap:
        """The map `(h, w)` float32 in [0, 1] of an image for one of its `labels`.

        Raises:
            InputError: it is damaged, of another shape, not finite or outside [0, 1]; the image is named.
        """
        ...


@contextmanager
def open_maps(path: Path) -> Iterator[ScoreMaps]:
    """Open a folder of maps, or an HDF5 file of them.

    - Folder: `NAME.npy`, `(h, w)` or `(1, h, w)`, or `NAME.png`, grey of 1, 8 or 16 bits, its full scale meaning 1; of
      any size, in subfolders if wanted. Nothing is unpickled, no link is followed out of the folder.
    - HDF5: `maps (M, h, w)` or `(M, 1, h, w)`, and `image_id (M,)`, if wanted `label (M,)`: a map store of this
      project, or a plain file.

    Raises:
        InputError: there is nothing of this kind, or an image has two maps.
    """
    if path.is_dir():
        yield _FolderMaps(path)
        return
    if not path.is_file():
        raise InputError(f"{path}: neither a folder of .npy or .png maps nor an HDF5 file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not a readable HDF5 file ({error}); maps are a folder or one HDF5 file") from error
    with file:
        yield _FileMaps(path, file)


def agnostic(maps: ScoreMaps, name: str, label: int | None) -> ScoreMap | None:
    """The map of an image whatever the source has.

    Its map for `label`; else its class-agnostic one; else, with `label` None, the maximum over its labels; else None.
    """
    known = maps.labels(name)
    for wanted in (label, CLASS_AGNOSTIC):
        if wanted in known and wanted is not None:
            return maps.read(name, wanted)
    if label is not None:
        return None
    return np.asarray(np.max([maps.read(name, each) for each in known], axis=0), dtype=np.float32)


def checked(raw: npt.NDArray[Any], place: object) -> ScoreMap:
    """`raw` as float32, if it is a score map; leading dimensions of one, as of a batch or a channel, go.

    Raises:
        InputError: it is not a 2-D array of numbers, empty, not finite, or outside [0, 1]; `place` is named.
    """
    while raw.ndim > 2 and len(raw) == 1:
        raw = raw[0]
    if raw.dtype.kind not in "fiub" or raw.ndim != 2 or raw.size == 0:
        raise InputError(f"{place}: a map must be numbers of shape (h, w), here {raw.dtype} of shape {raw.shape}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        score_map = raw.astype(np.float32)
    if not np.isfinite(score_map).all():
        raise InputError(f"{place}: the map has values that are not finite (NaN or infinite)")
    low, high = float(raw.min()), float(raw.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise InputError(f"{place}: the map's values must lie in [0, 1], here from {low:.9g} to {high:.9g}; scale them")
    return np.clip(score_map, 0, 1)


def refuse_transposed(score_map: ScoreMap, width: int, height: int, place: object) -> None:
    """Refuse a map whose shape is an image's with width for height.

    Raises:
        InputError: it is; `place` is named.
    """
    if width != height and score_map.shape == (width, height):
        raise InputError(
            f"{place}: the map is transposed: its shape is {score_map.shape}, but the image has {height} rows of "
            f"{width} pixels; maps are (height, width)"
        )


class _FolderMaps:
    """One class-agnostic map per file."""

    def __init__(self, root: Path) -> None:
        self.place = root
        self._files: dict[str, str] = {}
        for file in sorted(path for path in walk(root) if path.endswith((".npy", ".png"))):
            name = image_id(file)
            if not is_inside(root, file):
                raise InputError(f"{root / file}: the link leads out of the folder; copy the file")
            if name in self._files:
                raise InputError(f"{root / file}: image {name!r} has a second map, {self._files[name]}; remove one")
            self._files[name] = file
        if not self._files:
            raise InputError(f"{root}: no .npy or .png map in it")
        self.names: Sequence[str] = list(self._files)

    def labels(self, name: str) -> Sequence[int]:
        return [CLASS_AGNOSTIC] if name in self._files else []

    def read(self, name: str, label: int) -> ScoreMap:  # noqa: ARG002
        path = self.place / self._files[name]
        try:
            raw = np.load(path, "r", allow_pickle=False) if path.suffix == ".npy" else _read_png(path)
        except Exception as error:  # a broken file can raise anything inside a decoder
            raise InputError(f"{path}: not a readable map ({error})") from error
        if not isinstance(raw, np.ndarray):
            raise InputError(f"{path}: holds several arrays; a map is one array per .npy file")
        return checked(raw, path)


def _read_png(path: Path) -> npt.NDArray[Any]:
    with Image.open(path, formats=["PNG"]) as picture:
        if picture.mode not in FULL_SCALE:
            raise ValueError(f"a PNG of mode {picture.mode}; save a grey one")
        return np.asarray(picture, dtype=np.float32) / FULL_SCALE[picture.mode]


class _FileMaps:
    """Rows of an HDF5 file."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.place = path
        try:
            self._maps = dataset(file, "maps", (3, 4), "fiub")
            ids, shape = dataset(file, "image_id", 1, "OSiu"), self._maps.shape
            names = (ids.asstr()[:] if h5py.check_string_dtype(ids.dtype) else ids[:].astype(str)).tolist()
            labels = dataset(file, "label", 1, "iu")[:].tolist() if "label" in file else [CLASS_AGNOSTIC] * len(names)
        except Exception as error:  # a broken file can raise anything inside HDF5
            raise InputError(f"{path}: needs the datasets maps (M, h, w) and image_id (M,) ({error})") from error
        if file.attrs.get("kind") == Kind.TRISTATE.value:
            raise InputError(f"{path}: tri-state labels, not score maps")
        if shape[0] != len(names) or len(labels) != len(names):
            raise InputError(f"{path}: maps of shape {shape} for {len(names)} image_id and {len(labels)} label")
        self._rows: dict[str, dict[int, int]] = {}
        for row, (name, label) in enumerate(zip(names, labels, strict=True)):
            if label in self._rows.setdefault(name, {}):
                raise InputError(f"{path}: image {name!r} has two maps for label {label}")
            self._rows[name][label] = row
        if not names:
            raise InputError(f"{path}: no map in it")
        self.names: Sequence[str] = sorted(self._rows)

    def labels(self, name: str) -> Sequence[int]:
        return sorted(self._rows.get(name, ()))

    def read(self, name: str, label: int) -> ScoreMap:
        try:
            raw = self._maps[self._rows[name][label]]
        except Exception as error:  # a broken file can raise anything inside HDF5
            raise InputError(f"{self.place}: damaged at image {name!r} ({error})") from error
        return checked(raw, f"{self.place}: image {name!r}")
