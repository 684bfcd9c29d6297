"""PSOL's network: the box regression."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from wsol_core.backbones.create import OnBackbone
from wsol_core.core.files import read_table
from wsol_core.data.index import ImageIndex
from wsol_core.engine.recipe import Answer, Output, Recipe, look_at_maps
from wsol_core.engine.targets import Targets
from wsol_core.engine.training import Loss
from wsol_core.methods.psol.network import BoxRegression, PsolParams, box_loss, build, psol_maps, relative_boxes


class PsolRecipe(Recipe[PsolParams]):
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
        return partial(relative_boxes, read_table(Path(params.learns_from))[0])

    def loss(self, params: PsolParams, index: ImageIndex) -> Loss:
        """Squared error."""
        del params, index
        return box_loss

    def outputs(self, params: PsolParams, classes: int) -> Mapping[str, Output]:
        """The boxes as maps."""
        del params, classes
        return {"maps": Output(psol_maps)}

    def look(self, params: PsolParams) -> Callable[[OnBackbone, Tensor], Answer]:
        """The boxes as maps; labels play no part."""
        del params
        return look_at_maps(psol_maps)


RECIPES = {"psol": PsolRecipe()}
