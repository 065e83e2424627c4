"""The choice of device and precision, on a machine with AMX and on one without."""

import pytest
import torch

from fcos_cli.errors import SetupError
from fcos_cli.runtime import precision
from fcos_cli.runtime.precision import choose_device, choose_precision


@pytest.fixture(params=[True, False], ids=["amx", "no-amx"])
def amx(request, monkeypatch, tmp_path):
    flags = tmp_path / "cpuinfo"
    flags.write_text("flags\t\t: fpu avx512f " + ("amx_tile amx_bf16 amx_int8\n" if request.param else "avx512_bf16\n"))
    monkeypatch.setattr(precision, "_CPU_FLAGS", flags)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    precision.cpu_has_amx.cache_clear()
    yield request.param
    precision.cpu_has_amx.cache_clear()


def test_auto_on_the_cpu_follows_amx_and_says_so(amx):
    chosen = choose_precision("auto", "cpu")
    assert chosen.dtype == (torch.bfloat16 if amx else None)
    assert chosen.reason == ("bfloat16: this CPU has AMX" if amx else "float32: this CPU has no AMX")
    assert chosen.name == ("bfloat16" if amx else "float32")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("avx512f", "float32: this CPU has no AMX or AVX512-BF16"),
        ("avx512f avx512_bf16", "bfloat16: this CPU has AVX512-BF16"),
        ("avx512f avx512_bf16 amx_bf16", "bfloat16: this CPU has AMX"),
    ],
)
def test_inference_takes_bfloat16_from_avx512_too(flags, reason, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has", lambda flag: flag in flags.split())
    precision.cpu_has_amx.cache_clear()
    precision.cpu_has_dots.cache_clear()
    assert choose_precision("auto", "cpu", inference=True).reason == reason
    wished = choose_precision("bfloat16", "cpu", inference=True).reason
    assert ("may be faster" in wished) is ("bf16" not in flags)
    precision.cpu_has_amx.cache_clear()
    precision.cpu_has_dots.cache_clear()


def test_a_wish_overrides(amx):
    assert choose_precision("float32", "cpu").dtype is None
    wished = choose_precision("bfloat16", "cpu")
    assert wished.dtype == torch.bfloat16
    assert ("no AMX" in wished.reason) is not amx


def test_float16_on_the_cpu_is_refused():
    with pytest.raises(SetupError, match="float16") as caught:
        choose_precision("float16", "cpu")
    assert "bfloat16" in caught.value.hint


def test_without_proc_there_is_no_amx(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "_CPU_FLAGS", tmp_path / "absent")
    precision.cpu_has_amx.cache_clear()
    assert not precision.cpu_has_amx()
    precision.cpu_has_amx.cache_clear()


def test_autocast_computes_in_the_chosen_type():
    a = torch.ones(4, 4)
    with choose_precision("bfloat16", "cpu").autocast():
        assert (a @ a).dtype == torch.bfloat16
    with choose_precision("float32", "cpu").autocast():
        assert (a @ a).dtype == torch.float32


def test_devices(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:3", "warp", "", "cpu:x"):
        with pytest.raises(SetupError) as caught:
            choose_device(name)
        assert repr(name) in caught.value.message
        assert "cpu" in caught.value.hint


def test_cuda_by_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(SetupError) as caught:
        choose_device("cuda:2")
    assert "cuda:0, cuda:1" in caught.value.hint
