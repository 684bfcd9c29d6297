import pytest
import torch

from wsol_core.core.errors import InputError
from wsol_core.engine import devices
from wsol_core.engine.devices import (
    Precision,
    choose_precision,
    device_type,
    launch,
    running_precision,
    supported_precision,
)


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of which nothing is known yet, without variables that force anything."""
    for name in ("WSOL_PRECISION", "WSOL_DEVICE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    devices._bfloat16_on.cache_clear()
    devices._say.cache_clear()


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


def cpu_fabric(monkeypatch: pytest.MonkeyPatch, precision: Precision = "bf16-mixed") -> Precision:
    monkeypatch.setenv("WSOL_DEVICE", "cpu")
    fabric = launch(precision)
    with fabric.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if running_precision(fabric) == "bf16-mixed" else torch.float32)
    return running_precision(fabric)


@pytest.mark.usefixtures("emulated")
def test_without_native_bfloat16_networks_run_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_fabric(monkeypatch) == "32-true"


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("half", "whole", "runs"), [(1.0, 2.0, "bf16-mixed"), (2.0, 1.0, "32-true")])
def test_native_bfloat16_runs_where_it_is_faster(
    half: float, whole: float, runs: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_depthwise_seconds", lambda: (half, whole))
    assert cpu_fabric(monkeypatch) == runs
    assert cpu_fabric(monkeypatch, "32-true") == "32-true"


@pytest.mark.parametrize("forced", ["bf16-mixed", "32-true"])
@pytest.mark.parametrize("wanted", ["bf16-mixed", "32-true"])
def test_a_variable_forces_a_precision(forced: Precision, wanted: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_PRECISION", forced)
    assert cpu_fabric(monkeypatch, wanted) == forced


def test_the_choice_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WSOL_PRECISION", "32-true")
    for _ in range(3):
        supported_precision("bf16-mixed", "cpu")
    assert capsys.readouterr().err == "precision: float32 (WSOL_PRECISION)\n"


@pytest.mark.parametrize(("supported", "runs"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_is_asked(supported: bool, runs: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def answer(including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return supported

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", answer)
    assert choose_precision("bf16-mixed", "cuda").precision == runs
    assert asked == [False]
    assert choose_precision("bf16-mixed", "mps").precision == "32-true"


def test_both_precisions_are_timed() -> None:
    assert all(0 < seconds < 60 for seconds in devices._depthwise_seconds())


@pytest.mark.parametrize("value", ["16", "bf16", "32"])
def test_an_unknown_precision_is_one_line(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOL_PRECISION", value)
    with pytest.raises(InputError, match=f"^WSOL_PRECISION={value}: is neither bf16-mixed nor 32-true"):
        choose_precision("bf16-mixed", "cpu")


def test_the_device_follows_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_type() == "cpu"
    for value in ("cuda", "gpu", "mps"):
        monkeypatch.setenv("WSOL_DEVICE", value)
        with pytest.raises(InputError, match=f"^WSOL_DEVICE={value}: the device is not there"):
            device_type()
    monkeypatch.setenv("WSOL_DEVICE", "tpu9")
    with pytest.raises(InputError, match=r"^WSOL_DEVICE=tpu9: is none of auto, cpu"):
        device_type()
