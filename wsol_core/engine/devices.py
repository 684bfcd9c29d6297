"""Where networks run: the device, the processes, the precision."""

import ctypes
import logging
import os
import sys
import time
from functools import cache
from typing import Literal, NamedTuple

import torch
from lightning_fabric import Fabric

from wsol_core.core.errors import InputError

Precision = Literal["bf16-mixed", "32-true"]
"""bf16 autocast where the device computes it natively (see `supported_precision`), or float32."""

DEVICES = ("auto", "cpu", "cuda", "gpu", "mps")
"""What `WSOL_DEVICE` may say; `auto` is CUDA, else Apple's GPU, else the CPU."""
TRIALS = 5
"""Runs of each precision when a CPU's bfloat16 is timed; the fastest of each counts."""


class Chosen(NamedTuple):
    """The precision that runs, and why."""

    precision: Precision
    reason: str


def launch(precision: Precision) -> Fabric:
    """Fabric on the best device here; under `torchrun`, one process of several (gradients are averaged).

    Algorithms are deterministic, without torch's filling of each new tensor: nothing here reads what it did not write,
    and the filling took a fifth of a training step on a CPU.

    Args:
        precision: as the parameters have it; see `supported_precision`.

    Raises:
        InputError: `WSOL_DEVICE` or `WSOL_PRECISION` names nothing that is here.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    _keep_freed_memory()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    accelerator = device_type()
    fabric = Fabric(
        accelerator=accelerator,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=max(1, processes // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        strategy="ddp" if processes > 1 else "auto",
        precision=supported_precision(precision, accelerator),
    )
    fabric.launch()
    return fabric


def running_precision(fabric: Fabric) -> Precision:
    """The precision that a fabric of `launch` computes in."""
    return "bf16-mixed" if fabric._precision.precision == "bf16-mixed" else "32-true"


def device_type() -> str:
    """`cuda`, `mps` or `cpu`: what `WSOL_DEVICE` asks for, by default the best that is here.

    Raises:
        InputError: there is no such device.
    """
    wanted = os.environ.get("WSOL_DEVICE") or "auto"
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted not in DEVICES:
        raise InputError(f"WSOL_DEVICE={wanted}: is none of {', '.join(DEVICES)}; unset it or name one of them")
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    kind = "cuda" if wanted == "gpu" else wanted
    if not there[kind]:
        raise InputError(f"WSOL_DEVICE={wanted}: the device is not there; unset it or name another")
    return kind


def supported_precision(wanted: Precision, device: str) -> Precision:
    """The precision that runs where the parameters want `wanted`: bf16 falls back to float32 where it is emulated.

    Said on standard error, once per process. It is no parameter: another machine invalidates no result.

    Args:
        wanted: of the parameters.
        device: its type, `cpu`, `cuda` or `mps`.

    Raises:
        InputError: `WSOL_PRECISION` is neither `bf16-mixed` nor `32-true`.
    """
    chosen = choose_precision(wanted, device)
    if os.environ.get("RANK", "0") == "0":
        _say(chosen)
    return chosen.precision


def choose_precision(wanted: Precision, device: str) -> Chosen:
    """As `supported_precision`, with the reason and without a word."""
    forced = os.environ.get("WSOL_PRECISION")
    if forced:
        if forced == "bf16-mixed":
            return Chosen("bf16-mixed", "WSOL_PRECISION")
        if forced == "32-true":
            return Chosen("32-true", "WSOL_PRECISION")
        raise InputError(f"WSOL_PRECISION={forced}: is neither bf16-mixed nor 32-true; unset it or name one of them")
    if wanted == "32-true":
        return Chosen("32-true", "asked for")
    return _bfloat16_on(device)


@cache
def _say(chosen: Chosen) -> None:
    name = "bfloat16 autocast" if chosen.precision == "bf16-mixed" else "float32"
    print(f"precision: {name} ({chosen.reason})", file=sys.stderr)


@cache
def _bfloat16_on(device: str) -> Chosen:
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Chosen("bf16-mixed", "this GPU computes it natively")
        return Chosen("32-true", "this GPU has no native bfloat16")
    if device != "cpu":
        return Chosen("32-true", f"bfloat16 autocast was not measured on {device}")
    if not cpu_has_bfloat16():
        return Chosen("32-true", "this CPU has no native bfloat16")
    half, whole = _depthwise_seconds()
    times = f"a depthwise convolution takes {1e3 * half:.2f} ms, {1e3 * whole:.2f} ms in float32"
    return Chosen("bf16-mixed" if half <= whole else "32-true", f"this CPU has native bfloat16; {times}")


def cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16 (AVX512-BF16 or AMX-BF16).

    `torch.ops.mkldnn._is_mkldnn_bf16_supported()` is true of any CPU with AVX512 as well, where oneDNN emulates it.
    """
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _depthwise_seconds() -> tuple[float, float]:
    """Seconds of a 3x3 depthwise convolution in bfloat16 and in float32, the fastest of a few runs in turns.

    It is what emulation slows down most. The fastest run is what other load on the machine moves least.
    """
    images = torch.zeros(4, 96, 56, 56).to(memory_format=torch.channels_last)
    fastest = {torch.bfloat16: float("inf"), torch.float32: float("inf")}
    with torch.inference_mode():
        for _ in range(TRIALS + 1):
            for dtype in fastest:
                picture, kernel = images.to(dtype), torch.zeros(96, 1, 3, 3, dtype=dtype)
                start = time.perf_counter()
                torch.nn.functional.conv2d(picture, kernel, padding=1, groups=96)
                fastest[dtype] = min(fastest[dtype], time.perf_counter() - start)
    return fastest[torch.bfloat16], fastest[torch.float32]


def _keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of giving them back: fresh pages cost a CPU run a third of its time."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, 1 << 30)
