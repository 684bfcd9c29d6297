"""Where networks run: the device, the processes, the precision."""

import ctypes
import logging
import os
import sys
from typing import Literal

import torch
from lightning_fabric import Fabric

Precision = Literal["bf16-mixed", "32-true"]
"""bf16 autocast, or float32."""


def launch(precision: Precision) -> Fabric:
    """Fabric on the best device here; under `torchrun`, one process of several (gradients are averaged).

    Algorithms are deterministic, without torch's filling of each new tensor: nothing here reads what it did not write,
    and the filling took a fifth of a training step on a CPU.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    _keep_freed_memory()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=os.environ.get("WSOL_DEVICE", "auto"),
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=max(1, processes // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        strategy="ddp" if processes > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    return fabric


def _keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of giving them back: fresh pages cost a CPU run a third of its time."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, 1 << 30)
