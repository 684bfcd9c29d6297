"""The classifier that names what others localize."""

from collections.abc import Callable, Mapping

from torch import Tensor

from wsol_core.backbones.create import OnBackbone
from wsol_core.core.errors import InputError
from wsol_core.data.index import ImageIndex
from wsol_core.engine.recipe import Answer, LabelRecipe, Output
from wsol_core.engine.training import Loss
from wsol_core.methods.classifier.network import (
    Classifier,
    ClassifierParams,
    build,
    class_probabilities,
    classification_loss,
)


class ClassifierRecipe(LabelRecipe[ClassifierParams]):
    """The classifier: image labels in, class scores out; it has no maps."""

    params = ClassifierParams

    def build(self, params: ClassifierParams, classes: int) -> Classifier:
        """The classifier."""
        return build(params, classes)

    def loss(self, params: ClassifierParams, index: ImageIndex) -> Loss:
        """Cross entropy."""
        del params, index
        return classification_loss

    def outputs(self, params: ClassifierParams, classes: int) -> Mapping[str, Output]:
        """Class scores."""
        del params, classes
        return {"classes": Output(class_probabilities, kind="classes")}

    def look(self, params: ClassifierParams) -> Callable[[OnBackbone, Tensor], Answer]:
        """Nothing: a classifier says nothing of where.

        Raises:
            InputError: always.
        """
        raise InputError(f"{params.method}: a classifier has no maps; name a network that localizes")


RECIPES = {"classifier": ClassifierRecipe()}
