"""DDT against principal components of scikit-learn, its sign, its boxes and its streams."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from wsol_core.backbones.create import BackboneParams, create_backbone
from wsol_core.core.errors import InputError
from wsol_core.data.index import TRAIN_WEAKSUP, ImageIndex
from wsol_core.data.loading import SquashedImages
from wsol_core.engine.devices import launch
from wsol_core.methods.ddt.colocalization import (
    Colocalizer,
    DDTParams,
    indicator_scores,
    otsu_threshold,
    pseudo_box,
    regroup,
)  # fmt: skip

SMALL = BackboneParams(name="mobilenetv3_small_050", weights="none")


def test_scores_put_zero_at_one_half_and_intersect_layers() -> None:
    fine = torch.tensor([[[-2.0, 0.0], [1.0, 2.0]]])
    coarse = torch.tensor([[[-1.0]]])
    assert indicator_scores([fine])[0].tolist() == [[0, 0.5], [0.75, 1]]
    assert indicator_scores([fine, coarse])[0].tolist() == [[0, 0], [0, 0]]
    assert indicator_scores([torch.zeros(1, 1, 3)])[0].tolist() == [[0.5, 0.5, 0.5]]


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


def test_otsu_puts_its_threshold_at_one_half_and_takes_degenerate_maps() -> None:
    score_map = torch.tensor([[[1.0, 1.0, 1.0, 9.0]]])
    assert indicator_scores([score_map], "otsu")[0, 0].tolist() == [0, 0, 0, 1]
    assert indicator_scores([torch.full((1, 2, 3), 4.0)], "otsu")[0].tolist() == [[0.5] * 3] * 2
    assert indicator_scores([torch.full((1, 1, 1), 4.0)], "otsu")[0].tolist() == [[0.5]]


def test_pseudo_box_by_hand() -> None:
    scores = np.full((4, 8), 0.25, dtype=np.float16)
    assert pseudo_box(scores, 80, 20).tolist() == [0, 0, 80, 20]
    scores[1, 2], scores[2, 3], scores[0, 7] = 0.9, 0.9, 0.9
    assert pseudo_box(scores, 80, 20).tolist() == [20, 5, 40, 15]
    assert pseudo_box(np.ones((1, 1), dtype=np.float16), 3, 7).tolist() == [0, 0, 3, 7]


def test_regroup_keeps_order_and_counts() -> None:
    def batches() -> Iterator[list[Tensor]]:
        for start in range(0, 12, 5):
            part = torch.arange(start, min(start + 5, 12)).float()
            yield [part, -part]

    blocks = list(regroup(batches(), [1, 7, 4]))
    assert [b[0].tolist() for b in blocks] == [[0], [1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11]]
    assert all(torch.equal(b[0], -b[1]) for b in blocks)


@pytest.mark.parametrize("scope", ["class", "dataset"])
@pytest.mark.parametrize("layers", [(-1,), (-1, -2)])
def test_every_image_is_scored_once_whatever_the_batch(
    small_index: ImageIndex, scope: str, layers: tuple[int, ...]
) -> None:
    def run(batch: int) -> np.ndarray:
        torch.manual_seed(0)
        params = DDTParams(backbone=SMALL, layers=layers, image_side=96, scope=scope, batch=batch, precision="32-true")
        network = create_backbone(params.backbone)
        images = SquashedImages(small_index.root, small_index.table, 96, 96, network.interpolation)
        labels = np.array([label for (label,) in small_index.table["labels"]])
        training = (small_index.table["split"] == TRAIN_WEAKSUP).to_numpy()
        runs = Colocalizer(launch("32-true"), network, images, labels, training, params)
        scores = np.full((24, 3 if layers == (-1,) else 6, 3 if layers == (-1,) else 6), np.nan)
        for positions, part in runs.run():
            assert np.isnan(scores[positions]).all()
            scores[positions] = part
        return scores

    whole = run(32)
    assert not np.isnan(whole).any()
    assert np.allclose(run(5), whole, atol=5e-3)


def test_class_without_training_images_is_named(small_index: ImageIndex) -> None:
    params = DDTParams(backbone=SMALL, image_side=32, precision="32-true")
    network = create_backbone(params.backbone)
    images = SquashedImages(small_index.root, small_index.table, 32, 32, network.interpolation)
    labels = np.array([label for (label,) in small_index.table["labels"]])
    runs = Colocalizer(launch("32-true"), network, images, labels, labels == 0, params)
    with pytest.raises(InputError, match="class 1: no image in train-weaksup"):
        list(runs.run())
