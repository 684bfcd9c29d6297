"""Saliency: gradients against differences and by hand, the median against a naive one, constant answers, the stage."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from stages import maps as maps_stage
from tests.small_project import entry, write_params, write_set
from wsol_core.backbones.create import Backbone, BackboneParams, OnBackbone
from wsol_core.backbones.pyramid import Chain, Pyramid, Statistics
from wsol_core.core.map_store import CLASS_AGNOSTIC, MapStore
from wsol_core.data.index import ImageIndex
from wsol_core.engine.checkpoints import save_checkpoint
from wsol_core.engine.training_params import TrainingParams
from wsol_core.methods.two_phase.phases import PhaseParams, build
from wsol_core.methods.two_phase.saliency import gradients, median, saliency_maps


class Net(OnBackbone):
    """Two convolutions with a smooth bend, and class scores from the average of the second."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = [("one", nn.Conv2d(3, 4, 3, 2, 1)), ("bend", nn.Tanh()), ("two", nn.Conv2d(4, 5, 3, 2, 1))]
        plain = Statistics((0.5, 0.4, 0.3), (0.2, 0.3, 0.5), "bilinear")
        super().__init__(Backbone(Pyramid(Chain(layers, ("bend", "two")), (4, 5), (2, 4), plain)))
        self.classify = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.rest(self.backbone(images)[-1])

    def rest(self, features: Tensor) -> Tensor:
        scores: Tensor = self.classify(torch.tanh(features).mean((2, 3)))
        return scores


def scores(model: OnBackbone, images: Tensor) -> Tensor:
    answer: Tensor = model(images)
    return answer


def pictures(*sides: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, *sides), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("frozen", [False, True])
def test_gradient_is_that_of_the_sum_of_the_scores_at_the_features(frozen: bool) -> None:
    model = Net().requires_grad_(not frozen)
    with torch.no_grad():
        found = gradients(model, pictures(12, 16), scores, -2)
        features = model.backbone(pictures(12, 16))[-2].double()
    assert found.shape == features.shape == (2, 4, 6, 8)
    model.double()
    for place in [(0, 0, 0, 0), (1, 3, 2, 5), (0, 2, 5, 7)]:
        shift = torch.zeros_like(features)
        shift[place] = 1e-4
        two = model.backbone.network.get_submodule("two")
        up, down = (model.rest(two(features + sign * shift)).sum().item() for sign in (1, -1))
        assert found[place].item() == pytest.approx((up - down) / 2e-4, rel=1e-3, abs=1e-7)


def test_nothing_is_left_on_the_network() -> None:
    model = Net()
    gradients(model, pictures(12, 12), scores, -1)
    with pytest.raises(ZeroDivisionError):
        gradients(model, pictures(12, 12), lambda *_: torch.ones(1 // 0), -1)
    assert not model.backbone._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_median_against_a_naive_one() -> None:
    maps = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0))
    padded = np.pad(maps.numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    for b, y, x in np.ndindex(2, 4, 5):
        assert median(maps)[b, y, x] == np.median(padded[b, y : y + 3, x : x + 3])
    assert median(torch.full((1, 1, 1), 0.5)).tolist() == [[[0.5]]]


def test_maps_are_shares_of_their_maximum() -> None:
    maps = saliency_maps(Net(), pictures(24, 16), torch.zeros(2, 0), scores, -2)
    assert maps.shape == (2, 1, 12, 8)
    assert maps.amax((1, 2, 3)).tolist() == [1, 1]
    strength = gradients(Net(), pictures(24, 16), scores, -2).abs().amax(1)
    assert torch.allclose(maps[1, 0] * median(strength)[1].max(), median(strength)[1])


def test_scores_that_hang_on_nothing_give_zeros() -> None:
    maps = saliency_maps(Net(), pictures(8, 8), torch.zeros(2, 0), lambda m, x: 0 * m(x), -1)
    assert (maps == 0).all()


def test_stage_asks_the_network_of_a_first_phase(
    small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(small_index, "detection")
    training = TrainingParams(epochs=1, batch=8, lr_backbone=0.01, lr_head=0.01, image_side=32, precision="32-true")
    backbone = BackboneParams(name="mobilenetv3_small_050", weights="none")
    phase = PhaseParams(set="detection", backbone=backbone, training=training, output_stride=16, width=8, saliency=-1)
    model = build(phase, 2).eval()
    config = entry("two_phase", "first", phase)
    save_checkpoint(Path("data/models/one.safetensors"), model.state_dict(), config, small_index.classes)
    write_params({"one": config})
    maps_stage.main("one", "detection", "data/detection/index.parquet")
    with MapStore(Path("data/detection/outputs/one/saliency.h5")) as maps:
        assert maps.image_ids.tolist() == small_index.table["image_id"].tolist()
        assert set(maps.labels.tolist()) == {CLASS_AGNOSTIC}
        assert maps.shape == (2, 2)
        assert maps[0].max() == 1


@pytest.mark.parametrize("level", [0, 1])
def test_levels_are_counted_from_the_end(level: int) -> None:
    content = {
        "backbone": {"name": "vgg16", "weights": "none"},
        "training": {"epochs": 1, "lr_backbone": 0, "lr_head": 0},
    }
    with pytest.raises(ValidationError, match="saliency"):
        PhaseParams.model_validate(content | {"saliency": level})
