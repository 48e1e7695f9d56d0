"""The device that learns, and how exactly it computes."""

import os
import shutil
from importlib.util import find_spec
from typing import Any

import torch

from distdqn.config import LearnerConfig
from distdqn.machine import cpu_has

_CUDNN: Any = torch.backends.cudnn
_PARTS: tuple[Any, ...] = (torch.backends.cuda.matmul, _CUDNN.conv, _CUDNN.rnn)
"""What PyTorch has a precision of its own for; without a word from us some of them would be in TF32, some not."""


def pick_device(name: str) -> torch.device:
    """The device that `learner.device` names; `auto` is the first CUDA device where there is one. Raises `ValueError`:
    CUDA is asked for and not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"learner.device={name}: PyTorch finds no CUDA device here, use cpu or auto")
    return torch.device(name)


def in_bfloat16(precision: str, device: torch.device, pixels: bool) -> bool:
    """Whether networks compute in bfloat16: `auto` does for pixels, where the device is made for it."""
    fast = pixels and (device.type == "cuda" or cpu_has("avx512_bf16"))
    return fast if precision == "auto" else precision == "bfloat16"


def prepare_device(config: LearnerConfig, pixels: bool, deterministic: bool) -> torch.device:
    """The device of `config`, for this process set to its precision: a GPU's convolutions, matrix products and
    recurrent layers alike, in TF32 or in float32.

    Args:
        deterministic: operations whose order of sums a GPU would leave to chance are replaced by slower ones, so that
            two runs of a seed give the same bits there.
    """
    device = pick_device(config.device)
    if device.type == "cuda":
        set_precision(exact=config.precision == "float32" or (config.precision == "auto" and not pixels))
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before cuBLAS is first used
            torch.use_deterministic_algorithms(True)
    return device


def has_triton() -> bool:
    """Whether kernels can be compiled for a GPU: Triton is there, and a C compiler, which it calls."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    return find_spec("triton") is not None and compiler is not None


def set_precision(exact: bool) -> None:
    """All parts compute in float32, or in TF32."""
    for part in _PARTS:
        part.fp32_precision = "ieee" if exact else "tf32"
