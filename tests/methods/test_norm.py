"""The norm of features as a map."""

import pytest
import torch
from pydantic import ValidationError

from wsol_core.backbones.create import Backbone
from wsol_core.backbones.pyramid import TORCHVISION, Pyramid
from wsol_core.methods.norm.recipe import NormNet, NormParams, norm_maps


class Given(torch.nn.Module):
    """Features that do not depend on the images."""

    def __init__(self, *levels: torch.Tensor) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, _: torch.Tensor) -> list[torch.Tensor]:
        return list(self.levels)


def net(*levels: torch.Tensor, level: int = -1) -> NormNet:
    pyramid = Pyramid(Given(*levels), tuple(each.shape[1] for each in levels), (8,) * len(levels), TORCHVISION)
    return NormNet(Backbone(pyramid), level)


def test_norms_are_shares_of_each_images_largest() -> None:
    """Norms 5, 0 and 10, 2.5 of vectors of two channels; the second image has half of them."""
    features = torch.tensor([[[[3.0, 0], [6, 1.5]], [[4.0, 0], [-8, 2]]]])
    both = torch.cat([features, features / 2])
    maps = norm_maps(net(both), torch.zeros(2, 3, 16, 16), torch.zeros(2, 1))
    assert maps.shape == (2, 1, 2, 2)
    assert maps[0, 0].tolist() == maps[1, 0].tolist() == [[0.5, 0], [1, 0.25]]


def test_silent_features_give_zeros() -> None:
    maps = norm_maps(net(torch.zeros(1, 4, 3, 2)), torch.zeros(1, 3, 16, 16), torch.zeros(1, 1))
    assert maps.shape == (1, 1, 3, 2)
    assert float(maps.abs().max()) == 0


def test_a_level_is_counted_from_the_end() -> None:
    deep, shallow = torch.ones(1, 2, 1, 1), torch.ones(1, 2, 4, 4)
    images = torch.zeros(1, 3, 16, 16)
    assert net(shallow, deep)(images).shape == (1, 1, 1)
    assert net(shallow, deep, level=-2)(images).shape == (1, 4, 4)


def test_there_is_nothing_to_train() -> None:
    training = {"lr_head": 0.0, "lr_backbone": 0.0}
    assert NormParams.model_validate({"training": {"epochs": 0, **training}}).level == -1
    with pytest.raises(ValidationError, match=r"training\.epochs: 2: the norm has nothing to train; set 0"):
        NormParams.model_validate({"training": {"epochs": 2, **training}})
