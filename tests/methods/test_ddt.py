"""DDT on features: thresholds, views, sources, layers, components and agreement, by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional

from tests.feature_files import write_store
from wsol_core.core.errors import InputError
from wsol_core.core.map_store import CLASS_AGNOSTIC
from wsol_core.data.index import ImageIndex
from wsol_core.engine.devices import launch
from wsol_core.engine.feature_store import FeatureStore
from wsol_core.engine.features import View, view_of
from wsol_core.methods.ddt.colocalization import (
    Colocalizer,
    DDTParams,
    Found,
    Source,
    agreement,
    indicator_scores,
    merged,
    otsu_threshold,
    projections,
    pseudo_box,
)
from wsol_core.methods.ddt.principal_component import Component

VIEWS: tuple[View, ...] = ("plain", "mirrored", "turned")
COUNT = 12


def test_scores_put_zero_at_one_half_and_intersect_layers() -> None:
    fine = torch.tensor([[[-2.0, 0.0], [1.0, 2.0]]])
    coarse = torch.tensor([[[-1.0]]])
    assert indicator_scores([fine], otsu=0)[0].tolist() == [[0, 0.5], [0.75, 1]]
    assert indicator_scores([fine, coarse], otsu=0)[0].tolist() == [[0, 0], [0, 0]]
    assert indicator_scores([torch.zeros(1, 1, 3)], otsu=0)[0].tolist() == [[0.5, 0.5, 0.5]]


def test_otsu_equals_a_search_over_all_thresholds() -> None:
    maps = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)) ** 3
    for score_map, found in zip(maps, otsu_threshold(maps).flatten().tolist(), strict=True):
        values = score_map.flatten().double().numpy()

        def between(threshold: float, values: np.ndarray = values) -> float:
            low, high = values[values <= threshold], values[values > threshold]
            return float(len(low) * len(high) * (low.mean() - high.mean()) ** 2)

        ordered = np.sort(values)
        assert between(found) == pytest.approx(max(between(t) for t in ordered[:-1]))
        assert not np.isin(found, ordered)


@pytest.mark.parametrize(("share", "threshold"), [(0, 0), (0.75, 3), (1, 4)])
def test_the_threshold_is_a_share_of_otsus(share: float, threshold: float) -> None:
    """Otsu's threshold of these is 4."""
    projection = torch.tensor([[[-2.0, -1.0, 0.0, 8.0, 3.5, 0.0]]])
    assert float(otsu_threshold(projection)) == (3.5 + 0) / 2
    projection = torch.tensor([[[-1.0, 0.0, 0.0, 8.0, 8.0, 8.0]]])
    assert float(otsu_threshold(projection)) == 4
    above = (projection - threshold).numpy()
    expected = 0.5 + 0.5 * above / np.abs(above).max()
    np.testing.assert_allclose(indicator_scores([projection], share).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("share", [0.75, 1])
def test_otsu_takes_degenerate_maps(share: float) -> None:
    assert indicator_scores([torch.zeros(1, 2, 3)], share)[0].tolist() == [[0.5] * 3] * 2
    assert indicator_scores([torch.full((1, 1, 1), 4.0)], share).shape == (1, 1, 1)
    constant = indicator_scores([torch.full((1, 2, 3), 4.0)], share)
    assert len(constant.unique()) == 1


def test_projections_are_enlarged_before_they_are_cut() -> None:
    projection = torch.tensor([[[-1.0, 3.0]]])
    line = torch.tensor([-1.0, 0.0, 2.0, 3.0])
    found = indicator_scores([projection], otsu=0, resolution=4)
    np.testing.assert_allclose(found[0].numpy(), (0.5 + line / 6).expand(4, 4).numpy(), atol=1e-6)
    enlarged = functional.interpolate(torch.tensor([[[[-1.0, -1.0, 8.0]]]]), (9, 9), mode="bilinear")[:, 0]
    above = enlarged - otsu_threshold(enlarged)
    assert float(otsu_threshold(enlarged)) != 3.5
    found = indicator_scores([torch.tensor([[[-1.0, -1.0, 8.0]]])], otsu=1, resolution=9)
    torch.testing.assert_close(found, 0.5 + 0.5 * above / above.abs().max())


def test_pseudo_box_by_hand() -> None:
    scores = np.full((4, 8), 0.25, dtype=np.float16)
    assert pseudo_box(scores, 80, 20).tolist() == [0, 0, 80, 20]
    scores[1, 2], scores[2, 3], scores[0, 7] = 0.9, 0.9, 0.9
    assert pseudo_box(scores, 80, 20).tolist() == [20, 5, 40, 15]
    assert pseudo_box(np.ones((1, 1), dtype=np.float16), 3, 7).tolist() == [0, 0, 3, 7]


def test_views_are_turned_back_to_the_plain_one() -> None:
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))  # (B, V, h, w) in the plain view
    seen = torch.stack([view_of(maps[:, number], view) for number, view in enumerate(VIEWS)], dim=1)
    features = torch.stack([seen, torch.ones_like(seen)], dim=2)
    component = Component(mean=torch.tensor([0.5, 7.0]), direction=torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(projections(component, features, VIEWS), 2 * maps - 1)


def test_merged_scores_are_the_mean_on_the_finest_grid() -> None:
    coarse, fine = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    found = merged([coarse, fine])
    np.testing.assert_allclose(found[0].numpy(), [[0.5, 0.625, 0.375, 0.5]], atol=1e-6)
    assert torch.equal(merged([fine]), fine)


def test_agreement_is_the_mean_iou_of_every_two_masks() -> None:
    def mask(*pixels: int) -> Tensor:
        return torch.tensor([[[pixel > 0 for pixel in pixels]]])

    one, two, three = mask(1, 1, 0, 0), mask(0, 1, 1, 0), mask(1, 1, 1, 1)
    empty = mask(0, 0, 0, 0)
    assert agreement([], 3).tolist() == [1, 1, 1]
    assert agreement([one], 1).tolist() == [1]
    assert agreement([one, two], 1) == pytest.approx(1 / 3)
    assert agreement([one, two, three], 1) == pytest.approx((1 / 3 + 2 / 4 + 2 / 4) / 3)
    assert agreement([empty, empty], 1).tolist() == [1]
    assert agreement([empty, one], 1).tolist() == [0]
    assert agreement([one, mask(1, 0)], 1).tolist() == [1], "the coarser is enlarged"


def object_features(seed: int, height: int = 6, width: int = 8, channels: int = 5) -> Tensor:
    """Noise `(12, C, h, w)` with one strong direction in the middle, a little different in each image and class."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(COUNT, channels, height, width, generator=generator)
    inside = slice(height // 3, -(height // 3)), slice(width // 3, -(width // 3))
    features[:, :5, *inside] += 4 * torch.tensor([1.0, -1, 2, 0, 1])[:, None, None]
    features[::2, 1] += 1
    return features.half().float()


def seen_from_all_sides(features: Tensor) -> Tensor:
    """Features `(N, C, h, w)` as a store has them in all views, `(N, V, C, h, w)`."""
    return torch.stack([view_of(features, view) for view in VIEWS], dim=1)


def plain(features: Tensor) -> Tensor:
    return features[:, None]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Callable[..., list[Source]]]:
    """Makes sources from the levels of each store; the stores are closed in the end."""
    opened: list[FeatureStore] = []

    def make(*levels_of_stores: list[Tensor]) -> list[Source]:
        sources = []
        for levels in levels_of_stores:
            path = tmp_path / f"{len(opened)}.h5"
            views = VIEWS if levels[0].shape[1] == 3 else VIEWS[:1]
            write_store(path, IDS, levels, views)
            opened.append(FeatureStore(path))
            sources.append(Source(opened[-1], opened[-1].reader(launch("32-true"), index())))
        return sources

    yield make
    for store in opened:
        store.close()


IDS = [f"{number:02d}" for number in range(COUNT)]
LABELS = np.arange(COUNT) % 2
TRAINING = np.arange(COUNT) < 8


def index() -> ImageIndex:
    return ImageIndex(pd.DataFrame({"image_id": IDS}), ("a", "b"), "made", ".")


def params(**changes: object) -> DDTParams:
    return DDTParams.model_validate({"sees": "one.h5", "otsu": 0, **changes})


def whole(found: Iterator[Found]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and agreement of all images, each of which comes once."""
    parts = list(found)
    order = np.concatenate([part.positions for part in parts])
    assert sorted(order.tolist()) == list(range(COUNT))
    back = np.argsort(order)
    return np.concatenate([p.scores for p in parts])[back], np.concatenate([p.agreement for p in parts])[back]


def per_class(sources: list[Source], **changes: object) -> tuple[np.ndarray, np.ndarray]:
    return whole(Colocalizer(sources, LABELS, TRAINING, params(**changes)).per_class())


def test_one_source_of_one_view_agrees_with_itself(stores: Callable[..., list[Source]]) -> None:
    features = object_features(0)
    scores, agreed = per_class(stores([plain(features)]))
    assert (scores.shape, scores.dtype) == ((COUNT, 6, 8), np.dtype(np.float16))
    assert agreed.tolist() == [1] * COUNT
    assert scores[:, 2:4, 2:6].mean() > 0.6 > 0.5 > scores[:, 0].mean()


@pytest.mark.parametrize("scope", ["per_class", "together"])
def test_every_image_is_scored_once_whatever_the_batch(
    stores: Callable[..., list[Source]], scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, found = stores([seen_from_all_sides(object_features(0))]), []
    for batch in (64, 5, 1):
        monkeypatch.setattr(Colocalizer, "BATCH", batch)
        found.append(whole(getattr(Colocalizer(sources, LABELS, TRAINING, params()), scope)()))
    for scores, agreed in found[1:]:
        np.testing.assert_allclose(scores, found[0][0], atol=2e-3)
        np.testing.assert_allclose(agreed, found[0][1], atol=1e-6)


def test_views_that_show_the_same_give_the_plain_views_scores(stores: Callable[..., list[Source]]) -> None:
    features = object_features(0)
    expected, _ = per_class(stores([plain(features)]))
    scores, agreed = per_class(stores([seen_from_all_sides(features)]))
    np.testing.assert_allclose(scores, expected, atol=2e-3)
    assert agreed.tolist() == [1] * COUNT


@pytest.mark.parametrize("resolution", [0, 12])
def test_projections_are_averaged_over_views(stores: Callable[..., list[Source]], resolution: int) -> None:
    shown = [object_features(seed) for seed in range(3)]
    seen = torch.stack([view_of(each, view) for each, view in zip(shown, VIEWS, strict=True)], dim=1)
    colocalizer = Colocalizer(stores([seen]), LABELS, TRAINING, params(resolution=resolution))
    scores, agreed = whole(colocalizer.together())
    ((component,),) = colocalizer.components[CLASS_AGNOSTIC]
    projected = [component.project(each) for each in shown]
    expected = indicator_scores([torch.stack(projected).mean(0)], 0, resolution)
    np.testing.assert_allclose(scores, expected.numpy(), atol=2e-3)
    masks = [indicator_scores([each], 0, resolution) > 0.5 for each in projected]
    np.testing.assert_allclose(agreed, agreement(masks, COUNT), atol=1e-6)
    assert 0 < agreed.min() < 1


@pytest.mark.parametrize("resolution", [0, 16])
def test_scores_are_averaged_over_two_sources(stores: Callable[..., list[Source]], resolution: int) -> None:
    """At another side the features have another grid, and a component of their own."""
    first, second = object_features(0), object_features(1, height=9, width=12, channels=7)
    changes = {"otsu": 1, "resolution": resolution}
    both, agreed = per_class(stores([plain(first)], [plain(second)]), **changes)
    apart = [torch.from_numpy(per_class(stores([plain(each)]), **changes)[0]).float() for each in (first, second)]
    np.testing.assert_allclose(both, merged(apart).numpy(), atol=2e-3)
    assert both.shape[1:] == ((16, 16) if resolution else (9, 12))
    np.testing.assert_allclose(agreed, agreement([each > 0.5 for each in apart], COUNT), atol=1e-6)


def test_second_is_the_first_unless_it_is_named() -> None:
    assert params().second == "one.h5"
    assert params(second="two.h5").second == "two.h5"


@pytest.mark.parametrize("resolution", [0, 10])
def test_two_layers_are_intersected(stores: Callable[..., list[Source]], resolution: int) -> None:
    fine, coarse = plain(object_features(0, 6, 8)), plain(object_features(1, 3, 4))
    scores, _ = per_class(stores([fine, coarse]), layers=(-1, -2), resolution=resolution)
    of_fine, _ = per_class(stores([fine, coarse]), layers=(-2,), resolution=resolution)
    of_coarse, _ = per_class(stores([fine, coarse]), layers=(-1,), resolution=resolution)
    if not resolution:
        of_coarse = of_coarse.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(scores, np.minimum(of_fine, of_coarse))


def test_a_class_has_the_component_of_its_training_images(stores: Callable[..., list[Source]]) -> None:
    features = object_features(0)
    colocalizer = Colocalizer(stores([plain(features)]), LABELS, TRAINING, params())
    whole(colocalizer.per_class())
    assert sorted(colocalizer.components) == [0, 1]
    for label, ((component,),) in colocalizer.components.items():
        refuse_another_direction(component, features[(label == LABELS) & TRAINING])


def test_one_component_for_all_is_that_of_all_training_images(stores: Callable[..., list[Source]]) -> None:
    features = object_features(0)
    sources = stores([plain(features)])
    colocalizer = Colocalizer(sources, LABELS, TRAINING, params())
    scores, _ = whole(colocalizer.together())
    ((component,),) = colocalizer.components[CLASS_AGNOSTIC]
    refuse_another_direction(component, features[TRAINING])
    of_one_class, _ = whole(Colocalizer(sources, np.zeros_like(LABELS), TRAINING, params()).per_class())
    np.testing.assert_allclose(scores, of_one_class, atol=2e-3)


def refuse_another_direction(component: Component, features: Tensor) -> None:
    """Against scikit-learn, on all descriptors of features `(N, C, h, w)`."""
    descriptors = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1]).numpy()
    expected = PCA(n_components=1).fit(descriptors)
    np.testing.assert_allclose(component.mean, expected.mean_, atol=1e-5)
    assert abs(float(component.direction.numpy() @ expected.components_[0])) == pytest.approx(1, abs=1e-5)


def test_class_without_training_images_is_one_line(stores: Callable[..., list[Source]]) -> None:
    sources = stores([plain(object_features(0))])
    with pytest.raises(InputError, match=r"^class 1: no image in train-weaksup .*drop the class$") as caught:
        whole(Colocalizer(sources, LABELS, LABELS == 0, params()).per_class())
    assert "\n" not in str(caught.value)


def test_a_layer_that_the_features_lack_is_one_line(stores: Callable[..., list[Source]]) -> None:
    with pytest.raises(InputError, match="has 1 levels, none of number -2; see `features`"):
        per_class(stores([plain(object_features(0))]), layers=(-2,))
