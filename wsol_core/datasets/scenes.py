"""Photographs composed from cut-outs and landscapes, with exact masks.

`data/demo/assets.csv` assigns each cut-out and each landscape to one split: no object and no place of the test split is
seen in training. The detection set's splits keep to their own assets; both training splits of the localization set
are drawn from the same ones, since what is chosen on train-fullsup must hold for images like the training images.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, field_validator

from wsol_core.core.errors import InputError
from wsol_core.core.params import Block
from wsol_core.data.index import SPLITS, TEST
from wsol_core.datasets import composition
from wsol_core.datasets.composition import Array, Mask

BACKGROUND = "background"
TURN = {"bird": 15, "mammal": 10, "fish": 25, "vehicle": 8, "fruit": 180, "vegetable": 180, "flower": 180}
ASPECTS = ((1, 1), (1, 0.75), (0.75, 1))
ENLARGEMENT = 1.25
ATTEMPTS = 20
PATCH_ZOOM = (1.0, 1.6)


class SetParams(Block):
    """One set of composed photographs."""

    classes: tuple[str, ...] = Field(min_length=1)
    """Class names, as in `assets.csv`; their order is that of the labels."""
    train_weaksup: int = Field(ge=0)
    """Images of the split train-weaksup."""
    train_fullsup: int = Field(ge=0)
    """Images of the split train-fullsup."""
    test: int = Field(ge=0)
    """Images of the split test."""
    side: int = Field(ge=32)
    """Longer side of an image, pixels."""
    objects: tuple[int, int]
    """Fewest and most objects in an image."""
    extent: tuple[float, float]
    """Smallest and largest object: its longer side as a share of the image's."""

    @field_validator("objects", "extent")
    @classmethod
    def _is_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("needs 0 < fewest (smallest) <= most (largest)")
        return value

    def count(self, split: str) -> int:
        """Number of images of one split."""
        return int(getattr(self, split.replace("-", "_")))


class DemoParams(Block):
    """The composed demo."""

    seed: int = Field(default=0, ge=0)
    """Seed of every picture."""
    jpeg_quality: int = Field(default=88, ge=50, le=100)
    """Quality of the JPEG files."""
    visible: float = Field(default=0.6, gt=0, le=1)
    """Least share of an object that the frame and the other objects leave visible."""
    clutter: float = Field(default=0.5, ge=0, le=1)
    """Share of images with pasted patches of other landscapes, which are no objects."""
    backgrounds: int = Field(default=120, ge=0)
    """Pictures of background alone, from the places of train-weaksup."""
    localization: SetParams
    """The set with one label per image."""
    detection: SetParams
    """The set with several objects per image."""


@dataclass(frozen=True)
class Scene:
    """A composed picture.

    Attributes:
        image: `(h, w, 3)` uint8, RGB.
        masks: `(n, h, w)` bool, the visible part of each object.
        labels: `n` positions in the set's classes.
    """

    image: npt.NDArray[np.uint8]
    masks: Mask
    labels: list[int]


@dataclass(frozen=True)
class Assets:
    """The parts that one split of one set may use.

    Attributes:
        cutouts: for each class, the cut-outs that can fill the smallest extent without being enlarged too far.
        places: the landscapes.
    """

    cutouts: list[list[Array]]
    places: list[Array]


def splits_of_assets(name: str, split: str) -> tuple[str, ...]:
    """The splits of `assets.csv` from which one split of the set `name` is composed."""
    if name == "localization" and split != TEST:
        return tuple(other for other in SPLITS if other != TEST)
    return (split,)


@lru_cache(maxsize=8)
def read_assets(folder: Path, splits: tuple[str, ...], params: SetParams) -> Assets:
    """Read the assets of `splits` that `params` can use, in the order of the file.

    Raises:
        InputError: a class has no cut-out in these splits that is large enough, or they have fewer than two places.
    """
    table = pd.read_csv(folder / "assets.csv")
    table = table[table["split"].isin(splits)]
    named = " and ".join(splits)
    least = params.extent[0] * params.side / ENLARGEMENT
    cutouts = []
    for name in params.classes:
        every = [composition.read_cutout(folder / file) for file in table.loc[table["class"] == name, "file"]]
        cutouts.append([cutout for cutout in every if max(cutout.shape[:2]) >= least])
        if not cutouts[-1]:
            raise InputError(f"{folder}/assets.csv: no cut-out of {name!r} in {named} has {least:.0f} pixels or more")
    places = [composition.read_picture(folder / file) for file in table.loc[table["class"] == BACKGROUND, "file"]]
    if len(places) < 2:
        raise InputError(f"{folder}/assets.csv: {named} has {len(places)} backgrounds; it needs two or more")
    return Assets(cutouts, places)


@dataclass
class _Canvas:
    """A picture in the making: `owner` is the number of the object seen at each pixel, 0 for none."""

    picture: Array
    owner: npt.NDArray[np.uint8]
    areas: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add_patch(self, rng: np.random.Generator, other: Array) -> None:
        """Paste a soft-edged patch of another landscape, partly outside at times."""
        height, width = self.owner.shape
        w, h = (int(n) for n in rng.uniform(0.12, 0.45, 2) * max(width, height))
        alpha = composition.blob(rng, w, h)[..., None]
        patch = np.concatenate([composition.crop(rng, other, w, h, PATCH_ZOOM) * alpha, alpha], axis=2)
        x, y = int(rng.integers(-w // 2, width - w // 2)), int(rng.integers(-h // 2, height - h // 2))
        under = self.picture[max(y, 0) : y + h, max(x, 0) : x + w]
        lit = composition.relight(rng, patch, under, 0.8)
        self.picture = composition.paste(rng, self.picture, composition.spread(lit, x, y, width, height))

    def add_object(self, rng: np.random.Generator, layer: Array, label: int, visible: float) -> bool:
        """Paste a cut-out anywhere, hanging over the frame by up to 8 % of itself; False if it hides too much."""
        (height, width), (h, w) = self.owner.shape, layer.shape[:2]
        x, y = round(rng.uniform(-0.08 * w, width - 0.92 * w)), round(rng.uniform(-0.08 * h, height - 0.92 * h))
        frame = composition.spread(layer, x, y, width, height)
        solid = frame[..., 3] > composition.SOLID
        areas = [*self.areas, int((layer[..., 3] > composition.SOLID).sum())]
        owner = np.where(solid, np.uint8(len(areas)), self.owner)
        if (np.bincount(owner.ravel(), minlength=len(areas) + 1)[1:] < visible * np.array(areas)).any():
            return False
        under = self.picture[max(y, 0) : y + h, max(x, 0) : x + w]
        self.picture = composition.paste(rng, self.picture, composition.relight(rng, frame, under, 0.3))
        self.owner, self.areas, self.labels = owner, areas, [*self.labels, label]
        return True


def compose(rng: np.random.Generator, assets: Assets, params: SetParams, demo: DemoParams, first: int | None) -> Scene:
    """Compose one picture.

    Args:
        rng: the picture's own generator.
        assets: the parts of the picture's split.
        params: the set.
        demo: the whole demo.
        first: label of the first object (the others are drawn), or None for background alone.

    An object of which too much would be hidden, or that would hide too much of another, is drawn anew, up to
    `ATTEMPTS` times; then it is left out.
    """
    width, height = (int(params.side * share) for share in ASPECTS[rng.integers(len(ASPECTS))])
    chosen, *others = rng.permutation(len(assets.places))
    place = assets.places[chosen]
    zoom = min(place.shape[:2]) / params.side
    view = composition.crop(rng, place, width, height, (0.6 * zoom, zoom))
    canvas = _Canvas(view, np.zeros((height, width), dtype=np.uint8))
    if rng.random() < demo.clutter:
        for other in rng.choice(others, rng.integers(1, 3)):
            canvas.add_patch(rng, assets.places[other])
    wanted = 0 if first is None else int(rng.integers(params.objects[0], params.objects[1] + 1))
    for label in [first, *rng.integers(len(params.classes), size=wanted)][:wanted]:
        any(
            canvas.add_object(
                rng, _draw_layer(rng, assets, params, int(label), width, height), int(label), demo.visible
            )
            for _ in range(ATTEMPTS)
        )
    masks = canvas.owner == np.arange(1, len(canvas.areas) + 1, dtype=np.uint8)[:, None, None]
    return Scene(composition.finish(rng, canvas.picture), masks, canvas.labels)


def _draw_layer(
    rng: np.random.Generator, assets: Assets, params: SetParams, label: int, width: int, height: int
) -> Array:
    """A cut-out of the class, flipped or not, turned, at a random extent.

    Cut-outs are drawn in proportion to the largest extent that their resolution allows.
    """
    cutouts, (smallest, largest) = assets.cutouts[label], (share * params.side for share in params.extent)
    reach = np.minimum([max(cutout.shape[:2]) * ENLARGEMENT for cutout in cutouts], largest)
    chosen = rng.choice(len(cutouts), p=reach / reach.sum())
    cutout = cutouts[chosen][:, :: rng.choice([1, -1])]
    angle = rng.uniform(-1, 1) * TURN[params.classes[label]]
    longest = rng.uniform(smallest, reach[chosen])
    return composition.turn(cutout, angle, scale_for(cutout, angle, longest, width, height))


def scale_for(cutout: Array, angle: float, longest: float, width: int, height: int) -> float:
    """The scale at which the turned cut-out's longer side is `longest` pixels.

    At most `ENLARGEMENT`, and at most what fits 95 % of either side of the image.
    """
    across, down = composition.extent(cutout, angle)
    return float(min(longest / max(across, down), 0.95 * width / across, 0.95 * height / down, ENLARGEMENT))
