"""WSFL's networks: the foreground pixel classifier."""

from functools import partial
from pathlib import Path

from wsol_core.core import oracle_names
from wsol_core.data.index import ImageIndex
from wsol_core.engine.inference import Predict
from wsol_core.engine.recipe import MapRecipe
from wsol_core.engine.targets import Targets, images_with_maps
from wsol_core.engine.training import Loss
from wsol_core.heads.pixel_loss import pixel_labels
from wsol_core.methods.wsfl.foreground import (
    ForegroundParams,
    PixelClassifier,
    build,
    foreground_loss,
    foreground_maps,
)


class ForegroundRecipe(MapRecipe[ForegroundParams]):
    """The pixel classifier: low-resolution masks in, foreground maps out (WSFL 3.4)."""

    params = ForegroundParams
    needs_pseudo_labels = True

    def build(self, params: ForegroundParams, classes: int) -> PixelClassifier:
        """The classifier; it knows no classes."""
        del classes
        return build(params)

    def images(self, params: ForegroundParams, index: ImageIndex) -> ImageIndex:
        """All images, of an oracle's masks those that have one: it may be drawn for some alone."""
        masks = Path(params.learns_from)
        return images_with_maps(index, masks) if masks.name.startswith(oracle_names.PREFIX) else index

    def targets(self, params: ForegroundParams, index: ImageIndex) -> Targets:
        """The masks of `learns_from`."""
        del index
        return pixel_labels(Path(params.learns_from), params.image_weights)

    def loss(self, params: ForegroundParams, index: ImageIndex) -> Loss:
        """Binary cross entropy."""
        del index
        return partial(foreground_loss, weights=params.image_weights)

    def maps(self, params: ForegroundParams) -> Predict:
        """Foreground maps."""
        del params
        return foreground_maps


RECIPES = {"foreground": ForegroundRecipe()}
