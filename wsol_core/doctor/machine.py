"""The machine: Python, cores, memory, free disk, the device and its bfloat16."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from wsol_core.core.parallel import worker_count
from wsol_core.doctor.finding import Finding, tried

GIB = 2**30
LEAST_MEMORY = 3 * GIB
"""A training: about 1 GiB of its own, and up to 2 GiB of kept images."""
LEAST_DISK = 2 * GIB
PYTHON = ((3, 11), (3, 13))
"""The first that will do, and the first that will not."""


def check_machine(cache: Path) -> list[Finding]:
    """Cores, memory and device here, and the disks of the artifacts (`cache`), the scratch folder and the project."""
    findings = [Finding("note", "machine", f"Python {platform.python_version()}, {cores()} cores, {_memory_text()}")]
    if not PYTHON[0] <= sys.version_info[:2] < PYTHON[1]:
        text = f"Python {platform.python_version()} is not supported; make .venv with Python 3.11 or 3.12"
        findings.append(Finding("error", "machine", text))
    if (available := _pages("SC_AVPHYS_PAGES")) and available < LEAST_MEMORY:
        text = f"{available / GIB:.1f} GiB of memory are free, a training takes up to 3; close other programs"
        findings.append(Finding("warning", "machine", text))
    busy = os.getloadavg()[0]
    if busy > cores() / 2:
        text = f"a load of {busy:.1f} on {cores()} cores: other jobs run; times measured now are too long"
        findings.append(Finding("warning", "machine", text))
    return [*findings, *tried("machine", worker_count)[1], *_check_disks(cache), *_check_device()]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def scratch() -> Path:
    """Where killed stages leave what they have."""
    return Path(os.environ.get("WSOL_SCRATCH", ".wsol"))


def free_bytes(path: Path) -> int:
    """Free bytes of the disk on which `path` is or will be."""
    return shutil.disk_usage(next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())).free


def _check_disks(cache: Path) -> Iterator[Finding]:
    places = {"artifacts": cache, "scratch folder": scratch(), "project": Path()}
    for name, path in places.items():
        free = free_bytes(path)
        if free < LEAST_DISK:
            text = f"{free / GIB:.1f} GiB free for the {name} ({path}); make room, or move it to another disk"
            yield Finding("warning", "machine", text)
    yield Finding("note", "machine", ", ".join(f"{free_bytes(p) / GIB:.0f} GiB free ({n})" for n, p in places.items()))


def _check_device() -> Iterator[Finding]:
    """The device, and the precision that runs there where the parameters have bf16-mixed."""
    import torch

    from wsol_core.engine.devices import choose_precision, device_type

    kind, errors = tried("machine", device_type)
    if kind is None:
        yield from errors
        return
    name = f"{kind}, {torch.get_num_threads()} threads" if kind == "cpu" else kind
    if kind == "cuda":
        name = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    yield Finding("note", "machine", f"device: {name}")
    chosen, errors = tried("machine", lambda: choose_precision("bf16-mixed", kind))
    yield from errors
    if chosen is not None:
        yield Finding("note", "machine", f"bf16-mixed runs as {chosen.precision}: {chosen.reason}")


def _memory_text() -> str:
    total, free = _pages("SC_PHYS_PAGES"), _pages("SC_AVPHYS_PAGES")
    return f"{total / GIB:.0f} GiB of memory, {free / GIB:.0f} free" if total and free else "memory unknown"


def _pages(name: str) -> int:
    """Bytes in the pages that the system counts under `name`; 0 where it does not."""
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") if name in os.sysconf_names else 0
