"""SEC's segmentation network."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from wsol_core.backbones.create import OnBackbone
from wsol_core.data.index import ImageIndex
from wsol_core.engine.recipe import Answer, Output, Recipe, look_at_maps
from wsol_core.engine.targets import Targets, stored_maps
from wsol_core.engine.training import Loss
from wsol_core.methods.sec.network import LargeFov, SecParams, build, image_cues, label_maps, label_rows, sec_loss


class SecRecipe(Recipe[SecParams]):
    """SEC: localization cues in, probabilities of background and classes out."""

    params = SecParams
    needs_pseudo_labels = True

    def needs_images(self, params: SecParams) -> bool:
        """The CRF of the constrain loss sees their colours."""
        return "constrain" in params.losses

    def build(self, params: SecParams, classes: int) -> LargeFov:
        """DeepLab-LargeFOV."""
        return build(params, classes)

    def targets(self, params: SecParams, index: ImageIndex) -> Targets:
        """The cues of `learns_from` with the labels."""
        return image_cues(stored_maps(Path(params.learns_from)), len(index.classes))

    def loss(self, params: SecParams, index: ImageIndex) -> Loss:
        """Seed, expand and constrain, as `losses` says."""
        del index
        return partial(sec_loss, params=params)

    def outputs(self, params: SecParams, classes: int) -> Mapping[str, Output]:
        """Maps of the foreground and of every class."""
        del params
        return {"maps": Output(label_maps, label_rows(classes))}

    def look(self, params: SecParams) -> Callable[[OnBackbone, Tensor], Answer]:
        """The map of the foreground."""
        del params
        return look_at_maps(label_maps)


RECIPES = {"sec": SecRecipe()}
