"""Both networks of BC-CT at once: the loss by its parts, where gradients go, and the stages."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.methods.test_bcct import BACKGROUND, SMALL, TRAINING, write_background
from tests.small_project import entry, run_network, write_params, write_set
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import ImageIndex
from wsol_core.data.loading import Batch
from wsol_core.engine.checkpoints import load_checkpoint
from wsol_core.methods.bcct.binary import AnswerParams, gradient_maps
from wsol_core.methods.bcct.joint import JointAnswer, JointNet, JointParams, build_joint, class_numbers, joint_loss
from wsol_core.methods.bcct.masks import largest_parts
from wsol_core.methods.bcct.pixel_supervision import CTAnswer, answer_loss

JOINT = JointParams.model_validate(
    {"backbone": SMALL, "training": TRAINING, "width": 4, "binary": {"resolution": 8, "smoothing": 0.1}}
)


@pytest.fixture
def network() -> JointNet:
    torch.manual_seed(0)
    return build_joint(JOINT, 2).eval()


def pictures(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_both_networks_answer_as_they_do_alone(network: JointNet) -> None:
    images, targets = pictures(5), torch.tensor([1, 0, 2, 0, 1])
    said = network(images, targets)
    own = network(images[targets > 0])
    torch.testing.assert_close(said.answer.class_maps, own.class_maps)
    torch.testing.assert_close(said.answer.mask_logits, own.mask_logits)
    torch.testing.assert_close(said.logits, network.binary(images))
    maps = gradient_maps(network.binary, images[targets > 0], torch.empty(0), JOINT.binary)[:, 0]
    assert np.array_equal(said.masks.numpy(), largest_parts(maps.numpy(), 0.8))
    assert 0 < said.masks.mean() < 1


def test_the_loss_is_that_of_both(network: JointNet) -> None:
    images, targets = pictures(4), torch.tensor([0, 2, 1, 0])
    said: JointAnswer = network(images, targets)
    assert said.answer is not None
    binary = functional.binary_cross_entropy(said.logits.sigmoid(), torch.tensor([0.0, 1.0, 1.0, 0.0]))
    classes = functional.nll_loss(said.answer.class_maps.mean((2, 3)).log_softmax(1), torch.tensor([1, 0]))
    branch = functional.interpolate(said.answer.mask_logits[:, None], (8, 8), mode="bilinear")[:, 0].sigmoid()
    pixels = functional.binary_cross_entropy(branch, said.masks)
    loss = joint_loss(network, Batch(images, targets), "bce")
    torch.testing.assert_close(loss, binary + classes + pixels)
    without = joint_loss(network, Batch(images, targets), "none")
    torch.testing.assert_close(without, binary + classes)


def test_backgrounds_alone_teach_the_binary_classifier_alone(network: JointNet) -> None:
    images, targets = pictures(2), torch.zeros(2, dtype=torch.int64)
    assert network(images, targets).answer is None
    loss = joint_loss(network, Batch(images, targets), "bce")
    torch.testing.assert_close(loss, functional.softplus(network.binary(images)).mean())


def test_neither_network_learns_from_the_others_loss(network: JointNet) -> None:
    images, targets = pictures(4), torch.tensor([1, 0, 2, 0])
    said = network(images, targets)
    binary = functional.binary_cross_entropy_with_logits(said.logits, (targets > 0).float())
    torch.autograd.backward(binary, retain_graph=True)
    learnt = {name for name, each in network.named_parameters() if each.grad is not None}
    assert learnt == {"binary.head.weight", "binary.head.bias"}
    network.zero_grad(set_to_none=True)
    torch.autograd.backward(answer_loss(said.answer, targets[targets > 0] - 1, said.masks, "bce"))
    learnt = {name for name, each in network.named_parameters() if each.grad is not None}
    assert learnt
    assert not any(name.startswith("binary.") for name in learnt)
    assert {name for name, each in network.named_parameters() if each.requires_grad} == learnt | {
        "binary.head.weight",
        "binary.head.bias",
    }


def test_no_gradients_are_needed_to_measure_a_loss(network: JointNet) -> None:
    batch = Batch(pictures(4), torch.tensor([1, 0, 2, 0]))
    with torch.no_grad():
        measured = joint_loss(network, batch, "bce")
    torch.testing.assert_close(measured, joint_loss(network, batch, "bce").detach())


def test_targets_are_numbers_of_classes() -> None:
    rows = pd.DataFrame({"labels": [[1], np.array([0]), [], np.array([], dtype=int)]})
    assert [int(number) for number in class_numbers(rows)] == [2, 1, 0, 0]


def test_the_features_that_answer_are_a_choice() -> None:
    params = JOINT.model_copy(update={"binary": AnswerParams(level=-2, resolution=8)})
    network = build_joint(params, 2)
    assert network.binary.head.in_features == network.backbone.channels[-2]
    assert isinstance(network(pictures(1)), CTAnswer)
    assert isinstance(network.binary, nn.Module)


def test_stages_train_and_write_maps(small_index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_background(*(f"{number}.png" for number in range(3)))
    write_params({"joint": entry("bcct", "joint", JOINT, background=BACKGROUND)}, seed=3)
    write_set(ImageIndex(small_index.table, ("red", "green"), "s", "images"))
    outputs = run_network("joint")
    assert pd.read_csv("data/models/loss-joint.csv")["train"].notna().all()
    trained = load_checkpoint(Path("data/models/joint.safetensors")).tensors
    assert any(name.startswith("binary.") for name in trained)
    for name, own in (("maps", True), ("branch", False)):
        with MapStore(outputs / f"{name}.h5") as store:
            assert len(store) == 24
            assert (store.labels >= 0).all() == own
    assert (outputs / "classes.parquet").exists()
