"""What a stage adds to the bare forward pass of its network: both on the same ready tensors, in turns."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn


class ReadyImages:
    """Stands in for `SquashedImages`: `count` images `(3, side, side)` uint8 that need no decoding.

    Args:
        count: images.
        side: pixels.
        distinct: different images held in memory; the others repeat them.
    """

    def __init__(self, count: int, side: int, distinct: int = 64) -> None:
        generator = torch.Generator().manual_seed(0)
        self._count = count
        self._held = torch.randint(
            0, 256, (min(count, distinct), side, side, 3), dtype=torch.uint8, generator=generator
        )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: int) -> Tensor:
        return self._held[position % len(self._held)].permute(2, 0, 1)

    def batches(self, batch: int) -> list[Tensor]:
        """All images as channels-last batches."""
        starts = range(0, self._count, batch)
        numbers = [torch.arange(start, min(start + batch, self._count)) % len(self._held) for start in starts]
        return [self._held[part].permute(0, 3, 1, 2) for part in numbers]


@torch.inference_mode()
def bare_forward(fabric: Fabric, network: nn.Module, batches: Sequence[Tensor]) -> None:
    """The network over all batches, its outputs thrown away."""
    for images in batches:
        with fabric.autocast():
            features = network(fabric.to_device(images))
        float(features[-1].flatten()[0])


def measure(
    name: str, images: int, run: Callable[[], None], bare: Callable[[], None], rounds: int, goal: float
) -> bool:
    """Time `run` and `bare` by turns, print their speeds and ratio, and say whether the goal is reached.

    The ratio is the median over pairs of neighbouring runs, so that other load on the machine falls on both sides.
    """
    run()
    bare()
    pairs = [(_seconds(run), _seconds(bare)) for _ in range(rounds)]
    ratios = [theirs / ours for ours, theirs in pairs]
    ours, theirs = (images / statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(ratios)
    print(f"{name}: {ours:.1f} images/s, bare {theirs:.1f}; ", end="")
    print(f"ratio {ratio:.2f}, from {min(ratios):.2f} to {max(ratios):.2f} (goal {goal} or more)", flush=True)
    return ratio >= goal


def _seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
