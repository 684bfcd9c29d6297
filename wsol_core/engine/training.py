"""The one training loop, on Lightning Fabric: any model, any loss, one process or many.

A killed run continues from its last checkpoint with the same result, bit by bit, as an undisturbed one.
"""

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.files import Sink, atomic_path, write_csv
from wsol_core.core.scratch import discard
from wsol_core.data.loading import Batch, Pairs, training_batches
from wsol_core.engine.features import in_fast_layout
from wsol_core.engine.training_params import FitParams, OptimizerParams, rate_factor

Loss = Callable[[nn.Module, Batch], Tensor]
"""From the model and a batch to the mean loss of the batch's pictures."""


def parameter_groups(model: nn.Module, params: FitParams) -> list[dict[str, Any]]:
    """Two groups: the parameters of `model.backbone`, if it has one, and the rest, each with its peak rate."""
    named = list(model.named_parameters())
    backbone = [p for name, p in named if name.startswith("backbone.") and p.requires_grad]
    head = [p for name, p in named if not name.startswith("backbone.") and p.requires_grad]
    groups = zip((backbone, head), params.rates, strict=True)
    return [{"params": group, "lr": rate, "peak": rate} for group, rate in groups if group]


def create_optimizer(groups: list[dict[str, Any]], params: OptimizerParams) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over groups of parameters that hold their learning rates."""
    if params.name == "adamw":
        return torch.optim.AdamW(groups, betas=(params.momentum, 0.999), weight_decay=params.weight_decay)
    return torch.optim.SGD(groups, momentum=params.momentum, weight_decay=params.weight_decay)


class Trainer:
    """One run of the loop. Its state is the model, the optimizer, the position in the epoch and the loss so far.

    Args:
        fabric: from `devices.launch`.
        model: has the pretrained part, if there is one, as `backbone`.
        loss: of a batch.
        params: how to train.
        seed: of the order of the images.
        folder: where checkpoints are kept while it runs.
    """

    def __init__(
        self, fabric: Fabric, model: nn.Module, loss: Loss, params: FitParams, seed: int, folder: Path
    ) -> None:
        model = in_fast_layout(model)
        optimizer = create_optimizer(parameter_groups(model, params), params.optimizer)
        self._fabric, self._loss, self._params, self._seed = fabric, loss, params, seed
        self._checkpoint = folder / "checkpoint.pt"
        self._pause = 60 * checkpoint_minutes()
        self.model, self._optimizer = fabric.setup(model, optimizer)
        self._state: dict[str, Any] = {"epoch": 0, "step": 0, "total": 0.0, "seen": 0, "history": []}

    def fit(self, train: Pairs, held_out: Pairs | None) -> pd.DataFrame:
        """Train to the end.

        Args:
            train: pictures and pseudo labels.
            held_out: pictures whose pseudo labels take no part in training.

        Returns:
            A row per epoch: `epoch` (from 1), `train` and `held_out` (mean loss; NaN without held-out pictures).
        """
        self._resume()
        steps = math.ceil(len(train) / self._params.batch)
        progress = tqdm(
            total=self._params.epochs * steps, initial=self._state["epoch"] * steps + self._state["step"],
            desc="train", unit="step", disable=None if self._fabric.is_global_zero else True,
        )  # fmt: skip
        for epoch in range(self._state["epoch"], self._params.epochs):
            self._train_epoch(train, epoch, steps, progress)
            self._gather_sums()
            mean = self._state["total"] / max(1, self._state["seen"])
            row = {"epoch": epoch + 1, "train": mean, "held_out": self._mean_loss(held_out)}
            history = [*self._state["history"], row]
            self._state = {"epoch": epoch + 1, "step": 0, "total": 0.0, "seen": 0, "history": history}
            self._save()
        progress.close()
        return pd.DataFrame(self._state["history"], columns=["epoch", "train", "held_out"])

    def _train_epoch(self, train: Pairs, epoch: int, steps: int, progress: "tqdm[Any]") -> None:
        order = np.random.default_rng([self._seed, epoch]).permutation(len(train)).tolist()
        keys = [(epoch, position) for position in order]
        batches = [keys[start : start + self._params.batch] for start in range(0, len(keys), self._params.batch)]
        saved = time.monotonic()
        self.model.train()
        for batch, share, seen in self._shares(train, batches[self._state["step"] :]):
            factor = rate_factor(self._params, epoch * steps + self._state["step"], steps)
            for group in self._optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            torch.manual_seed(self._step_seed(epoch))
            self._optimizer.zero_grad(set_to_none=True)
            loss = self._backward(batch, share)
            if self._params.gradient_clip:
                self._fabric.clip_gradients(self.model, self._optimizer, max_norm=self._params.gradient_clip)
            self._optimizer.step()
            self._state["total"] += loss * seen
            self._state["seen"] += seen
            self._state["step"] += 1
            progress.update()
            if self._fabric.broadcast(time.monotonic() - saved > self._pause):
                self._gather_sums()
                self._save()
                saved = time.monotonic()

    def _step_seed(self, epoch: int) -> int:
        """Of all that a step draws: what happened before does not matter, as it does not for a run that goes on."""
        place = [self._seed, epoch, self._state["step"], self._fabric.global_rank]
        return int(np.random.SeedSequence(place).generate_state(1)[0])

    def _backward(self, batch: Batch, share: float) -> float:
        """Leave the gradient of a batch's weighted loss with the parameters, and return this loss."""
        total, parts = 0.0, batch.split(self._params.accumulate)
        for number, part in enumerate(parts, 1):
            with self._fabric.no_backward_sync(self.model, enabled=number < len(parts)):
                loss = self._loss(self.model, part) * (share * (len(part.inputs) / len(batch.inputs)))
                total += (value := float(loss.detach()))
                if not math.isfinite(value):
                    epoch = self._state["epoch"] + 1
                    raise InputError(f"the loss is {value} in epoch {epoch}; lower the rates or set gradient_clip")
                self._fabric.backward(loss)
        return total

    def _shares(self, pairs: Pairs, batches: list[list[tuple[int, int]]]) -> Iterator[tuple[Batch, float, float]]:
        """This process's part of each batch, its weight in the whole batch's gradient, and pictures per process.

        Gradients are averaged over processes; one that gets no picture of a small batch takes one at weight 0.
        """
        rank, world = self._fabric.global_rank, self._fabric.world_size
        parts = [batch[rank::world] for batch in batches]
        loaded = training_batches(pairs, [part or batch[:1] for part, batch in zip(parts, batches, strict=True)])
        for batch, keys, part in zip(loaded, batches, parts, strict=True):
            seen = len(keys) / world
            yield batch.to(self._fabric.device), len(part) / seen, seen

    def _gather_sums(self) -> None:
        """Leave the epoch's sums over all processes with process 0, whose state is the one that is saved."""
        sums = torch.tensor([self._state["total"], self._state["seen"]], dtype=torch.float64)
        summed = self._fabric.all_reduce(sums.to(self._fabric.device), reduce_op="sum")
        assert isinstance(summed, Tensor)
        self._state["total"], self._state["seen"] = summed.tolist() if self._fabric.is_global_zero else (0.0, 0.0)

    @torch.no_grad()
    def _mean_loss(self, pairs: Pairs | None) -> float:
        if not pairs:
            return math.nan
        self.model.eval()
        keys = [(-1, position) for position in range(len(pairs))]
        batches = [keys[start : start + self._params.batch] for start in range(0, len(keys), self._params.batch)]
        losses = [
            float(self._loss(self.model, batch.to(self._fabric.device))) * len(batch.inputs)
            for batch in training_batches(pairs, batches)
        ]
        return sum(losses) / len(pairs)

    def _save(self) -> None:
        if self._fabric.is_global_zero:
            content = {
                "model": self.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "state": self._state,
            }
            with atomic_path(self._checkpoint) as temporary, Sink(temporary, "w+") as sink:
                torch.save(content, sink)
                sink.check()
        self._fabric.barrier()

    def _resume(self) -> None:
        """Go on from the checkpoint; a damaged one is discarded."""
        if not os.path.lexists(self._checkpoint):
            return
        before = copy.deepcopy(self.model.state_dict())
        try:
            with ZipFile(self._checkpoint) as records:
                if damaged := records.testzip():
                    raise ValueError(f"damaged at {damaged}")
            content = torch.load(self._checkpoint, map_location=self._fabric.device, weights_only=True)
            state = {key: content["state"][key] for key in self._state}
            self.model.load_state_dict(content["model"])
            self._optimizer.load_state_dict(content["optimizer"])
        except Exception as error:  # a damaged file can raise anything inside a decoder
            self.model.load_state_dict(before)
            if self._fabric.is_global_zero:
                discard(self._checkpoint, f"not a readable checkpoint ({error})")
            return
        self._state = state
        if not self._fabric.is_global_zero:
            self._state |= {"total": 0.0, "seen": 0.0}


def checkpoint_minutes() -> float:
    """Minutes between two checkpoints within an epoch: `WSOL_CHECKPOINT_MINUTES`, by default 5.

    Raises:
        InputError: it is not a number from 0 up.
    """
    value = os.environ.get("WSOL_CHECKPOINT_MINUTES") or "5"
    try:
        minutes = float(value)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes < math.inf:
        raise InputError(f"WSOL_CHECKPOINT_MINUTES={value}: not a number of minutes from 0 up")
    return minutes


def write_loss_curve(path: Path, history: pd.DataFrame) -> None:
    """Write the loss per epoch as a DVC plot: columns `epoch, train, held_out`, six digits."""
    write_csv(path, history.round(6))
