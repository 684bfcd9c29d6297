"""What a kind of network is to the pipeline: one object that every stage and every command asks.

A method is a folder of `wsol_core/methods`; its module `recipe` holds `RECIPES`, the method's networks by name. The
stages `train` and `maps`, `wsol predict`, `export` and `doctor`, and the tests know networks through this alone.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from wsol_core.backbones.create import OnBackbone
from wsol_core.core import params as parameters
from wsol_core.core.errors import InputError, nearest
from wsol_core.data.index import ImageIndex
from wsol_core.engine.checkpoints import checkpoint_params, load_checkpoint, restore
from wsol_core.engine.inference import AGNOSTIC, Predict, Rows
from wsol_core.engine.targets import Targets, class_labels
from wsol_core.engine.training import Loss
from wsol_core.engine.training_params import NetworkParams

P = TypeVar("P", bound=NetworkParams)
METHODS = "wsol_core.methods"
"""The package whose folders are methods: not imported here, as a stage depends on its own method's folder alone."""
METHODS_FOLDER = Path(__file__).parents[1] / "methods"


class Answer(NamedTuple):
    """What a network says of B images whose labels are not known."""

    maps: Tensor
    """`(B, h, w)` in [0, 1]: where the object is"""
    classes: Tensor | None
    """`(B, C)` probabilities, which need not sum to 1 where an image may show several; None of a network without"""


@dataclass(frozen=True)
class Output:
    """A file of a network's outputs.

    Attributes:
        predict: from the model, images and their labels to maps `(B, M, h, w)` or to class probabilities `(B, C)`.
        rows: labels under which the M maps of an image are stored.
        kind: maps of all images (`.h5`), of a few images for pictures (`.h5`), or class scores (`.parquet`).
    """

    predict: Predict
    rows: Rows = AGNOSTIC
    kind: Literal["maps", "pictures", "classes"] = "maps"


class Recipe(ABC, Generic[P]):
    """A kind of network."""

    params: ClassVar[type[NetworkParams]]
    """what an entry of `networks:` holds"""
    needs_gradients: ClassVar[bool] = False
    """whether `look` differentiates, which an exported graph cannot"""
    needs_pseudo_labels: ClassVar[bool] = False
    """whether it learns from the file that `learns_from` names, not from image labels alone"""

    def needs_images(self, params: P) -> bool:  # noqa: ARG002
        """Whether it must see the images themselves: cached features have no pixels and no gradient towards them."""
        return self.needs_gradients

    @abstractmethod
    def build(self, params: P, classes: int) -> OnBackbone:
        """The untrained network on its pretrained backbone."""

    def images(self, params: P, index: ImageIndex) -> ImageIndex:  # noqa: ARG002
        """The images to train on: those of the index, unless the network asks for more.

        Raises:
            InputError: the data set does not suit the network.
        """
        return index

    @abstractmethod
    def targets(self, params: P, index: ImageIndex) -> Targets:
        """What the network learns from, by rows of an index."""

    @abstractmethod
    def loss(self, params: P, index: ImageIndex) -> Loss:
        """The loss of a batch."""

    @abstractmethod
    def outputs(self, params: P, classes: int) -> Mapping[str, Output]:
        """The files of `data/SET/outputs/NAME`, by their names without suffix; most have `maps`."""

    @abstractmethod
    def look(self, params: P) -> Callable[[OnBackbone, Tensor], Answer]:
        """What the network says of images `(B, 3, H, W)` whose labels are not known."""


class LabelRecipe(Recipe[P]):
    """A network that learns the one label of each image."""

    def images(self, params: P, index: ImageIndex) -> ImageIndex:
        """Images of one label each."""
        del params
        return index.single_label()

    def targets(self, params: P, index: ImageIndex) -> Targets:
        """The labels."""
        del params, index
        return class_labels


class MapRecipe(Recipe[P]):
    """A network whose class-agnostic maps are all that it says."""

    @abstractmethod
    def maps(self, params: P) -> Predict:
        """From the model and images to maps `(B, 1, h, w)`; labels play no part."""

    def outputs(self, params: P, classes: int) -> Mapping[str, Output]:
        """The maps."""
        del classes
        return {"maps": Output(self.maps(params))}

    def look(self, params: P) -> Callable[[OnBackbone, Tensor], Answer]:
        """The maps."""
        return look_at_maps(self.maps(params))


class TrainedNetwork(NamedTuple):
    """A network from a checkpoint."""

    model: OnBackbone
    recipe: "Recipe[Any]"
    params: NetworkParams
    classes: tuple[str, ...]


def find_recipe(method: str, network: str = "") -> "Recipe[Any]":
    """The recipe of one of a method's networks.

    Args:
        method: a folder of `wsol_core/methods`.
        network: its name; may be empty where the method has one network.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    known = method_names()
    if method not in known:
        raise InputError(f"no method {method!r}{nearest(method, known)}; there are {', '.join(known)}")
    recipes: dict[str, Recipe[Any]] = importlib.import_module(f"{METHODS}.{method}.recipe").RECIPES
    if not network and len(recipes) == 1:
        return next(iter(recipes.values()))
    if network not in recipes:
        raise InputError(f"method {method!r} has no network {network!r}; it has {', '.join(recipes)}")
    return recipes[network]


def method_names() -> list[str]:
    """The folders of `wsol_core/methods` that define networks."""
    return sorted(path.parent.name for path in METHODS_FOLDER.glob("*/recipe.py"))


def all_recipes() -> "dict[tuple[str, str], Recipe[Any]]":
    """Every recipe by method and network."""
    found = {name: importlib.import_module(f"{METHODS}.{name}.recipe").RECIPES for name in method_names()}
    return {(name, network): recipe for name, recipes in found.items() for network, recipe in recipes.items()}


def entry_recipe(entry: Any, place: str) -> "Recipe[Any]":
    """The recipe that an entry of `networks:` asks for.

    Raises:
        InputError: the entry names no method, or an unknown one; `place` stands before the message.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
        raise InputError(f"{place}: names no method; add method: one of {', '.join(method_names())}")
    try:
        return find_recipe(entry["method"], str(entry.get("network") or ""))
    except InputError as error:
        raise InputError(f"{place}.method: {error}") from error


def load_entry(name: str) -> "tuple[Recipe[Any], NetworkParams]":
    """The entry `networks.NAME` of the parameters, with its recipe.

    Raises:
        InputError: it is missing, or not as its recipe wants it.
    """
    block = f"networks.{name}"
    recipe = entry_recipe(parameters.content(block), f"{parameters.PARAMS}: {block}")
    return recipe, parameters.load(recipe.params, block)


def load_network(path: Path) -> TrainedNetwork:
    """The trained network of a checkpoint, in evaluation mode.

    Raises:
        InputError: the file is no checkpoint of a network of `networks:`.
    """
    found = load_checkpoint(path)
    if not found.config.get("method"):
        raise InputError(f"{path}: names no method, so it is of another version or a detector's; train it again")
    recipe = entry_recipe(found.config, str(path))
    params = checkpoint_params(path, found, recipe.params)
    model = recipe.build(params, len(found.classes))
    restore(model, found.tensors, path)
    return TrainedNetwork(model.eval(), recipe, params, found.classes)


def no_labels(images: Tensor) -> Tensor:
    """Labels `(B, 1)` of images of which none is known: -1."""
    return torch.full((images.shape[0], 1), -1, device=images.device)


def look_at_maps(predict: Predict) -> Callable[[OnBackbone, Tensor], Answer]:
    """The answer of a network without classes: the first map of `predict`, for which labels play no part."""
    return lambda model, images: Answer(predict(model, images, no_labels(images))[:, 0], None)
