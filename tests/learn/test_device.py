from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from distdqn.learn import device
from distdqn.learn.device import in_bfloat16, pick_device, prepare_device
from tests.configs import learner_config


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    """What PyTorch computes in is of the whole process."""
    before = [part.fp32_precision for part in device._PARTS]
    yield
    for part, precision in zip(device._PARTS, before, strict=True):
        part.fp32_precision = precision


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    there = torch.cuda.is_available()
    assert pick_device("auto").type == ("cuda" if there else "cpu")
    if not there:
        with pytest.raises(ValueError, match=r"learner\.device=cuda:1"):
            pick_device("cuda:1")


@pytest.mark.parametrize(
    ("precision", "pixels", "exact"),
    [
        ("float32", True, True),
        ("tf32", False, False),
        ("bfloat16", False, False),
        ("auto", True, False),
        ("auto", False, True),
    ],
)
def test_one_key_says_how_exactly_all_parts_compute(
    monkeypatch: pytest.MonkeyPatch, precision: str, pixels: bool, exact: bool
) -> None:
    device.set_precision(not exact)
    prepare_device(learner_config(device="cpu", precision=precision), pixels, deterministic=True)
    assert {part.fp32_precision for part in device._PARTS} == {"tf32" if exact else "ieee"}, "a CPU is left alone"
    assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(device, "pick_device", lambda name: torch.device("cuda"))
    prepare_device(learner_config(device="cuda", precision=precision), pixels, deterministic=False)
    assert {part.fp32_precision for part in device._PARTS} == {"ieee" if exact else "tf32"}


def test_automatic_bfloat16_is_for_pixels_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    for fast in (True, False):
        monkeypatch.setattr(device, "cpu_has", lambda flag, fast=fast: fast)
        assert in_bfloat16("auto", gpu, True) and in_bfloat16("auto", cpu, True) == fast
        assert not in_bfloat16("auto", gpu, False) and not in_bfloat16("tf32", gpu, True)
        assert in_bfloat16("bfloat16", cpu, False)
