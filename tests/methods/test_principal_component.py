"""The principal component against scikit-learn, from a stream and from a block, and its sign."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

import wsol_core.methods.ddt.principal_component as principal_component
from wsol_core.methods.ddt.colocalization import indicator_scores, pseudo_box
from wsol_core.methods.ddt.principal_component import Component, Moments, block_component, orient


def features_with_object(count: int = 6, channels: int = 5) -> Tensor:
    """Noise `(B, C, 6, 8)` with one strong direction in the middle of the map."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(count, channels, 6, 8, generator=generator)
    features[:, :5, 2:4, 3:6] += 4 * torch.tensor([1.0, -1, 2, 0, 1])[:, None, None]
    return features


def streamed_component(features: Tensor) -> Component:
    """From two images at a time."""
    moments = Moments(features.shape[1])
    for part in features.split(2):
        moments.add(part)
    return moments.component()


both = pytest.mark.parametrize("component_of", [streamed_component, block_component])
ComponentOf = Callable[[Tensor], Component]


@both
@pytest.mark.parametrize("channels", [5, 40])
def test_component_equals_pca_of_all_descriptors(component_of: ComponentOf, channels: int) -> None:
    features = features_with_object(channels=channels)
    found = component_of(features)
    descriptors = features.permute(0, 2, 3, 1).reshape(-1, channels).numpy()
    expected = PCA(n_components=1).fit(descriptors)
    assert np.allclose(found.mean.numpy(), expected.mean_, atol=1e-5)
    assert abs(float(found.direction.numpy() @ expected.components_[0])) == pytest.approx(1, abs=1e-5)


@both
def test_component_of_a_block_larger_than_a_product_takes_every_descriptor(component_of: ComponentOf) -> None:
    features = torch.cat([features_with_object(), 3 * features_with_object(40).flip(0)])
    assert features[:, 0].numel() > 2 * principal_component.ROWS
    descriptors = features.permute(0, 2, 3, 1).reshape(-1, 5).numpy()
    expected = PCA(n_components=1).fit(descriptors).components_[0]
    assert abs(float(component_of(features).direction.numpy() @ expected)) == pytest.approx(1, abs=1e-5)


@both
def test_projection_is_positive_on_the_object_whatever_the_eigensolver_says(component_of: ComponentOf) -> None:
    features = features_with_object()
    projection = component_of(features).project(features)
    assert projection[:, 2:4, 3:6].mean() > 0 > projection[:, 0].mean()


@both
def test_constant_features_project_to_nothing(component_of: ComponentOf) -> None:
    features = torch.full((2, 4, 3, 3), 0.3)
    component = component_of(features)
    assert torch.isfinite(component.direction).all()
    assert component.project(features).abs().max() < 1e-6


def boxes(projections: Tensor) -> np.ndarray:
    """Of images of 80 x 60, where projections are positive."""
    scores = indicator_scores([projections], otsu=0).numpy().astype(np.float16)
    return np.stack([pseudo_box(each, 80, 60) for each in scores])


@both
@pytest.mark.parametrize("sign", [1, -1])
def test_flipped_eigenvector_gives_the_same_boxes(
    component_of: ComponentOf, sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = features_with_object()
    expected = boxes(component_of(features).project(features))
    solve = vars(principal_component)["eigsh"]

    def flipped(*args: object, **kwargs: object) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = solve(*args, **kwargs)
        return values, sign * vectors

    monkeypatch.setattr(principal_component, "eigsh", flipped)
    found = boxes(component_of(features).project(features))
    assert np.array_equal(found, expected)
    assert expected[0].tolist() == [30, 20, 60, 40]


def test_orient_by_hand() -> None:
    direction, contrast = torch.tensor([1.0, -2.0]), torch.tensor([1.0, 1.0])
    assert orient(direction, contrast).tolist() == [-1, 2]
    assert orient(-direction, contrast).tolist() == [-1, 2]


def test_projection_by_hand() -> None:
    component = Component(mean=torch.tensor([1.0, 0.0]), direction=torch.tensor([0.6, 0.8]))
    features = torch.tensor([2.0, 5.0]).view(1, 2, 1, 1)
    assert float(component.project(features)) == pytest.approx(0.6 * 1 + 0.8 * 5)
