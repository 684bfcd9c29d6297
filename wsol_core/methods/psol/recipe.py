"""PSOL's network: the box regression."""

from functools import partial
from pathlib import Path

from wsol_core.core.files import SCORED_BOXES, read_table
from wsol_core.data.index import ImageIndex
from wsol_core.engine.inference import Predict
from wsol_core.engine.recipe import MapRecipe
from wsol_core.engine.targets import Targets
from wsol_core.engine.training import Loss
from wsol_core.methods.psol.network import BoxRegression, PsolParams, box_loss, build, psol_maps, relative_boxes


class PsolRecipe(MapRecipe[PsolParams]):
    """The regression: pseudo boxes in, boxes as maps out."""

    params = PsolParams
    needs_pseudo_labels = True

    def build(self, params: PsolParams, classes: int) -> BoxRegression:
        """The regression; it knows no classes."""
        del classes
        return build(params)

    def targets(self, params: PsolParams, index: ImageIndex) -> Targets:
        """The pseudo boxes of `learns_from`."""
        del index
        return partial(relative_boxes, read_table(Path(params.learns_from), SCORED_BOXES)[0])

    def loss(self, params: PsolParams, index: ImageIndex) -> Loss:
        """Squared error."""
        del params, index
        return box_loss

    def maps(self, params: PsolParams) -> Predict:
        """The boxes as maps."""
        del params
        return psol_maps


RECIPES = {"psol": PsolRecipe()}
